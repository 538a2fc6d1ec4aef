"""Jobs whose folders are on a storage: what is there at any moment is enough to go on from."""

import json
import signal
import sys
import tarfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from dreambooth.bench.executors import Inline, Ray
from dreambooth.bench.executors.cluster import Places, _starting
from dreambooth.bench.executors.storage import Storage, fetch, forget, send
from dreambooth.bench.job import Failed, Finished, JobProgress, Started
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import whole_folder, write_json
from dreambooth.files.leftovers import PREFIX
from dreambooth.files.locks import LOCK
from tests.bench import works


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    """A storage: one that knows no folders, and one that is a disk."""
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/far"


def names(url: str, folder: Path) -> set[str]:
    """What a storage has of a job."""
    assert fetch(url, folder / "unpacked")
    return {path.relative_to(folder / "unpacked").as_posix() for path in (folder / "unpacked").rglob("*")}


def test_a_job_works_on_a_storage_as_on_a_disk_and_goes_on_from_there(url, tmp_path):
    job = works.job(url, 0, steps=15, seconds=0.05)
    events = Inline().run([job], works.work)
    assert any(isinstance(event, JobProgress) and event.done >= 3 for event in events)
    events.close()
    assert {"checkpoint-3/state.json", "saved"} <= names(job.folder, tmp_path)
    end = list(Inline().run([job], works.work))[-1]
    assert isinstance(end, Finished) and end.row.scores["first"]["value"] >= 3
    assert {f"checkpoint-{step}/state.json" for step in range(1, 16)} <= names(job.folder, tmp_path)
    lines = (tmp_path / "unpacked" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 16))


def test_what_a_failed_job_has_left_is_on_the_storage(url, tmp_path):
    job = works.job(url, 0, seconds=0.01, dead_after=2)
    end = list(Inline().run([job], works.work))[-1]
    assert isinstance(end, Failed) and end.kind == "error"
    assert {"checkpoint-1", "checkpoint-2"} <= names(job.folder, tmp_path)


def test_a_folder_that_breaks_off_while_it_is_sent_leaves_the_one_before(url, tmp_path, monkeypatch):
    near, far = tmp_path / "near", f"{url}/job.tar"
    with whole_folder(near / "checkpoint-3") as partial:
        write_json(partial / "unet" / "weights.json", {"step": 3})
    send(far, near)
    (near / "checkpoint-3").rename(near / "checkpoint-6")
    add = tarfile.TarFile.add

    def breaks(tar, path, *rest, **options):
        if Path(path).name == "weights.json":
            raise ConnectionError("gone")
        add(tar, path, *rest, **options)

    monkeypatch.setattr(tarfile.TarFile, "add", breaks)
    monkeypatch.setattr("dreambooth.bench.executors.storage.time.sleep", lambda seconds: None)
    with pytest.raises(RunError, match="gone"):
        send(far, near)
    monkeypatch.undo()
    assert fetch(far, tmp_path / "again") and [path.name for path in (tmp_path / "again").iterdir()] == ["checkpoint-3"]
    assert json.loads((tmp_path / "again" / "checkpoint-3" / "unet" / "weights.json").read_text()) == {"step": 3}


def test_what_is_half_written_locks_and_links_that_lead_out_do_not_travel(url, tmp_path):
    near = tmp_path / "near"
    for name in ("a.json", f"{PREFIX}x/state.json", LOCK):
        write_json(near / name, 0)
    write_json(tmp_path / "precious.json", 0)
    (near / "link.json").symlink_to(tmp_path / "precious.json")
    send(f"{url}/job.tar", near)
    assert fetch(f"{url}/job.tar", tmp_path / "again") and [path.name for path in (tmp_path / "again").iterdir()] == ["a.json"]


