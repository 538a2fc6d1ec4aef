"""One executor after the other through the same jobs: what one promises, all keep. Ray's own tests are in test_ray.py."""

import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreambooth.bench.executors import Executor, Inline, Processes
from dreambooth.bench.executors.slots import Begun, Lost, Pool, Slot, drive
from dreambooth.bench.job import Failed, Finished, JobProgress, Started
from dreambooth.core.errors import RunError, SettingError
from tests.bench import works

EXECUTORS = {"inline": Inline(), "processes": Processes(workers=2)}


@pytest.fixture(params=EXECUTORS)
def executor(request) -> Executor:
    return EXECUTORS[request.param]


def done(executor: Executor, jobs, keep=None) -> dict[str, list]:
    """All events of all jobs, by key."""
    events: dict[str, list] = {}
    for event in executor.run(jobs, works.work, keep):
        events.setdefault(event.key if isinstance(event, JobProgress) else event.job.key, []).append(event)
    return events


def test_every_job_ends_in_one_row_or_one_reason_whatever_the_others_do(executor, tmp_path):
    troubles = [None, "setting", "run", "bug", "exit", None]
    jobs = [works.job(tmp_path, number, trouble=trouble) for number, trouble in enumerate(troubles)]
    events = done(executor, jobs, functools.partial(works.keep, folder=str(tmp_path / "rows")))
    ends = [events[f"job-{number}"][-1] for number in range(6)]
    assert [len([e for e in events[job.key] if isinstance(e, Finished | Failed)]) for job in jobs] == [1] * 6
    assert all(isinstance(events[job.key][0], Started) for job in jobs)
    assert [type(end).__name__ for end in ends] == ["Finished", "Failed", "Failed", "Failed", "Failed", "Finished"]
    assert [end.kind for end in ends[1:5]] == ["request", "run", "error", "error"]
    assert ends[1].reason == "--rank: it is too large. Use 4."
    assert "ZeroDivisionError: a bug" in ends[3].reason and "works.py" in ends[3].reason
    assert 'raise ZeroDivisionError("a bug")' in (tmp_path / "job-3" / "traceback.txt").read_text()
    assert sorted(path.stem for path in (tmp_path / "rows").iterdir()) == ["job-0", "job-5"]
    assert ends[5].row.scores["steps"]["value"] == 3.0 and ends[5].job is jobs[5]


def test_a_thousand_jobs_are_asked_for_one_by_one(executor, tmp_path):
    asked, ended, ahead = 0, 0, 0

    def plan():
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield works.job(tmp_path, number, steps=0)

    for event in executor.run(plan(), works.work):
        ended += isinstance(event, Finished)
        ahead = max(ahead, asked - ended)
    assert ended == 1000
    assert ahead <= getattr(executor, "workers", 1) + 1


def test_nobody_asks_for_jobs_before_the_first_event_is_wanted(executor, tmp_path):
    def plan():
        raise AssertionError("asked too early")
        yield

    executor.run(plan(), works.work).close()


def test_closing_lets_jobs_save_and_starting_again_goes_on_from_there(executor, tmp_path):
    job = works.job(tmp_path, 1, steps=8, seconds=0.1)
    events = executor.run([job], works.work)
    assert any(isinstance(event, JobProgress) and event.done >= 2 for event in events)
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 5
    assert (Path(job.folder) / "saved").exists()
    saved = len(list(Path(job.folder).glob("checkpoint-*")))
    assert saved < 8
    time.sleep(0.3)
    assert len(list(Path(job.folder).glob("checkpoint-*"))) == saved  # nobody works on
    end = done(executor, [job])["job-1"][-1]
    assert end.row.scores["first"]["value"] == saved


def test_work_that_never_asks_whether_to_stop_is_stopped_by_its_own_words(executor, tmp_path):
    job = works.job(tmp_path, 1, steps=50, seconds=0.05, polite=False)
    events = executor.run([job], works.work)
    next(event for event in events if isinstance(event, JobProgress))
    events.close()
    time.sleep(0.3)
    assert len(list(Path(job.folder).glob("checkpoint-*"))) < 20


def test_a_killed_worker_is_replaced_and_its_job_goes_on_from_its_checkpoint(tmp_path):
    jobs = [works.job(tmp_path, 0, dies_at=2), works.job(tmp_path, 1)]
    events = done(Processes(workers=1), jobs)
    assert [type(event) for event in events["job-0"] if not isinstance(event, JobProgress)] == [Started, Started, Finished]
    assert events["job-0"][-1].row.scores["first"]["value"] == 2.0
    assert isinstance(events["job-1"][-1], Finished)


