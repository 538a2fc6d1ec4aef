"""Jobs whose folders are on a storage: what is there at any moment is enough to go on from."""

import json
import os
import shutil
import signal
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from dreambooth.bench.executors import Inline
from dreambooth.bench.executors.bringing import FarRows, Storage
from dreambooth.bench.executors.mirror import WHOLE, Mirror
from dreambooth.bench.executors.ray import Ray, _Cluster, _own_sigterm
from dreambooth.bench.executors.ray_worker import JobActor
from dreambooth.bench.job import Failed, Finished, JobProgress
from dreambooth.files.atomic import whole_folder, write_json
from dreambooth.files.leftovers import PREFIX
from tests.bench import works


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    """A storage: one that knows no folders, and one that is a disk."""
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/far"


def names(url: str) -> set[str]:
    files, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root.rstrip("/") + "/") for path in files.find(root)} if files.exists(root) else set()


def checkpoint(folder: Path, step: int, text: str = "") -> None:
    with whole_folder(folder / f"checkpoint-{step}") as partial:
        write_json(partial / "state.json", {"step": step, "text": text})
        write_json(partial / "unet" / "weights.json", {"step": step})


def test_a_job_works_on_a_storage_as_on_a_disk_and_goes_on_from_there(url):
    job = works.job(url, 0, steps=15, seconds=0.05)
    events = Inline().run([job], works.work)
    assert any(isinstance(event, JobProgress) and event.done >= 3 for event in events)
    events.close()
    assert f"checkpoint-3/{WHOLE}" in names(job.folder) and "saved" in names(job.folder)
    end = list(Inline().run([job], works.work))[-1]
    assert isinstance(end, Finished) and end.row.scores["first"]["value"] >= 3
    assert {f"checkpoint-{step}/state.json" for step in range(1, 16)} <= names(job.folder)
    lines = fsspec.open(f"{job.folder}/metrics.jsonl", "rt").open().read().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 16))


def test_what_a_failed_job_has_left_is_on_the_storage(url):
    job = works.job(url, 0, trouble="bug")
    end = list(Inline().run([job], works.work))[-1]
    assert isinstance(end, Failed) and end.kind == "error"


def test_a_checkpoint_that_was_not_sent_whole_is_not_used(url, tmp_path):
    near = tmp_path / "near"
    mirror = Mirror(near, url)
    checkpoint(near, 3)
    mirror.send()
    checkpoint(near, 6)
    put, sent = mirror._put, []

    def breaks(source, path):
        if "checkpoint-6" in path and len(sent) == 1:
            raise ConnectionError("gone")
        sent.append(path)
        put(source, path)

    mirror._put = breaks
    with pytest.raises(ConnectionError):
        mirror.send()
    assert any(name.startswith("checkpoint-6") for name in names(url))
    again = tmp_path / "again"
    Mirror(again, url).fetch()
    assert sorted(path.name for path in again.iterdir()) == ["checkpoint-3"]
    assert json.loads((again / "checkpoint-3/unet/weights.json").read_text()) == {"step": 3}
    assert not any(name.startswith("checkpoint-6") for name in names(url))  # nor is it left lying there


def test_a_checkpoint_that_training_replaces_while_it_is_sent_arrives_whole(url, tmp_path):
    """Only the newest stays on the disk; one that takes longer to send than the next one to come never got there."""
    near = tmp_path / "near"
    mirror = Mirror(near, url)
    checkpoint(near, 3)
    put = mirror._put

    def slow(source, path):
        if not (near / "checkpoint-6").is_dir():
            checkpoint(near, 6)
            shutil.rmtree(near / "checkpoint-3")
        put(source, path)

    mirror._put = slow
    mirror.send()
    assert names(url) == {f"checkpoint-3/{name}" for name in ("state.json", "unet/weights.json", WHOLE)}
    mirror.send()
    assert {name.split("/")[0] for name in names(url)} == {"checkpoint-6"} and not list(near.glob(f"{PREFIX}*"))


def test_files_arrive_in_the_order_in_which_they_were_written(url, tmp_path):
    near = tmp_path / "near"
    for name in ["z.json", "b/c.json", "a.json"]:
        write_json(near / name, name)
    mirror, sent = Mirror(near, url), []
    put = mirror._put
    mirror._put = lambda source, path: (sent.append(path), put(source, path))
    mirror.send()
    assert sent == ["z.json", "b/c.json", "a.json"]
    write_json(near / "z.json", "new")
    mirror.send()
    assert sent[3:] == ["z.json"]


