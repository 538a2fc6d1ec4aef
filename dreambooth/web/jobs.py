"""What waits and runs, one file each: `dreambooth` commands that are started in turn, one a device, and outlive the server.

A job is a file with the words of its command. What it is doing is nowhere written down: it is read from its process, which that file
names, and from what the command leaves. A server that is killed forgets nothing, and the next one goes on with the same files.
"""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import HALF, shell_words, shortened
from dreambooth.files.atomic import write_json
from dreambooth.files.locks import held
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.setup.runs import FoundRun, run_of
from dreambooth.setup.states import State, Status, is_alive, process_of
from dreambooth.web.devices import devices_of_runs
from dreambooth.web.studio import Missing, Studio

COMMAND = (sys.executable, "-m", "dreambooth")
"""What a job's words stand behind."""
MARK = "DREAMBOOTH_JOB"
"""In the environment of a job's process: by this it is known when its server died before it could note it."""
LONGEST = 30_000
"""Letters of a word: Linux takes 128 KiB of bytes, Windows 32,767 letters of a whole command."""
TAIL = 64 << 10
"""Bytes of a log that are read."""


@open_shape
class JobFile(TypedDict):
    """What is read of a job's file."""

    verb: str
    words: list[str]
    run: str
    device: str
    added: float


@dataclass(frozen=True)
class Job:
    """A command that waits, runs or ran."""

    id: str
    verb: str
    words: tuple[str, ...]
    """What stands behind `dreambooth` on a command line."""
    run: str
    """Name of the run that it is about."""
    device: str
    added: float
    result: str = ""
    """A file, as seen from the root, that is there when a job other than a training is done."""
    at_once: bool = False
    """Whether it was asked for although another job is at work on its device."""
    process: Mapping[str, Any] = field(default_factory=dict)
    """As `states.process_of` names it; empty while the job waits."""
    started: float = 0.0
    priority: int = 0
    """Those with a higher one are done before those that were added earlier."""

    @property
    def command(self) -> str:
        """What to type for the same."""
        return shell_words("dreambooth", *self.words)


def read_jobs(studio: Studio) -> list[Job]:
    """All jobs, in the order in which they are done: by priority, then as they were added; files that are damaged are left out."""
    found = [job for path in studio.jobs.glob("*.json") if (job := _read(path))]
    return sorted(found, key=lambda job: (-job.priority, job.added, job.id))


def job_named(studio: Studio, name: str) -> Job:
    """A job by its id; raises Missing."""
    job = _read(studio.inside(studio.own.name, "jobs", f"{name}.json"))
    if job is None:
        raise Missing("job", "there is no such job.", fix="It may have been taken away.")
    return job


def status_of(studio: Studio, job: Job) -> Status:
    """What a job is doing, or how it ended, as its process and its files say."""
    if not job.process:
        return Status(State.RUNNING, "starting") if job.started else Status(State.QUEUED)
    alive = is_alive(job.process) is not False
    if job.verb != "train":
        if alive:
            return Status(State.RUNNING, _last(log_of(studio, job)) or "starting")
        return Status(State.FINISHED) if _is_written(studio.root / job.result, job.started) else _failed(studio, job)
    run = run_of(studio.root / job.run, studio.root)
    own = run.status if run and _is_by(run, job) else None
    if alive:
        return own if own and own.state.is_active else Status(State.RUNNING, _last(log_of(studio, job)) or "getting ready")
    return own or _failed(studio, job)


def add(studio: Studio, job: Job) -> Job:
    """Put a job into the queue; raises SettingError where its run has one that waits or runs."""
    refuse_words(job.words)
    with held(studio.jobs / "queue.lock"):
        for other in of_run(studio, job.run):
            status = status_of(studio, other)
            if job.verb == "train" and other.verb == "train" and (status.state is State.QUEUED or status.state.is_active):
                raise SettingError("run", f"{job.run} is {status} already.", fix="Wait for it, or stop it first.")
        _write(studio, job)
    return job


def refuse_words(words: Iterable[str]) -> None:
    """Raise SettingError for a word that no process can be given: the queue would wait for it for ever."""
    left = 4 * LONGEST
    for word in words:
        left -= len(word)
        if "\0" in word or HALF.search(word) or len(word) > LONGEST or left < 0:
            name = word.partition("=")[0] if word.startswith("--") else "command"
            raise SettingError(name, "it is too long, or holds a letter that no command can be given.", fix="Write it otherwise.")


def put_back(studio: Studio, job: Job) -> None:
    """Put a job that has ended into the queue again; raises SettingError where its run has another one meanwhile."""
    with held(studio.jobs / "queue.lock"):
        if status_of(studio, job_named(studio, job.id)).state.is_active:
            raise SettingError("run", f"{job.run} is at work already.", fix="Wait for it, or stop it first.")
        (studio.jobs / f"{job.id}.log").unlink(missing_ok=True)
        _write(studio, job)


