"""A run's page: what its folder holds, as events and as files, and nothing of what lies elsewhere."""

import json

import pytest

from dreambooth.setup.states import own_process
from dreambooth.web.events import lines_after
from tests.web.conftest import made_run, png


def test_a_run_that_was_made_by_the_command_line_appears(client, studio):
    made_run(studio.root, "group/old")
    assert "group/old" in client.get("/").text
    page = client.get("/runs/group/old")
    assert page.status_code == 200 and "finished" in page.text and "samples/step-10/0-seed0.png" in page.text
    assert client.get("/runs/group/old/-/live").status_code == 200


def test_home_finds_runs_by_name_a_page_at_a_time(client, studio):
    for number in range(30):
        made_run(studio.root, f"run-{number:02d}")
    assert client.get("/").text.count('class="card run"') == 24
    assert client.get("/?number=2").text.count('class="card run"') == 6
    assert client.get("/?q=run-07").text.count('class="card run"') == 1


def events(text):
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found


def test_events_begin_where_the_browser_left_off_and_end_with_the_run(client, studio):
    folder = made_run(studio.root)
    seen = events(client.get("/runs/old/-/events").text)
    assert [kind for kind, _, _ in seen] == ["start", "message", "step", "preview", "step", "status", "over"]
    middle = next(place for kind, value, place in seen if kind == "preview")
    rest = events(client.get("/runs/old/-/events", headers={"last-event-id": middle}).text)
    assert [kind for kind, _, _ in rest] == ["step", "status", "over"]
    end = (folder / "records.jsonl").stat().st_size
    assert [kind for kind, _, _ in events(client.get(f"/runs/old/-/events?after={end}").text)] == ["status", "over"]


def test_of_steps_in_a_row_a_page_is_sent_the_last(client, studio):
    folder = made_run(studio.root)
    with (folder / "records.jsonl").open("a") as file:
        file.writelines(json.dumps({"time": 6.0, "kind": "step", "step": step, "total": 90, "values": {}}) + "\n" for step in range(21, 40))
    seen = events(client.get("/runs/old/-/events").text)
    assert [value["step"] for kind, value, _ in seen if kind == "step"] == [10, 39]
    assert int(next(place for _, value, place in seen if value.get("step") == 39)) == (folder / "records.jsonl").stat().st_size


def test_a_line_that_is_half_written_waits_for_its_end(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"kind": "a"}\n{"kind": "b"')
    found, place = lines_after(path, 0)
    assert [record["kind"] for _, record in found] == ["a"]
    with path.open("ab") as file:
        file.write(b'}\nnot json\n[1]\n{"kind": "c"}\n')
    found, place = lines_after(path, place)
    assert [record["kind"] for _, record in found] == ["b", "c"] and place == path.stat().st_size
    path.write_bytes(b'{"kind": "new"}\n')
    assert [record["kind"] for _, record in lines_after(path, place)[0]] == ["new"], "begun anew"


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "..%2Fsecret.png", "%2Fetc%2Fpasswd", "link/secret.png", "direct.png", "CON", "samples/../../secret.png", "run.json",
     "nothing.png", "samples", "records.jsonl", "C:%5Cx.png"],
)  # fmt: skip
def test_a_file_is_one_of_the_run_or_none(client, studio, tmp_path, path):
    folder = made_run(studio.root)
    (studio.root / "secret.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "link").symlink_to(tmp_path)
    (folder / "direct.png").symlink_to(tmp_path / "secret.png")
    for kind in ("files", "thumb"):
        assert client.get(f"/runs/old/-/{kind}/{path}").status_code == 404


@pytest.mark.parametrize("name", ["%2E%2E", "x%2F..%2F..%2Foutside", ".dreambooth", "link", "photos", "nothing", "a%00b"])
def test_a_run_is_a_run_below_the_root(client, studio, tmp_path, name):
    made_run(tmp_path, "outside")
    (studio.root / "link").symlink_to(tmp_path / "outside")
    assert client.get(f"/runs/{name}").status_code == 404


def test_pictures_and_reports_are_shown_and_reports_can_do_nothing(client, studio):
    made_run(studio.root)
    assert client.get("/runs/old/-/files/contact_sheet.png").headers["content-type"] == "image/png"
    assert client.get("/runs/old/-/thumb/contact_sheet.png").headers["content-type"] == "image/jpeg"
    assert client.get("/runs/old/-/files/report.html").headers["content-security-policy"].startswith("sandbox")


def test_a_training_is_asked_by_the_buttons(client, studio):
    folder = made_run(studio.root, state="running", process=own_process())
    for what in ("sample", "save", "stop", "finish"):
        assert client.post("/runs/old/-/ask", data={"what": what}, follow_redirects=False).status_code == 303
        assert (folder / "requests" / what).is_file()
    assert client.post("/runs/old/-/ask", data={"what": "explode"}).status_code == 422


def test_a_run_that_is_over_is_not_asked(client, studio):
    made_run(studio.root)
    assert client.post("/runs/old/-/ask", data={"what": "stop"}).status_code == 422


def test_an_interrupted_run_goes_on_in_its_folder(client, studio, not_started):
    made_run(studio.root, state="interrupted")
    assert "Go on" in client.get("/runs/old").text
    client.post("/runs/old/-/again")
    assert not_started[0][3:] == ["train", "--config", "old/config.yaml", "--resume_from_checkpoint", "latest"]
    assert client.post("/runs/old/-/again").status_code == 422, "it is at work"


def test_a_finished_run_is_not_started_again(client, studio, not_started):
    made_run(studio.root)
    assert client.post("/runs/old/-/again").status_code == 422 and not not_started


def test_a_run_is_deleted_by_its_name_alone(client, studio):
    folder = made_run(studio.root)
    (folder / "mine.txt").write_text("not the run's")
    assert "mine.txt" in client.get("/runs/old/-/delete").text
    assert client.post("/runs/old/-/delete", data={"name": "olb"}).status_code == 422 and (folder / "run.json").exists()
    client.post("/runs/old/-/delete", data={"name": "old"})
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_run_at_work_is_not_deleted(client, studio):
    folder = made_run(studio.root, state="running", process=own_process())
    assert client.get("/runs/old/-/delete").status_code == 422
    assert client.post("/runs/old/-/delete", data={"name": "old"}).status_code == 422 and (folder / "run.json").exists()


def test_a_deleted_run_takes_its_photos_along_when_that_is_wanted(client, studio, tmp_path, not_started):
    from dreambooth.web.drafts import read_drafts
    from tests.web.conftest import drafted

    for name, photos in (("rex", "yes"), ("ada", "")):
        address = drafted(client, tmp_path, name=name)
        client.post(f"{address}/start", data={"at_once": "yes"})
        for job in studio.jobs.glob("*.json"):
            job.unlink()
        made_run(studio.root, name)
        client.post(f"/runs/{name}/-/delete", data={"name": name, "photos": photos})
        assert (studio.root / "photos" / address.rpartition("/")[2]).exists() != bool(photos)
    assert not read_drafts(studio)