def test_a_job_that_kills_every_worker_is_given_up_with_the_number_of_deaths(tmp_path):
    events = done(Processes(workers=1, retries=1), [works.job(tmp_path, 0, trouble="dies"), works.job(tmp_path, 1)])
    end = events["job-0"][-1]
    assert (end.kind, end.attempts) == ("lost", 2)
    assert "died 2 times" in end.reason and "SIGKILL" in end.reason and "--workers" in end.reason
    assert (tmp_path / "job-0" / "deaths").read_text() == "xx"
    assert isinstance(events["job-1"][-1], Finished)


def test_workers_are_kept_from_job_to_job_and_divide_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    events = done(Processes(workers=2), [works.job(tmp_path, number, seconds=0.1) for number in range(6)])
    rows = [events[f"job-{number}"][-1].row for number in range(6)]
    assert len({row.made["pid"] for row in rows}) == 2
    assert {row.settings["threads"] for row in rows} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert "OMP_NUM_THREADS" not in os.environ


def test_each_gpu_gets_its_share_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.processes.gpus_here", lambda: ["3", "5"])
    jobs = [works.job(tmp_path, number, seconds=0.4) for number in range(4)]
    events = done(Processes(gpus_per_job=0.5), jobs)
    assert sorted(events[job.key][-1].row.settings["gpus"] for job in jobs) == ["3", "3", "5", "5"]
    assert "GPU 3" in {events[job.key][0].where for job in jobs}


def test_a_gpu_on_which_everything_fails_does_not_go_through_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth.bench.executors.processes.gpus_here", lambda: ["0", "1"])
    jobs = [works.job(tmp_path, number, steps=1, seconds=1.0, dead_gpu="1") for number in range(8)]
    ends = [events[-1] for events in done(Processes(), jobs).values()]
    assert len([end for end in ends if isinstance(end, Failed)]) == 3
    assert {end.row.settings["gpus"] for end in ends if isinstance(end, Finished)} == {"0"}


def test_a_gpu_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(SettingError, match=r"--gpus_per_job: 0\.5 of a GPU"):
        done(Processes(gpus_per_job=0.5), [works.job(tmp_path)])


def test_workers_that_cannot_start_end_the_bench_and_not_a_thousand_jobs(tmp_path):
    with pytest.raises(RunError, match="3 workers in a row could not start"):
        list(Processes(workers=1).run([works.job(tmp_path, number) for number in range(9)], Unloadable()))


class Unloadable:
    """Work that kills the process which unpickles it."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_place_where_nothing_starts_costs_no_job(monkeypatch):
    """One of four places is broken, and being the only free one it is tried again and again; the jobs are not what is at fault."""
    monkeypatch.setattr("dreambooth.bench.executors.slots.LONGEST_PAUSE", 0.05)
    pool = PartlyBroken()
    events = list(drive((works.job("x", number) for number in range(30)), pool, retries=1))
    assert len([e for e in events if isinstance(e, Finished)]) == 30 and not [e for e in events if isinstance(e, Failed)]
    assert pool.broken > 3


class PartlyBroken(Pool):
    """Three places that take their time, and one that dies before it has begun."""

    def __init__(self):
        self.broken, self.there = 0, set()

    def share(self, job):
        return 0.0

    def limit(self, share):
        return 4

    def open(self, share):
        place = min(set(range(4)) - self.there)
        self.there.add(place)
        self.broken += place == 0
        return Place(self, place)

    def wait(self, slots):
        time.sleep(0.005)


class Place(Slot):
    def __init__(self, pool, place):
        self.pool, self.place, self.until = pool, place, 0.0

    def give(self, job):
        self.until = time.monotonic() + 0.03

    def news(self):
        if self.place == 0:
            raise Lost("there is no dreambooth here")
        if not self.has_begun:
            yield Begun("here")
        if time.monotonic() > self.until:
            yield works.row(self.job, dino=0.5)

    def ask_to_stop(self):
        pass

    def end(self):
        self.pool.there.discard(self.place)


def test_a_job_waits_until_a_worker_whose_bench_was_killed_has_left_its_folder(tmp_path):
    """Started again at once, both were in one folder: the one saving and pruning checkpoints, the other choosing one."""
    (tmp_path / "job-0").mkdir()
    orphan = os.open(tmp_path / "job-0", os.O_RDONLY)
    fcntl.flock(orphan, fcntl.LOCK_EX)
    threading.Timer(1.0, lambda: os.close(orphan)).start()
    began = time.monotonic()
    events = done(Inline(), [works.job(tmp_path)])
    assert isinstance(events["job-0"][-1], Finished) and time.monotonic() - began >= 1.0


class Panic(BaseException):
    """What a library in Rust raises when it gives up."""


def test_a_panic_in_the_work_is_a_failure_and_not_a_wait_for_ever(tmp_path):
    def work(job, tell):
        raise Panic("index out of bounds")

    (_, failed) = Inline().run([works.job(tmp_path)], work)
    assert isinstance(failed, Failed) and failed.kind == "error" and "Panic: index out of bounds" in failed.reason


STUBBORN = """
import sys, time, torch
from dreambooth.bench import executors
from dreambooth.cli import bench as face
from dreambooth.core.errors import Interrupted
from tests.bench import works