def test_a_file_of_a_storage_that_leads_out_of_the_folder_is_not_written(url, tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.storage.time.sleep", lambda seconds: None)
    with fsspec.open(f"{url}/job.tar", "wb", auto_mkdir=True) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        tar.addfile(tarfile.TarInfo("../out.json"))
    (tmp_path / "again").mkdir()
    with pytest.raises(RunError, match="outside the destination"):
        fetch(f"{url}/job.tar", tmp_path / "again")
    assert not (tmp_path / "out.json").exists()


def test_a_storage_that_stays_away_fails_the_job_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.storage.time.sleep", lambda seconds: None)
    (tmp_path / "file").write_text("no folder")
    end = list(Inline().run([works.job(f"file://{tmp_path}/file", 0)], works.work))[-1]
    assert isinstance(end, Failed) and end.kind == "run"
    assert "cannot be used, tried 3 times" in end.reason or "may not be written" in end.reason


def test_a_url_that_nothing_can_open_is_a_wrong_request(tmp_path):
    end = list(Inline().run([works.job("nosuch://bucket", 0)], works.work))[-1]
    assert isinstance(end, Failed) and end.kind == "request"
    assert "nosuch" in end.reason and "fsspec" in end.reason


def test_photos_travel_and_what_is_finished_comes_home(url, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    photos = tmp_path / "photos"
    write_json(photos / "sub" / "a.json", "a photo")
    job = works.job(tmp_path / "home", 0)
    job = replace(job, photos=str(photos), shared=str(tmp_path / "home" / "shared"))
    there, seen = Storage(url), []

    def work(job, stop):
        assert Path(job.shared).is_dir() and not job.shared.startswith(str(tmp_path / "home"))
        seen.append((Path(job.photos) / "sub" / "a.json").read_text())
        return (yield from works.work(job, stop))

    def events():
        for event in Inline().run([there.away(job)], work):
            yield Finished(job, event.row) if isinstance(event, Finished) else event

    kept = []
    end = list(there.brought(events(), kept.append))[-1]
    assert isinstance(end, Finished) and end.job is job
    assert json.loads(seen[0]) == "a photo"
    assert kept == [end.row]
    assert (tmp_path / "home" / job.key / "checkpoint-3" / "state.json").is_file()


def test_photos_of_many_jobs_are_sent_once(url, tmp_path, monkeypatch):
    write_json(tmp_path / "photos" / "a.json", "a photo")
    sent = []
    monkeypatch.setattr("dreambooth.bench.executors.storage.send", lambda url, folder: sent.append(url))
    there, job = Storage(url), replace(works.job(tmp_path, 0), photos=str(tmp_path / "photos"))
    assert there.away(job).photos == there.away(replace(job, seed=1)).photos == sent[0] and len(sent) == 1


def test_a_job_whose_row_is_on_the_storage_is_not_done_again(url, tmp_path):
    """Its worker died before it could say so, or the bench did: the row is in the folder that was sent."""
    first = list(Inline().run([works.job(url, 0, dead_after=9)], works.work))[-1]
    again = list(Inline().run([works.job(url, 0, trouble="bug")], works.work))
    assert isinstance(first, Finished) and [type(event) for event in again] == [Started, Finished] and again[-1].row == first.row


def write(url: str) -> None:
    with fsspec.open(url, "wb", auto_mkdir=True) as file:
        file.write(b"{}")


def test_what_a_storage_keeps_of_a_customer_is_deleted_and_nothing_else(url, tmp_path):
    """A batch's `remove`: folders and rows of its jobs, and its photos."""
    photos, storage = tmp_path / "photos", Storage(url)
    photos.mkdir()
    (photos / "0.png").write_bytes(b"a photo")
    for number in range(2):
        job = storage.away(replace(works.job(tmp_path, number), photos=str(photos if number else tmp_path / "none")))
        (tmp_path / job.key).mkdir()
        send(job.folder, tmp_path / job.key)
        write(f"{url}/rows/{job.key}.json")  # as an earlier version left it
    forget(url, ["job-1", "never-there"], photos)
    files, root = fsspec.core.url_to_fs(url)
    left = sorted(name.rpartition("/")[2] for name in files.find(root))
    assert left == ["job-0.json", "job-0.tar"]


def test_jobs_wait_for_a_gpu_when_the_last_one_has_gone():
    """They went on on the CPUs of what was left of the cluster."""

    class Nodes:
        there: ClassVar = [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}]

        def nodes(self):
            return self.there

    places = Places(Ray(), Nodes())
    assert (places.share, places.count()) == (1.0, 4)
    Nodes.there = Nodes.there[:1]
    assert (places.share, places.count()) == (1.0, 0)


def test_sigterm_means_the_same_after_ray_has_begun():
    before = signal.getsignal(signal.SIGTERM)
    with _starting(2):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_storage_that_does_not_answer_at_the_end_is_reported_and_the_row_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.storage.time.sleep", lambda seconds: None)
    monkeypatch.setattr(tarfile.TarFile, "add", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route")))
    rows = []
    end = list(Inline().run([works.job(f"file://{tmp_path}/far", 0)], works.work, rows.append))[-1]
    assert isinstance(end, Failed) and "no route" in end.reason
    assert rows == []
