"""The queue: files alone say what waits and runs, and one device does one job."""

import subprocess
import sys
import time

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.setup.states import State, own_process
from dreambooth.web import jobs
from tests.web.conftest import made_run


def added(studio, run, device="cpu", **other):
    return jobs.add(studio, jobs.new("train", ("train", "--config", "x"), run, device, **other))


def state(studio, job):
    return jobs.status_of(studio, jobs.job_named(studio, job.id)).state


def test_one_device_does_one_job_and_another_device_another(studio, not_started):
    first, second, other = added(studio, "a"), added(studio, "b"), added(studio, "c", "cuda:0")
    assert [job.run for job in jobs.pump(studio)] == ["a", "c"]
    assert jobs.pump(studio) == []
    assert [state(studio, job) for job in (first, second, other)] == [State.RUNNING, State.QUEUED, State.RUNNING]


def test_two_jobs_share_a_device_when_that_was_asked_for(studio, not_started):
    added(studio, "a"), added(studio, "b", at_once=True)
    assert [job.run for job in jobs.pump(studio)] == ["a", "b"]


@pytest.mark.parametrize(
    ("host", "device", "waits"),
    [
        ({"device": "cpu"}, "cpu", True), ({"device": "cuda"}, "cuda:0", True), ({"device": "cuda:1"}, "cuda:1", True),
        ({"device": "cuda:1"}, "cuda:0", False), ({"device": "cuda:0", "processes": 2}, "cuda:1", True),
        ({"device": "cpu"}, "cuda:0", False),
    ],
    ids=str,
)  # fmt: skip
def test_a_run_of_the_command_line_keeps_its_device(studio, not_started, host, device, waits):
    made_run(studio.root, "by-hand", state="running", process=own_process(), host=host)
    added(studio, "a", device)
    assert (jobs.pump(studio) == []) == waits


def test_a_run_has_one_training_at_a_time(studio):
    added(studio, "a")
    with pytest.raises(SettingError, match="queued"):
        added(studio, "a")


def test_what_waits_can_be_done_next_or_taken_out(client, studio, not_started):
    first, second = added(studio, "a"), added(studio, "b")
    client.post(f"/queue/{second.id}/first")
    assert [job.run for job in jobs.read_jobs(studio)] == ["b", "a"]
    client.post(f"/queue/{first.id}/cancel")
    assert [job.run for job in jobs.pump(studio)] == ["b"]
    assert client.post(f"/queue/{second.id}/cancel").status_code == 422, "it is at work"


def test_a_training_that_never_began_says_why(client, studio):
    job = jobs.add(studio, jobs.new("train", ("train", "--rank", "0", "--method", "lora"), "a", "cpu"))
    jobs.pump(studio)
    while state(studio, job).is_active:
        time.sleep(0.1)
    assert state(studio, job) is State.FAILED
    for address in ("/", "/runs/a"):
        assert "--rank" in client.get(address).text


def test_a_process_whose_server_died_before_it_was_noted_is_found_again(studio, monkeypatch):
    job = jobs.new("train", ("train",), "a", "cpu", started=time.time())
    jobs.add(studio, job)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={jobs.MARK: job.id})
    try:
        time.sleep(0.3)
        assert jobs.pump(studio) == []
        assert jobs.job_named(studio, job.id).process["pid"] == other.pid
    finally:
        other.kill()
        other.wait()
    assert state(studio, job) is State.FAILED


def test_a_start_that_never_came_to_a_process_is_made_again(studio, not_started):
    jobs.add(studio, jobs.new("train", ("train",), "a", "cpu", started=time.time()))
    assert [job.run for job in jobs.pump(studio)] == ["a"]