def work(job, tell):
    x = torch.randn(900, 900, requires_grad=True)
    print("computing", flush=True)
    while True:
        (x @ x).sum().backward()

if __name__ == "__main__":
    class Told:
        count, root = 1, __import__("pathlib").Path(sys.argv[1])
    face.bench = lambda request: executors.Inline().run([works.job(sys.argv[1])], work)
    try:
        with face.interruptible():
            face._shown(Told())
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)
"""


def test_a_second_ctrl_c_while_a_job_computes_ends_with_130_and_no_abort(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout and driver.stderr
    next(line for line in driver.stdout if "computing" in line)
    for _ in range(2):
        driver.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert driver.wait(timeout=30) == 130, driver.stderr.read()


DRIVER = """
import functools, sys
from dreambooth.bench.executors import Processes
from tests.bench import works
if __name__ == "__main__":
    folder = sys.argv[1]
    jobs = (works.job(folder, number, steps=12 if number else 2, seconds=0.1) for number in range(4))
    missing = (job for job in jobs if not works.is_kept(job, folder))
    for event in Processes(workers=2).run(missing, works.work, functools.partial(works.keep, folder=folder + "/rows")):
        print(type(event).__name__, getattr(event, "key", "") or event.job.key, flush=True)
"""


def start(script: str, folder: Path) -> subprocess.Popen:
    path = folder / "driver.py"
    path.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, str(path), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


def test_a_killed_driver_loses_nothing_and_the_same_plan_does_only_what_is_missing(tmp_path):
    driver = start(DRIVER, tmp_path)
    assert driver.stdout
    next(line for line in driver.stdout if line.startswith("Finished"))
    driver.kill()
    driver.wait()
    until = time.monotonic() + 10
    while time.monotonic() < until and (before := steps(tmp_path)) is not None:
        time.sleep(0.5)
        if steps(tmp_path) == before:
            break
    else:
        raise AssertionError("workers work on without their driver")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    assert 1 <= len(kept) < 4
    again = start(DRIVER, tmp_path)
    output = again.communicate(timeout=30)[0].split("\n")
    assert len([line for line in output if line.startswith("Finished")]) == 4 - len(kept)
    assert len(list((tmp_path / "rows").iterdir())) == 4
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    firsts = [json.loads(path.read_text())["scores"]["first"]["value"] for path in (tmp_path / "rows").iterdir()]
    assert any(first > 0 for first in firsts)  # what was cut short was not begun again


def steps(folder: Path) -> int:
    return len(list(folder.glob("job-*/checkpoint-*")))


def test_workers_leave_nothing_behind_that_python_would_complain_about(tmp_path):
    driver = start(DRIVER.replace("steps=12 if number else 2, seconds=0.1", 'trouble="lock"'), tmp_path)
    output, complaints = driver.communicate(timeout=60)
    assert output.count("Finished") == 4 and not complaints


def test_ctrl_c_in_the_terminal_saves_and_leaves_no_worker(tmp_path):
    driver = start(DRIVER.replace("else 2", "else 400").replace("=12", "=400"), tmp_path)
    assert driver.stdout
    next(line for line in driver.stdout if line.startswith("JobProgress"))
    workers = children(driver.pid)
    assert len(workers) >= 2
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    driver.wait(timeout=60)
    assert time.monotonic() - began < 6
    assert len(list(tmp_path.glob("job-*/saved"))) >= 1
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def children(pid: int) -> list[int]:
    """The worker processes of a driver."""
    found = [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
