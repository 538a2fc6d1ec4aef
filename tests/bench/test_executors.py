"""One executor after the other through the same jobs: what one promises, all keep. A cluster's own tests are in test_ray.py."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from dreambooth.bench.executors import Executor, Inline, Processes
from dreambooth.bench.job import Failed, Finished, JobProgress, Started
from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.locks import LOCK
from tests.bench import works

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all of Ray stays on loopback
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
TREE = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def machine():
    """Ray on this machine with four places and what it takes for two GPUs, started once for all tests of this file."""
    ray = pytest.importorskip("ray", reason="the extra `cluster` (Ray) is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", TREE)  # the works of these tests are no installed package
        options = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
        ray.init(address="local", num_cpus=4, num_gpus=2, object_store_memory=80 * 2**20, **options)
        yield ray
        ray.shutdown()


@pytest.fixture(params=["inline", "processes"])
def executor(request) -> Executor:
    if request.param == "inline":
        return Inline()
    request.getfixturevalue("machine")
    return processes(workers=2)


def processes(**settings) -> Processes:
    """On the CPU, whatever the machine pretends to have."""
    return Processes(**{"gpus_per_job": 0.0, **settings})


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


def test_a_killed_worker_is_replaced_and_its_job_goes_on_from_its_checkpoint(machine, tmp_path):
    jobs = [works.job(tmp_path, 0, dies_at=2), works.job(tmp_path, 1)]
    events = done(processes(workers=1), jobs)
    assert [type(event) for event in events["job-0"] if not isinstance(event, JobProgress)] == [Started, Started, Finished]
    assert events["job-0"][-1].row.scores["first"]["value"] == 2.0
    assert isinstance(events["job-1"][-1], Finished)


def test_a_job_that_kills_every_worker_is_given_up_with_the_number_of_deaths(machine, tmp_path):
    events = done(processes(workers=1, retries=1), [works.job(tmp_path, 0, trouble="dies"), works.job(tmp_path, 1)])
    end = events["job-0"][-1]
    assert (end.kind, end.attempts) == ("lost", 2)
    assert "died 2 times" in end.reason and "--workers" in end.reason
    assert (tmp_path / "job-0" / "deaths").read_text() == "xx"
    assert isinstance(events["job-1"][-1], Finished)


def test_each_gpu_gets_its_share_of_jobs(machine, tmp_path):
    jobs = [works.job(tmp_path, number, holds_at=1, until=str(tmp_path / "all")) for number in range(4)]
    gpus, starts = [], 0
    for event in processes(gpus_per_job=0.5).run(jobs, works.work):
        starts += isinstance(event, Started)
        if starts == 4:  # all at the same time
            (tmp_path / "all").touch()
        gpus += [event.row.settings["gpus"]] if isinstance(event, Finished) else []
        assert not isinstance(event, Started) or "GPU" in event.where
    assert sorted(gpus) == ["0", "0", "1", "1"]


def test_a_job_without_a_gpu_sees_none(machine, tmp_path):
    """Every job of a machine would work on the first."""
    assert done(processes(workers=1), [works.job(tmp_path)])["job-0"][-1].row.settings["gpus"] == ""


def test_a_gpu_on_which_everything_fails_does_not_go_through_the_plan(machine, tmp_path):
    jobs = [works.job(tmp_path, number, steps=1, seconds=1.0, dead_gpu="1") for number in range(8)]
    ends = [events[-1] for events in done(processes(gpus_per_job=None), jobs).values()]
    assert len(ends) == 8 and len([end for end in ends if isinstance(end, Failed)]) == 3
    assert {end.row.settings["gpus"] for end in ends if isinstance(end, Finished)} == {"0"}


def test_a_share_that_no_machine_has_is_refused_by_name(machine, tmp_path):
    with pytest.raises(SettingError, match="--cpus_per_job: no machine has 64 CPUs"):
        done(processes(cpus_per_job=64), [works.job(tmp_path)])


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_without_ray_the_extra_is_named_before_anything_is_written(executor, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["bench", "recipe", "--executor", executor, "--output_dir", str(tmp_path / "out")]) == 2
    output = capsys.readouterr().err
    assert f"--executor: {executor} " in output and "dreambooth[cluster]" in output and not (tmp_path / "out").exists()


def test_workers_that_cannot_start_end_the_bench_and_not_a_thousand_jobs(machine, tmp_path):
    with pytest.raises(RunError, match="3 workers in a row could not start"):
        list(processes(workers=1, retries=0).run([works.job(tmp_path, number) for number in range(9)], Unloadable()))


class Unloadable:
    """Work that kills the process which unpickles it."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_job_waits_until_a_worker_whose_bench_was_killed_has_left_its_folder(tmp_path):
    """Started again at once, both were in one folder: the one saving and pruning checkpoints, the other choosing one."""
    (tmp_path / "job-0").mkdir()
    orphan = FileLock(tmp_path / "job-0" / LOCK, thread_local=False)
    orphan.acquire()
    threading.Timer(1.0, orphan.release).start()
    began = time.monotonic()
    events = done(Inline(), [works.job(tmp_path)])
    assert isinstance(events["job-0"][-1], Finished) and time.monotonic() - began >= 1.0