def new(verb: str, words: tuple[str, ...], run: str, device: str, **other: Any) -> Job:
    """A job of now."""
    return Job(secrets.token_hex(6), verb, words, run, device, time.time(), **other)


def cancel(studio: Studio, job: Job) -> None:
    """Take a job out of the queue, or away when it has ended; raises SettingError for one that is at work."""
    with held(studio.jobs / "queue.lock"):
        status = status_of(studio, job_named(studio, job.id))
        if status.state.is_active:
            raise SettingError("job", f"it is {status}.", fix="Stop it first.")
        forget(studio, job)


def forget(studio: Studio, job: Job) -> None:
    """Delete a job's files."""
    for suffix in (".json", ".log", ".yaml"):
        (studio.jobs / f"{job.id}{suffix}").unlink(missing_ok=True)


def first(studio: Studio, job: Job) -> None:
    """Move a waiting job to the head of the queue."""
    with held(studio.jobs / "queue.lock"):
        waiting = [other for other in read_jobs(studio) if not other.process]
        if not job_named(studio, job.id).process:
            highest = max(other.priority for other in (job, *waiting))
            _write(studio, replace(job, added=min(other.added for other in (job, *waiting)) - 1, priority=highest))


def prefer(studio: Studio, job: Job, priority: int) -> None:
    """Give a job another priority; one that is at work is not interrupted for it."""
    with held(studio.jobs / "queue.lock"):
        _write(studio, replace(job_named(studio, job.id), priority=priority))


def of_run(studio: Studio, run: str) -> list[Job]:
    """A run's jobs, the newest last."""
    return [job for job in read_jobs(studio) if job.run == run]


def pump(studio: Studio) -> list[Job]:
    """Start what may start: on each device that nobody is at work on, the job that has waited longest."""
    with held(studio.jobs / "queue.lock"):
        jobs = [_recovered(studio, job) for job in read_jobs(studio)]
        waiting = [job for job in jobs if not job.started]
        if not waiting:
            return []
        busy = {job.device for job in jobs if job.started and status_of(studio, job).state.is_active}
        if any(job.device not in busy for job in waiting):  # else no folder of the root need be read
            busy |= set(devices_of_runs(studio))
        started = []
        for job in waiting:
            if job.at_once or job.device not in busy:
                started.append(_start(studio, job))
                busy.add(job.device)
        return started


def log_of(studio: Studio, job: Job) -> str:
    """The end of what a job has said."""
    try:
        with (studio.jobs / f"{job.id}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def reason(log: str) -> str:
    """Why a command ended, by the last thing that it said."""
    said = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line.removeprefix("dreambooth: ") for line in said if line.startswith("dreambooth: ")]
    return own[-1] if own else said[-1] if said else "its process ended without a word"


def _last(log: str) -> str:
    """The last line of a log."""
    said = [line.strip() for line in log.splitlines() if line.strip()]
    return shortened(said[-1]) if said else ""


def _is_written(path: Path, since: float) -> bool:
    """Whether a job has left what it was to leave, and nobody before it."""
    try:
        return path.stat().st_mtime >= since - 2
    except OSError:
        return False


def _failed(studio: Studio, job: Job) -> Status:
    return Status(State.FAILED, cause=reason(log_of(studio, job)))


def _is_by(run: FoundRun, job: Job) -> bool:
    """Whether what a run's record says was said by a job's process."""
    return (run.record.get("process") or {}).get("pid") == job.process.get("pid")


def _start(studio: Studio, job: Job) -> Job:
    """Start a job's process, in a group of its own, so that nothing that ends the server ends it."""
    job = replace(job, started=time.time())
    _write(studio, job)  # a server that dies now leaves a job that is looked for by its mark
    own: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with (studio.jobs / f"{job.id}.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, *job.words], cwd=studio.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, MARK: job.id, "PYTHONIOENCODING": "utf-8"}, **own,
        )  # fmt: skip
    job = replace(job, process=process_of(process.pid))
    _write(studio, job)
    threading.Thread(target=process.wait, daemon=True).start()  # whoever has ended is collected
    return job


def _recovered(studio: Studio, job: Job) -> Job:
    """A job whose server died between its start and the note of it: with its process, or to be started again."""
    if job.process or not job.started:
        return job
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == job.id and os.getppid() != process.pid != os.getpid():
                job = replace(job, process=process_of(process.pid))
                break
    else:
        job = replace(job, started=0.0)
    _write(studio, job)
    return job


def _write(studio: Studio, job: Job) -> None:
    write_json(studio.jobs / f"{job.id}.json", asdict(job))


def _read(path: Path) -> Job | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _parsed(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(4096)
def _parsed(path: Path, *of: int) -> Job | None:
    """A job's file as it is at one time: every page asks for all of them."""
    try:
        values = read_json(path, JobFile)
        return Job(**{**values, "id": path.stem, "words": tuple(values["words"])})
    except (FileNotFoundError, Damaged, TypeError):
        return None
