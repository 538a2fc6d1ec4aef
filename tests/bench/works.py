"""Small works for executors: they really checkpoint, wait, fail and die, as trainings do. Jobs say in their settings what to do."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

from dreambooth.bench.job import Job, JobProgress, Row, Stop
from dreambooth.bench.rows import read_row
from dreambooth.core.errors import Interrupted, RunError, SettingError
from dreambooth.files.atomic import whole_folder, write_json

LOCKS: list[object] = []
ROW = "row.json"


def job(folder: str | Path, number: int = 0, **settings) -> Job:
    """A job that works in a folder below `folder`."""
    key = f"job-{number}"
    return Job(
        key=key, plan="plan", arm="arm", subject=f"dog-{number}", seed=number, noun="dog", live=True, photos="photos",
        settings=settings, folder=f"{folder}/{key}",
    )  # fmt: skip


def row(job: Job, **scores: float) -> Row:
    return Row(
        key=job.key, plan=job.plan, arm=job.arm, subject=job.subject, seed=job.seed, noun=job.noun, live=job.live,
        scores={name: {"value": value} for name, value in scores.items()}, made={"pid": str(os.getpid())},
        settings={"threads": os.environ.get("OMP_NUM_THREADS", ""), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")},
    )  # fmt: skip


def work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """Steps with a checkpoint each, from the last checkpoint on; `first` in the scores is the step that this attempt began with."""
    settings, folder = job.settings, Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / ROW).exists():
        return read_row(folder / ROW)
    _misbehave(settings, folder)
    first = max((int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*")), default=0)
    steps = settings.get("steps", 3)
    for step in range(first + 1, steps + 1):
        time.sleep(settings.get("seconds", 0.0))
        with whole_folder(folder / f"checkpoint-{step}") as partial:
            write_json(partial / "state.json", {"step": step})
        with (folder / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps({"step": step, "first": first}) + "\n")
        yield JobProgress(job.key, "training", step, steps, saved=True)
        if settings.get("dead_after") == step:
            raise ZeroDivisionError("a bug, later")
        while settings.get("holds_at") == step and not Path(settings["until"]).exists():
            time.sleep(0.05)
        if settings.get("dies_at") == step and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.get("polite", True) and stop():
            (folder / "saved").touch()
            raise Interrupted("saved")
    made = row(job, first=float(first), steps=float(steps))
    write_json(folder / ROW, made.plain())
    return made


def _misbehave(settings: dict, folder: Path) -> None:
    if settings.get("dead_gpu") and settings["dead_gpu"] == os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise RunError("The GPU has fallen off the bus.")
    match settings.get("trouble"):
        case "lock":
            LOCKS.append(multiprocessing.get_context("spawn").Lock())  # as progress bars of libraries do
        case "setting":
            raise SettingError("--rank", "it is too large.", fix="Use 4.")
        case "run":
            raise RunError("The numbers are no longer finite.")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "exit":
            raise SystemExit(3)
        case "dies":
            with (folder / "deaths").open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)


def last(moves) -> Row:
    """What a generator returns when it has come to its end."""
    while True:
        try:
            next(moves)
        except StopIteration as done:
            return done.value


def keep(row: Row, *, folder: str) -> None:
    """A row in its place for good."""
    write_json(Path(folder) / f"{row.key}.json", row.plain())


def is_kept(job: Job, folder: str) -> bool:
    """Whether the row of a job is there."""
    return (Path(folder) / "rows" / f"{job.key}.json").is_file()