class Panic(BaseException):
    """What a library in Rust raises when it gives up."""


def test_a_panic_in_the_work_is_a_failure_and_not_a_wait_for_ever(tmp_path):
    def work(job, stop):
        yield JobProgress(job.key, "training")
        raise Panic("index out of bounds")

    (*_, failed) = Inline().run([works.job(tmp_path)], work)
    assert isinstance(failed, Failed) and failed.kind == "error" and "Panic: index out of bounds" in failed.reason


INLINE = """
import sys, torch
from dreambooth.bench import executors
from dreambooth.bench.job import JobProgress
from dreambooth.cli import bench as face
from dreambooth.core.errors import Interrupted
from tests.bench import works

def stubborn(job, stop):
    x = torch.randn(900, 900, requires_grad=True)
    print("computing", flush=True)
    while True:
        (x @ x).sum().backward()
    yield

def saving(job, stop):
    print("computing", flush=True)
    return (yield from works.work(job, stop))

if __name__ == "__main__":
    class Asked:
        count, root = 1, __import__("pathlib").Path(sys.argv[1])
    jobs = [works.job(sys.argv[1], steps=400, seconds=0.05)]
    face.bench = lambda request, *, stop: executors.Inline().run(jobs, globals()[sys.argv[2]], stop=stop)
    try:
        with face.interruptible(float(sys.argv[3])) as stop:
            face._shown(Asked(), stop)
    except (Interrupted, AssertionError):  # the executor alone has no last record
        sys.exit(130)
"""


@pytest.mark.parametrize(
    ("work", "signals", "grace"),
    [
        ("stubborn", [signal.SIGINT, signal.SIGINT], 60.0), ("stubborn", [signal.SIGTERM], 1.0),
        ("saving", [signal.SIGINT], 60.0), ("saving", [signal.SIGTERM], 60.0),
    ],
    ids=["a second Ctrl-C", "the end of the grace", "Ctrl-C", "SIGTERM"],
)  # fmt: skip
def test_a_job_in_this_process_is_stopped_with_130_and_saves_if_it_can(tmp_path, work, signals, grace):
    driver = subprocess.Popen(
        [sys.executable, "-c", INLINE, str(tmp_path), work, str(grace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert driver.stdout and driver.stderr
    next(line for line in driver.stdout if "computing" in line)
    for number in signals:
        time.sleep(0.5)
        driver.send_signal(number)
    began = time.monotonic()
    assert driver.wait(timeout=30) == 130, driver.stderr.read()
    assert time.monotonic() - began < 20
    assert (tmp_path / "job-0" / "saved").exists() == (work == "saving")


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
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"PYTHONPATH": TREE}
    return subprocess.Popen(
        [sys.executable, str(path), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


def test_a_killed_driver_loses_nothing_and_the_same_plan_does_only_what_is_missing(tmp_path):
    driver = start(DRIVER.replace("seconds=0.1", "seconds=0.3"), tmp_path)
    assert driver.stdout
    seen: set[str] = set()
    while not {"Finished job-0", "JobProgress job-1"} <= seen:
        seen.add(next(driver.stdout).strip())
    driver.kill()
    driver.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until and (before := steps(tmp_path)) is not None:
        time.sleep(0.5)
        if steps(tmp_path) == before:
            break
    else:
        raise AssertionError("workers work on without their driver")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    assert 1 <= len(kept) < 4
    again = start(DRIVER, tmp_path)
    output = again.communicate(timeout=120)[0].split("\n")
    assert len([line for line in output if line.startswith("Finished")]) == 4 - len(kept)
    assert len(list((tmp_path / "rows").iterdir())) == 4
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    firsts = [json.loads(path.read_text())["scores"]["first"]["value"] for path in (tmp_path / "rows").iterdir()]
    assert any(first > 0 for first in firsts)  # what was cut short was not begun again


def steps(folder: Path) -> int:
    return len(list(folder.glob("job-*/checkpoint-*")))


def test_workers_leave_nothing_behind_that_python_would_complain_about_and_share_the_cores(tmp_path):
    driver = start(DRIVER.replace("steps=12 if number else 2, seconds=0.1", 'trouble="lock"'), tmp_path)
    output, complaints = driver.communicate(timeout=120)
    assert output.count("Finished") == 4 and not complaints
    threads = {json.loads(path.read_text())["settings"]["threads"] for path in (tmp_path / "rows").iterdir()}
    assert threads == {str(max(1, len(os.sched_getaffinity(0)) // 2))}


def test_ctrl_c_in_the_terminal_saves_and_leaves_no_worker(tmp_path):
    driver = start(DRIVER.replace("else 2", "else 400").replace("=12", "=400"), tmp_path)
    assert driver.stdout
    next(line for line in driver.stdout if line.startswith("JobProgress"))
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(family) >= 2
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    driver.wait(timeout=60)
    assert time.monotonic() - began < 15
    assert len(list(tmp_path.glob("job-*/saved"))) >= 1
    assert not psutil.wait_procs(family, timeout=10)[1]
