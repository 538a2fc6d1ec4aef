"""Batches over HTTP: submitted with the command's own checks, done by the queue, fetched, ordered, cancelled and deleted from."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from benchmarks.batch import quick
from dreambooth.bench.batch.index import read_index
from dreambooth.files.table import read_table
from dreambooth.web import batches, jobs
from tests import tiny
from tests.web.conftest import DEAD, png


def settings(studio, **other):
    return {"pretrained_model_name_or_path": str(studio.models[0] / "stable_diffusion"), "method": "lora", "resolution": 16, **other}


def rows(*more):
    own = [{"subject": "rex", "class": "dog", "photos": "photos/rex"}, {"subject": "mug-red", "class": "mug", "photos": "photos/mug-red"}]
    return [*own, *more]


def submitted(client, studio, *more, headers=None, **other):
    body = {"name": "autumn", "settings": settings(studio), "rows": rows(*more), **other}
    return client.post("/api/batches", json=body, headers=headers or {})


def test_a_table_of_rows_is_done_by_the_queue_and_its_results_are_fetched(rooted, studio, worked):
    answer = submitted(rooted, studio, {"subject": "lost", "class": "mug", "photos": "photos/lost", "max_train_steps": 3})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["state"] == "queued" and made["counts"] == {"waiting": 2, "failed": 1}
    assert [one["subject"] for one in made["refused"]] == ["lost"] and "line 4" in made["refused"][0]["reason"]
    assert str(studio.root) not in answer.text, "a program is shown no place of the server's disk"
    worked()
    address = f"/api/batches/{made['id']}"
    now = rooted.get(address).json()
    assert now["state"] == "finished" and now["counts"] == {"finished": 2, "failed": 1}, now
    [rex, _, lost] = rooted.get(f"{address}/results").json()["rows"]
    assert (rex["subject"], rex["verdict"], rex["minutes"]) == ("rex", "good", 0.0) and lost["reason"] and lost["file"] is None
    assert rooted.get(rex["file"]).content.decode() == rex["sha256"]
    assert rooted.get(f"{address}/results?status=failed").json()["count"] == 1
    assert rooted.get(f"{address}/results/rex").json() == rex
    assert [one["id"] for one in rooted.get("/api/batches").json()["batches"]] == [made["id"]]


def test_a_csv_and_photos_are_sent_in_one_form(rooted, studio, worked):
    table = "subject;class;photos\nvase;vase;\nrex;dog;photos/rex\n"
    files = [("table", ("products.csv", table.encode())), *(("photos", (f"vase/{n}.txt", png("blue"))) for n in range(3))]
    body = {"request": json.dumps({"settings": settings(studio)})}
    made = rooted.post("/api/batches/upload", data=body, files=files)
    assert made.status_code == 201 and made.json()["counts"] == {"waiting": 2}, made.text
    folder = studio.batches / made.json()["id"] / "photos" / "vase"
    assert sorted(path.suffix for path in folder.iterdir()) == [".png"] * 3, "by their bytes, whatever they are called"
    worked()
    assert rooted.get(f"/api/batches/{made.json()['id']}").json()["counts"] == {"finished": 2}


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("vase/x.png", b"MZ no picture", "vase/x.png"), ("other/x.png", png(), "other"), ("x.png", png(), "x.png"),
        ("../../x.png", png(), ".."), ("vase/../../y.png", png(), ".."),
    ],
)  # fmt: skip
def test_what_is_no_photo_of_a_row_is_refused_and_nothing_stays(rooted, studio, name, content, named):
    files = [("table", ("t.csv", b"subject,class\nvase,vase\n")), ("photos", (name, content))]
    answer = rooted.post("/api/batches/upload", data={"request": json.dumps({"settings": settings(studio)})}, files=files)
    assert answer.status_code == 422 and named in answer.json()["reason"]
    assert not list(studio.batches.iterdir()) and not jobs.read_jobs(studio)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"accept": "verdict = good"}, "--accept"), ({"retry": ["rank=x2"]}, "--retry"), ({"rank": 0}, "rank"), ({"rnak": 4}, "rnak"),
        ({"instance_data_dir": "photos"}, "instance_data_dir"), ({"allow_pickle": True}, "allow_pickle"),
        ({"push_to_hub": True}, "push_to_hub"),
        ({"report_to": "wandb"}, "report_to"), ({"output_dir": "x"}, "output_dir"), ({"executor": "ray"}, "executor"),
        ({"method": "os:path"}, "method"), ({"prompts": "/etc/passwd"}, "prompts"),
        ({"accept": "fidelity > 0", "retry": ["class_noun=x"]}, "retry"),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_command_refuses_as_a_whole_is_refused_before_anything_is_written(rooted, studio, change, named):
    answer = submitted(rooted, studio, settings=settings(studio, **change))
    assert answer.status_code == 422 and named in answer.json()["setting"], answer.text
    assert not studio.batches.exists() or not list(studio.batches.iterdir())


@pytest.mark.parametrize(
    "row",
    [
        {"subject": "x", "class": "mug", "photos": "/etc"}, {"subject": "x", "class": "mug", "photos": "photos/../../etc"},
        {"subject": "x", "class": "mug", "photos": "linked"},
        {"subject": "x", "class": "mug", "photos": "photos/rex", "pretrained_model_name_or_path": "../elsewhere"},
        {"subject": "x", "class": "mug", "photos": "photos/rex", "trust_code": True},
        {"subject": "x", "class": "mug", "photos": "photos/rex", "hub_token": "hf_x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_leads_out_of_the_root_refuses_the_whole_request(rooted, studio, tmp_path, row):
    tiny.photos(tmp_path / "elsewhere")
    (studio.root / "linked").symlink_to(tmp_path / "elsewhere")
    answer = submitted(rooted, studio, row)
    assert answer.status_code in (404, 422) and not jobs.read_jobs(studio), answer.text


def test_a_link_of_a_subjects_name_in_the_root_is_not_followed(rooted, studio, tmp_path):
    tiny.photos(tmp_path / "elsewhere")
    (studio.root / "linked").symlink_to(tmp_path / "elsewhere")
    answer = submitted(rooted, studio, {"subject": "linked", "class": "mug"})
    assert [one["subject"] for one in answer.json()["refused"]] == ["linked"]


@pytest.mark.parametrize("word", ["a\0b", "half \ud800", "x" * 50_000], ids=["nothing", "half a letter", "long"])
def test_what_no_process_can_be_given_is_refused_and_does_not_stop_the_queue(rooted, studio, word):
    """One such word ended the clock of the queue for everybody."""
    body = json.dumps({"settings": settings(studio, identifier=word), "rows": rows()})
    answer = rooted.post("/api/batches", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and not jobs.read_jobs(studio) and not list(studio.batches.glob("[!.]*"))


def test_rows_that_cannot_be_done_are_named_as_a_dry_run_of_the_command_names_them(rooted, studio, capsys):
    bad = [
        {"subject": "rex", "class": "dog", "photos": "photos/rex"}, {"subject": "con", "class": "mug", "photos": "photos/rex"},
        {"subject": "nothing", "class": "", "photos": "photos/rex"},
        {"subject": "steps", "class": "mug", "photos": "photos/rex", "max_train_steps": 0},
    ]  # fmt: skip
    answer = submitted(rooted, studio, *bad, only_check=True)
    assert answer.status_code == 200 and not list(studio.batches.iterdir())
    found = [one["subject"] for one in answer.json()["refused"]]
    kept = submitted(rooted, studio, *bad).json()["id"]
    batch = batches.read_batch(studio, kept)
    assert quick.run([*batch.words, "--dry_run"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cannot be done")]
    assert found == [line.split(": ")[1].split(",")[0] for line in said] == ["rex", "rex", "con", "nothing", "steps"]


def test_a_request_that_is_sent_again_is_the_same_batch_and_another_one_is_refused(rooted, studio):
    headers = {"Idempotency-Key": "order-17"}
    first, again = submitted(rooted, studio, headers=headers), submitted(rooted, studio, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200) and first.json()["id"] == again.json()["id"]
    other = submitted(rooted, studio, headers=headers, name="winter")
    assert other.status_code == 409 and other.json()["setting"] == "Idempotency-Key"
    assert submitted(rooted, studio, headers={"Idempotency-Key": "order-18"}).json()["id"] != first.json()["id"]
    assert len(jobs.read_jobs(studio)) == 2


def test_photos_that_are_sent_again_are_the_same_request_and_others_are_not(rooted, studio):
    def sent(colour):
        files = [("table", ("t.csv", b"subject,class\nvase,vase\n")), ("photos", ("vase/0.png", png(colour)))]
        body = {"request": json.dumps({"settings": settings(studio)})}
        return rooted.post("/api/batches/upload", data=body, files=files, headers={"Idempotency-Key": "a"}).status_code

    assert [sent("blue"), sent("blue"), sent("red")] == [201, 200, 409]


def test_photos_of_a_submission_that_was_killed_are_gone_with_the_next_start(rooted, studio):
    left = studio.batches / f".partial-00000000-{DEAD}-x"
    (left / "photos" / "vase").mkdir(parents=True)
    os.utime(left, (1, 1))
    batches.recover(studio)
    assert not left.exists()


def test_a_server_that_died_before_it_queued_a_batch_does_it_at_its_next_start(rooted, studio):
    made = submitted(rooted, studio).json()["id"]
    batch = batches.read_batch(studio, made)
    jobs.forget(studio, jobs.job_named(studio, made))
    (studio.batches / made / "state.json").unlink()
    batches.recover(studio)
    batches.recover(studio)
    assert [job.id for job in jobs.read_jobs(studio)] == [made] and batches.standing(studio, batch).state == "queued"


def test_a_batch_with_a_higher_priority_begins_first(rooted, studio, not_started):
    first, second = submitted(rooted, studio).json()["id"], submitted(rooted, studio, priority=2).json()["id"]
    assert [job.id for job in jobs.read_jobs(studio)] == [second, first]
    assert rooted.put(f"/api/batches/{first}/priority", json={"priority": 5}).json()["priority"] == 5
    assert [job.id for job in jobs.pump(studio)] == [first]
    assert rooted.put(f"/api/batches/{first}/priority", json={"priority": 1}).status_code == 409, "it is at work"
    assert rooted.put(f"/api/batches/{second}/priority", json={"priority": "high"}).status_code == 422


def test_what_waits_is_cancelled_and_goes_on_when_it_is_asked_for(rooted, studio, worked):
    made = submitted(rooted, studio).json()["id"]
    assert rooted.post(f"/api/batches/{made}/cancel").json()["state"] == "cancelled"
    assert rooted.post(f"/api/batches/{made}/cancel").status_code == 409 and not worked()
    assert rooted.post(f"/api/batches/{made}/again").json()["state"] == "queued"
    worked()
    assert rooted.get(f"/api/batches/{made}").json()["state"] == "finished"
    assert rooted.get("/api/batches/unknown").status_code == 404


def test_what_was_taken_out_of_the_queue_by_hand_is_not_put_back(rooted, studio):
    made = submitted(rooted, studio).json()["id"]
    rooted.post(f"/queue/{made}/cancel")
    batches.recover(studio)
    assert rooted.get(f"/api/batches/{made}").json()["state"] == "cancelled" and not jobs.read_jobs(studio)


def test_a_batch_at_work_is_asked_to_save_and_ends(rooted, studio, monkeypatch):
    """A process of its own, which the server that is closed meanwhile does not end."""
    monkeypatch.setattr(jobs, "COMMAND", (jobs.COMMAND[0], quick.__file__))
    monkeypatch.setenv("QUICK_SECONDS", "60")
    monkeypatch.setenv("PYTHONPATH", str(Path(quick.__file__).parents[2]))
    made = submitted(rooted, studio).json()["id"]
    jobs.pump(studio)
    batch, until = batches.read_batch(studio, made), time.monotonic() + 120
    while not list((studio.batches / made / "models").glob("subjects/*.json")) and time.monotonic() < until:
        time.sleep(0.2)
    assert batches.standing(studio, batch).state == "running"
    assert rooted.delete(f"/api/batches/{made}/subjects/rex?confirm=rex").status_code == 409
    assert rooted.post(f"/api/batches/{made}/cancel").json()["state"] in ("stopping", "cancelled")
    while batches.standing(studio, batch).is_waiting and time.monotonic() < until:
        time.sleep(0.2)
    assert batches.standing(studio, batch).state == "cancelled"
    assert {entry.status for entry in read_index(studio.batches / made / "models")} == {"waiting"}


def test_a_killed_process_is_named_and_the_next_start_does_what_is_left(rooted, studio, worked):
    made = submitted(rooted, studio).json()["id"]
    job = jobs.job_named(studio, made)
    jobs.put_back(studio, job)
    batch = batches.read_batch(studio, made)
    index = studio.batches / made / "models" / "index.csv"
    os.utime(index, (1, 1))
    killed = {**vars(job), "process": {"pid": DEAD, "host": socket.gethostname()}, "started": time.time()}
    (studio.jobs / f"{made}.json").write_text(json.dumps(killed))
    assert batches.standing(studio, batch).state == "interrupted"
    rooted.post(f"/api/batches/{made}/again")
    worked()
    assert batches.standing(studio, batch).state == "finished"


@pytest.mark.parametrize("is_done", [True, False], ids=["learned", "waiting"])
def test_a_customer_is_deleted_with_photos_row_and_model_and_others_stay(rooted, studio, worked, is_done):
    files = [("table", ("t.csv", b"subject,class,photos\nvase,vase,\nrex,dog,photos/rex\n")), ("photos", ("vase/0.png", png()))]
    made = rooted.post("/api/batches/upload", data={"request": json.dumps({"settings": settings(studio)})}, files=files).json()["id"]
    folder, address = studio.batches / made, f"/api/batches/{made}"
    if is_done:
        worked()
        assert (folder / "models" / "by-subject" / "vase").is_dir()
    assert rooted.delete(f"{address}/subjects/vase").status_code == 422, "it has to be confirmed"
    assert rooted.delete(f"{address}/subjects/vase?confirm=vase").json() == {"subject": "vase", "photos": True, "shared_with": []}
    assert not [path for path in folder.rglob("*") if "vase" in path.name]
    assert not [path for path in (*folder.rglob("*.*"), *studio.jobs.iterdir()) if path.is_file() and b"vase" in path.read_bytes()]
    assert [cells["subject"] for _, cells in read_table(folder / "table.csv", "table", needed=())] == ["rex"]
    assert rooted.delete(f"{address}/subjects/vase?confirm=vase").status_code == 404
    if not is_done:
        worked()
    assert rooted.get(address).json()["counts"] == {"finished": 1}


def test_photos_that_another_batch_learns_from_stay(rooted, studio, worked):
    made, _ = submitted(rooted, studio).json()["id"], submitted(rooted, studio)
    answer = rooted.delete(f"/api/batches/{made}/subjects/rex?confirm=rex").json()
    assert answer == {"subject": "rex", "photos": False, "shared_with": ["rex"]} and list((studio.root / "photos" / "rex").iterdir())


@pytest.mark.parametrize("path", ["%2e%2e/mug-red/run.json", "%2e%2e%2fmug-red%2frun.json", "%2e%2e/index.csv", "none", "/etc/passwd"])
def test_no_file_beside_a_result_is_sent(rooted, studio, worked, path):
    made = submitted(rooted, studio).json()["id"]
    worked()
    assert rooted.get(f"/api/batches/{made}/results/rex/files/{path}").status_code == 404
    assert rooted.get(f"/api/batches/{made}/results/../files/index.csv").status_code == 404


def test_people_submit_watch_order_cancel_and_delete_on_pages(rooted, studio, worked):
    table = ("t.csv", b"subject,class,photos\nrex,dog,photos/rex\nlost,dog,photos/lost\n")
    typed = {"name": "autumn", "model": settings(studio)["pretrained_model_name_or_path"], "method": "lora", "more": "resolution 16"}
    refused = rooted.post("/batches/upload", data={**typed, "accept": "fidelity >"}, files={"table": table})
    assert refused.status_code == 422 and "--accept" in refused.text and 'value="autumn"' in refused.text
    page = rooted.post("/batches/upload", data=typed, files={"table": table})
    address = page.url.path
    assert page.status_code == 200 and "data-open" in page.text and "photos/lost" in page.text
    assert rooted.post(f"{address}/priority", data={"priority": "7"}).status_code == 200
    assert "priority 7" in rooted.get("/batches").text
    worked()
    page = rooted.get(address).text
    assert f'href="/runs{address}/models/by-subject/rex"' in page and "data-open" not in page and "Go on" in page
    assert rooted.get(f"/runs{address}/models/by-subject/rex").status_code == 200, "a run like any other"
    assert "event: status" in rooted.get(f"{address}/events").text and "event: over" in rooted.get(f"{address}/events").text
    assert rooted.post(f"{address}/delete/rex", data={"name": "re"}).status_code == 422
    assert rooted.post(f"{address}/delete/rex", data={"name": "rex"}).status_code == 200 and (studio.root / "photos" / "rex").is_dir()
    assert "rex" not in rooted.get(f"{address}/live").text.replace("rex</a> is", "")