def test_what_is_deleted_here_goes_there_and_partial_files_never_travel(url, tmp_path):
    near = tmp_path / "near"
    for step in (3, 6):
        checkpoint(near, step)
    (near / f"{PREFIX}x").mkdir()
    write_json(near / f"{PREFIX}x" / "state.json", 0)
    mirror = Mirror(near, url)
    mirror.send()
    assert names(url) == {f"checkpoint-{step}/{name}" for step in (3, 6) for name in ("state.json", "unet/weights.json", WHOLE)}
    for path in sorted((near / "checkpoint-3").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    mirror.send()
    assert {name.split("/")[0] for name in names(url)} == {"checkpoint-6"}


def test_a_storage_that_stays_away_fails_the_job_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.mirror.time.sleep", lambda seconds: None)
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
    storage, seen = Storage(url), []

    def work(job, tell):
        assert Path(job.shared).is_dir() and not job.shared.startswith(str(tmp_path / "home"))
        seen.append((Path(job.photos) / "sub" / "a.json").read_text())
        return works.work(job, tell)

    def events():
        for event in Inline().run([storage.away(job)], work, storage.rows):
            yield Finished(job, event.row) if isinstance(event, Finished) else event

    kept = []
    end = list(storage.brought(events(), kept.append))[-1]
    assert isinstance(end, Finished) and end.job is job
    assert json.loads(seen[0]) == "a photo"
    assert kept == [end.row] == [FarRows(url).find(job.key)]
    assert (tmp_path / "home" / job.key / "checkpoint-3" / "state.json").is_file()
    assert FarRows(url).find("another") is None


def test_photos_of_many_jobs_are_sent_once(url, tmp_path, monkeypatch):
    write_json(tmp_path / "photos" / "a.json", "a photo")
    sent = []
    monkeypatch.setattr("dreambooth.bench.executors.bringing.Mirror.send", lambda mirror: sent.append(mirror.url))
    storage, job = Storage(url), replace(works.job(tmp_path, 0), photos=str(tmp_path / "photos"))
    assert storage.away(job).photos == storage.away(replace(job, seed=1)).photos == sent[0] and len(sent) == 1


def test_a_job_whose_row_is_on_the_storage_is_not_done_again(url, tmp_path):
    job = works.job(url, 0, trouble="bug")
    row = works.row(job, dino=0.5)
    FarRows(url)(row)
    end = list(Inline().run([job], works.work, FarRows(url)))[-1]
    assert isinstance(end, Finished) and end.row == row


def test_a_folder_that_is_another_one_on_the_worker_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.ray_worker.SECONDS_TO_SEE", 0.1)
    trouble = JobActor(works.work, None).do(works.job(tmp_path, 0), "a word that nobody wrote there")
    assert trouble.kind == "request" and "share" in trouble.reason and "s3://" in trouble.reason


def test_an_actor_without_a_gpu_sees_none(monkeypatch):
    """Ray leaves all of them in its sight: every job of a node would have worked on the first."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    JobActor(works.work, None, "", True)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    JobActor(works.work, None, "", False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_jobs_wait_for_a_gpu_when_the_last_one_has_gone(tmp_path):
    """They went on on the CPUs of what was left of the cluster."""

    class Nodes:
        there: ClassVar = [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}]

        def nodes(self):
            return self.there

        def remote(self, kind):
            return kind

        def put(self, value):
            return value

    cluster = _Cluster(Ray(), works.work, None, Nodes(), None)
    job = works.job(tmp_path)
    assert (cluster.share(job), cluster.limit(1.0)) == (1.0, 4)
    Nodes.there, cluster.due = Nodes.there[:1], 0.0
    assert (cluster.share(job), cluster.limit(1.0)) == (1.0, 0)


def test_sigterm_means_the_same_after_ray_has_begun():
    before = signal.getsignal(signal.SIGTERM)
    with _own_sigterm():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_storage_that_does_not_answer_at_the_end_is_told_and_the_row_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.mirror.time.sleep", lambda seconds: None)
    monkeypatch.setattr(Mirror, "send", lambda self: (_ for _ in ()).throw(ConnectionError("no route")))
    rows = []
    end = list(Inline().run([works.job(f"file://{tmp_path}/far", 0)], works.work, rows.append))[-1]
    assert isinstance(end, Failed) and "no route" in end.reason
    assert rows == []
