"""Who may ask: what another site, another name or a stranger sends is refused before any page sees it."""

import pytest
from fastapi.testclient import TestClient

from dreambooth.cli import main
from dreambooth.web.app import create_app
from dreambooth.web.guard import SMALL


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5", ""])
def test_a_name_that_is_neither_loopback_nor_the_given_host_is_not_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:1", "[::1]:7860"])
def test_every_name_of_this_machine_alone_is_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "https://localhost.evil.example"])
def test_nothing_is_changed_for_a_page_of_another_origin(client, studio, origin):
    assert client.post("/new", headers={"origin": origin}).status_code == 403
    assert not list(studio.drafts.iterdir())


def test_a_browser_that_names_no_origin_says_that_it_comes_from_another_site(studio):
    with TestClient(create_app(studio, pumps=False), base_url="http://localhost") as client:
        assert client.post("/new", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert client.post("/new", follow_redirects=False).status_code == 303, "a program on this machine"


@pytest.mark.parametrize("address", ["/new", "/new/x/start", "/new/x/discard", "/runs/x/-/ask", "/runs/x/-/again", "/queue/x/cancel"])
def test_reading_starts_stops_and_deletes_nothing(client, address):
    assert client.get(address).status_code in (404, 405)


def test_a_server_for_others_asks_for_its_token(studio):
    with TestClient(create_app(studio, host="192.168.1.5", token="secret", pumps=False), base_url="http://192.168.1.5") as client:
        assert client.get("/").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/", headers={"authorization": "Bearer secret"}).status_code == 200
        answer = client.get("/?token=secret", follow_redirects=False)
        assert (
            answer.status_code == 303 and "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]
        )
        assert client.get("/").status_code == 200, "the cookie was kept"
        client.cookies.set("dreambooth", "wrong")
        assert client.get("/static/icon.svg").status_code == 401


@pytest.mark.parametrize(
    ("words", "asks"), [([], False), (["--host", "localhost"], False), (["--host", "0.0.0.0"], True), (["--names", "models.example"], True)]
)
def test_only_this_machine_is_served_without_a_token(tmp_path, monkeypatch, capsys, words, asks):
    served = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMBOOTH_UI_TOKEN", raising=False)
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: served.append(server.config.app))
    assert main(["ui", str(tmp_path / "root"), "--port", "0", "--no-open", *words]) == 0
    assert ("?token=" in capsys.readouterr().out) == asks
    with TestClient(served[0], base_url="http://localhost") as client:
        assert client.get("/").status_code == (401 if asks else 200)


@pytest.mark.parametrize("told", [True, False], ids=["by its header", "while it comes"])
def test_a_body_may_not_be_larger_than_any_form_needs(client, told):
    body = b"x" * (SMALL + 1)
    content = body if told else (piece for piece in (body, b""))
    assert client.post("/new", content=content, headers={"content-type": "application/x-www-form-urlencoded"}).status_code == 413


def test_pages_let_a_browser_run_nothing_that_is_not_the_servers_own(client):
    headers = client.get("/").headers
    assert "script-src 'self';" in headers["content-security-policy"] and "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_a_name_that_a_proxy_is_reached_under_is_given_by_hand(studio):
    app = create_app(studio, names=("models.example",), token="secret", pumps=False)
    with TestClient(app, base_url="https://models.example", headers={"authorization": "Bearer secret"}) as client:
        assert client.get("/").status_code == 200
        assert client.post("/new", headers={"origin": "https://models.example"}, follow_redirects=False).status_code == 303
        assert client.post("/new", headers={"origin": "https://other.example"}).status_code == 403
        assert client.get("/", headers={"host": "other.example"}).status_code == 400
