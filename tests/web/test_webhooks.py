"""What comes of batches is reported to listed addresses alone, signed, in order, once, and again until somebody takes it."""

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.web import batches, webhooks
from tests.web.test_batches import submitted


class Receiver(HTTPServer):
    """Somebody who takes reports; `answers` are the codes of its next answers, 200 afterwards."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.taken: list[tuple[int, dict[str, str], bytes]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.answers.pop(0) if self.server.answers else 200
        self.server.taken.append((code, dict(self.headers), body))
        self.send_response(code)
        if code in (301, 302, 307, 308):
            self.send_header("Location", f"{self.server.address}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format, *args):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hooks(rooted, studio, receiver, monkeypatch):
    """The receiver's address as the only one that is listed."""
    monkeypatch.setattr(webhooks, "WAITS", (0.0, 3600.0))
    made = webhooks.listed([f"{receiver.address}/secret-path"], studio)
    rooted.app.state.webhooks = made
    return made


def reports(receiver):
    return [json.loads(body) for code, _, body in receiver.taken if code == 200]


def test_each_row_and_the_end_are_reported_once_signed_over_the_time_and_the_body(rooted, studio, worked, hooks, receiver):
    made = submitted(rooted, studio, webhook=f"{receiver.address}/secret-path").json()
    assert made["reports"] == {"waiting": 0, "sent": 0, "tries": 0, "due": None, "last": ""}
    webhooks.turn(studio, hooks, {})
    assert not receiver.taken
    worked()
    for _ in range(2):
        webhooks.turn(studio, hooks, {})  # a server that was killed has forgotten what it has seen
    found = reports(receiver)
    assert [one["type"] for one in found] == ["row.ended", "row.ended", "batch.ended"]
    assert [one["row"]["subject"] for one in found[:2]] == ["rex", "mug-red"] and found[2]["counts"] == {"finished": 2}
    for _, headers, body in receiver.taken:
        seconds, given = (part.partition("=")[2] for part in headers["Dreambooth-Signature"].split(","))
        assert given == hmac.new(hooks.secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["Dreambooth-Event"] == json.loads(body)["id"]


def test_what_is_not_taken_is_sent_again_in_its_order_with_growing_waits_also_by_another_server(
    rooted, studio, worked, hooks, receiver
):  # fmt: skip
    made = submitted(rooted, studio, webhook=webhooks.host_of(receiver.address)).json()["id"]
    worked()
    receiver.answers = [500, 503]
    webhooks.turn(studio, hooks, {})
    assert len(receiver.taken) == 1 and rooted.get(f"/api/batches/{made}").json()["reports"]["tries"] == 1
    webhooks.turn(studio, hooks, {})
    now = rooted.get(f"/api/batches/{made}").json()["reports"]
    assert (now["tries"], now["waiting"], now["last"]) == (2, 3, "it answered 503") and now["due"]
    webhooks.turn(studio, hooks, {})
    assert len(receiver.taken) == 2, "it is not due"
    rooted.post(f"/api/batches/{made}/webhook")
    webhooks.turn(studio, hooks, {})
    assert [one["type"] for one in reports(receiver)] == ["row.ended", "row.ended", "batch.ended"]
    assert len({headers["Dreambooth-Event"] for _, headers, _ in receiver.taken[:3]}) == 1, "the same report has the same id"


def test_an_address_that_answers_now_and_then_is_waited_for_from_the_beginning_each_time(rooted, studio, worked, hooks, receiver):
    """Its failures were counted together, until it was waited for by the hour."""
    made = submitted(rooted, studio, webhook=f"{receiver.address}/secret-path").json()["id"]
    worked()
    receiver.answers = [500, 200, 500, 200, 500]
    for _ in range(3):
        webhooks.turn(studio, hooks, {})
        assert rooted.get(f"/api/batches/{made}").json()["reports"]["tries"] == 1
    webhooks.turn(studio, hooks, {})
    assert rooted.get(f"/api/batches/{made}").json()["reports"]["waiting"] == 0


@pytest.mark.parametrize("code", [301, 302, 307])
def test_a_redirect_is_not_followed(rooted, studio, worked, hooks, receiver, code):
    submitted(rooted, studio, webhook=f"{receiver.address}/secret-path")
    worked()
    receiver.answers = [code]
    webhooks.turn(studio, hooks, {})
    assert [code for code, _, _ in receiver.taken] == [code]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x", "https://evil.example", "file:///etc/passwd", "http://169.254.169.254/", "x"])
def test_an_address_that_the_owner_has_not_listed_is_refused(rooted, studio, hooks, address):
    answer = submitted(rooted, studio, webhook=address)
    assert answer.status_code == 422 and answer.json()["setting"] == "webhook" and not list(studio.batches.glob("[!.]*"))


def test_an_address_that_is_taken_off_the_list_gets_nothing_more(rooted, studio, worked, hooks, receiver):
    submitted(rooted, studio, webhook=f"{receiver.address}/secret-path")
    worked()
    webhooks.turn(studio, webhooks.Webhooks(("https://other.example/x",), "s"), {})
    assert not receiver.taken


def test_neither_the_address_nor_the_secret_is_shown_or_kept_beside_the_batch(rooted, studio, worked, hooks, receiver, monkeypatch):
    made = submitted(rooted, studio, webhook=f"{receiver.address}/secret-path").json()["id"]
    worked()
    receiver.answers = [500]
    webhooks.turn(studio, hooks, {})
    shown = [
        rooted.get(path).text for path in (f"/api/batches/{made}", f"/batches/{made}", "/batches", "/api/webhooks", "/api/openapi.json")
    ]
    kept = [path.read_bytes().decode("utf-8", "replace") for path in (studio.batches / made).rglob("*") if path.is_file()]
    for text in [*shown, *kept, repr(hooks)[: repr(hooks).find("addresses")]]:
        assert "secret-path" not in text and hooks.secret not in text
    assert rooted.get("/api/webhooks").json() == {"hosts": [webhooks.host_of(receiver.address)]}


@pytest.mark.parametrize(
    "address",
    ["http://evil.example/x", "https:///x", "ftp://x.example", "https://user:pass@x.example/", "https://x.example/ y", "https://[x"],
)
def test_an_address_that_is_none_is_refused_at_the_start_and_not_repeated(studio, address):
    with pytest.raises(SettingError) as refused:
        webhooks.listed([address], studio)
    assert refused.value.setting == "--webhook" and address not in str(refused.value)


def test_addresses_are_read_from_a_file_and_the_secret_is_made_once(studio, tmp_path, monkeypatch):
    file = tmp_path / "addresses.txt"
    file.write_text("# ours\nhttps://a.example/x\n\nhttps://b.example/y\n")
    first, again = webhooks.listed([str(file)], studio), webhooks.listed([str(file)], studio)
    assert first == again and len(first.addresses) == 2 and len(first.secret) > 20
    assert (studio.own / "webhook-secret").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("DREAMBOOTH_WEBHOOK_SECRET", "mine")
    assert webhooks.listed([str(file)], studio).secret == "mine"
    with pytest.raises(SettingError, match="several"):
        webhooks.Webhooks(("https://a.example/1", "https://a.example/2"), "s").digest("a.example")


def test_reports_about_a_customer_go_with_the_customer(rooted, studio, worked, hooks, receiver):
    made = submitted(rooted, studio, webhook=f"{receiver.address}/secret-path").json()["id"]
    worked()
    receiver.answers = [500]
    webhooks.turn(studio, hooks, {})
    rooted.delete(f"/api/batches/{made}/subjects/rex?confirm=rex")
    webhooks.try_again(batches.folder_of(studio, made))
    webhooks.turn(studio, hooks, {})
    assert [one.get("row", {}).get("subject") for one in reports(receiver)] == ["mug-red", None]
