"""Tasks of Ray, one for each job, on this machine or on a cluster. Ray places them, and begins a task again whose worker has died."""

import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dreambooth.bench.board import FAILURES, Board
from dreambooth.bench.executors.base import GRACE_SECONDS, Executor, Keep
from dreambooth.bench.executors.cluster import Places, joined, library
from dreambooth.bench.executors.storage import Storage, is_url, open_url
from dreambooth.bench.executors.task import do
from dreambooth.bench.job import Event, Failed, Finished, Job, JobProgress, Started, Stop, Work, never
from dreambooth.core.errors import DreamboothError, RunError, SettingError
from dreambooth.files.atomic import writable_folder
from dreambooth.files.leftovers import prefix

SECONDS_BETWEEN_NEWS = 0.2
REFUSALS = 3
"""Jobs in a row that cannot be given out, since their folders may not be written, or whose workers cannot start, before the rest waits."""

log = logging.getLogger(__name__)


class Ray(Executor):
    """A Ray cluster, one task per job with its part of a GPU; workers, machines and this process may die."""

    kind: Literal["ray"] = "ray"
    address: str = "auto"
    """The cluster: auto (the one that this machine belongs to), HOST:PORT, or local to start one on this machine alone."""
    workers: Annotated[int, Ge(1), Le(10_000)] | None = None
    """Jobs at a time; automatic: what the cluster holds; on this machine alone what its GPUs hold, or 2 on the CPU. A cluster that grows
    on demand needs the number."""
    retries: Annotated[int, Ge(0), Le(1000)] = 2
    """How often a job whose worker or machine died is tried again, from its last checkpoint."""
    gpus_per_job: Annotated[float, Ge(0), Le(1)] | None = None
    """Part of a GPU that one job takes: 0.25 puts four on each, 0 stays on the CPU; automatic: a whole one."""
    cpus_per_job: Annotated[float, Gt(0), Le(10_000)] = 1.0
    """Cores that one job takes, and its number of threads; on this machine alone, jobs share all cores."""
    storage: str | None = None
    """Storage that all machines reach (s3://bucket/bench, or whatever fsspec knows): photos and checkpoints travel through it, and what is
    finished is brought to --output_dir. Left out, --output_dir and the photos have to be on a disk that all machines share."""

    def check(self) -> None:
        """Raise SettingError where Ray is not installed, or nothing opens the storage."""
        library(self)
        if self.storage:
            open_url(self.storage)

    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None, *, stop: Stop = never) -> Generator[Event, None, None]:
        """The jobs' events as they come; a job is finished when its row and its folder are where the bench was started."""
        self.check()
        storage = Storage(self.storage) if self.storage else None
        with joined(library(self), self) as ray:
            events = _Tasks(self, ray, storage, work, None if storage else keep).run(jobs, stop)
            yield from storage.brought(events, keep) if storage else events


class Processes(Ray):
    """Several processes on this machine, one or more to a GPU: the same as ray with --address local."""

    kind: Literal["processes"] = "processes"  # type: ignore[assignment]  # a name for the same thing
    address: str = "local"


class _Tasks:
    """The jobs of one bench as tasks: no more at a time than there are places for them."""

    def __init__(self, settings: Ray, ray: Any, storage: Storage | None, work: Work, keep: Keep | None):
        self.settings, self.ray, self.storage = settings, ray, storage
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # it dies with the bench alone
        self.board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.places = Places(settings, ray)
        options = {"num_cpus": settings.cpus_per_job, "num_gpus": self.places.share, "max_retries": settings.retries}
        self.do = ray.remote(do).options(scheduling_strategy="SPREAD", **options)
        self.material = (str(Path.cwd()), ray.put(work), ray.put(keep))
        self.running, self.held = dict[Any, Job](), set[Any]()
        """Tasks by the answer that they owe; those that hold a place at which everything fails."""
        self.begun, self.never_begun = Counter[str](), 0

    def run(self, jobs: Iterable[Job], stop: Stop) -> Generator[Event, None, None]:
        """Every job as events. Stopped or closed, running jobs save before it ends; a second Ctrl-C does not wait."""
        plan, refused = iter(jobs), 0
        job = next(plan, None)
        try:
            while (job or self.running) and not stop():
                while job and len(self.running) < self.places.count() - len(self.held):
                    try:
                        self._give(job)
                        refused = 0
                    except (OSError, DreamboothError) as error:
                        refused += 1
                        yield Failed(job, str(error), "request" if isinstance(error, SettingError) else "run")
                        if refused >= REFUSALS:
                            raise RunError(f"{refused} jobs in a row could not be given out. The last one: {error}") from None
                    job = next(plan, None)
                if not self.running:
                    time.sleep(SECONDS_BETWEEN_NEWS)
                done = self.ray.wait(list(self.running), timeout=SECONDS_BETWEEN_NEWS)[0] if self.running else []
                yield from self._news()
                for answer in done:
                    yield from self._ended(answer)
        finally:
            self._part()

    def _give(self, job: Job) -> None:
        away = self.storage.away(job) if self.storage else job
        token = "" if is_url(away.folder) else _mark(Path(away.folder))
        self.running[self.do.remote(self.board, away, token, *self.material)] = job

    def _news(self) -> Iterator[Event]:
        """What the board says."""
        begun, moved, troubles = self.ray.get(self.board.news.remote())
        jobs = {job.key: (answer, job) for answer, job in self.running.items()}
        for key, where in begun:
            if key not in jobs:
                continue  # it had failed, and the machine of the GPU that it held has gone
            _, job = jobs[key]
            if self.begun[key]:
                log.warning("%s, %s, seed %d: its worker died, and it is tried again", job.arm, job.subject, job.seed)
            self.begun[key] += 1
            self.never_begun = 0
            yield Started(job, where)
        yield from (JobProgress(*one) for one in moved)
        for key, (reason, kind) in troubles.items():
            answer, job = jobs[key]
            if not self.ray.wait([answer], timeout=0)[0]:
                del self.running[answer]
                self.held.add(answer)
                log.warning("A GPU gets no more jobs: %d in a row have failed on it.", FAILURES)
                yield Failed(job, reason, kind, self.begun.pop(key))

    def _ended(self, answer: Any) -> Iterator[Event]:
        """The last event of a job."""
        job = self.running.pop(answer, None)
        if job is None:
            return
        attempts = self.begun.pop(job.key, 0)
        try:
            end: Finished | Failed | None = self.ray.get(answer)
            if end:
                yield replace(end, job=job, **({"attempts": attempts} if isinstance(end, Failed) else {}))
        except self.ray.exceptions.RayError as error:
            reason = _in_words(error)
            if not attempts:
                self.never_begun += 1
                if self.never_begun >= REFUSALS:
                    raise RunError(f"{self.never_begun} workers in a row could not start. The last one: {reason}") from None
            times = "once" if attempts == 1 else f"{attempts} times"
            words = f"Its worker died {times}; the last time: {reason}" if attempts else f"Its worker could not start: {reason}"
            yield Failed(job, f"{words} If nobody did that, the memory may have run out: use fewer --workers.", "lost", max(1, attempts))

    def _part(self) -> None:
        """Let running jobs save. What is still at work then ends with the board, and with this process's place in the cluster.

        Nothing is cancelled: Ray (2.60) ends the process that cancels a task in the moment in which the task is done.
        """
        try:
            self.board.stop.remote()
            busy = [answer for answer, job in self.running.items() if self.begun[job.key]] + list(self.held)
            if busy:
                self.ray.wait(busy, num_returns=len(busy), timeout=GRACE_SECONDS)
        finally:
            self.ray.kill(self.board)


def _mark(folder: Path) -> str:
    """A file in the job's folder by which a worker sees that its own folder of that name is the same one; returns its name.

    It has a new name each time: a machine that has looked for a file in vain may go on saying for a while that it is not there. Like
    whatever is not finished, it is swept away when this process is no more.
    """
    token = f"{prefix()}{uuid.uuid4().hex}"
    writable_folder(folder, "--output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / token).touch()
    return token


def _in_words(error: BaseException) -> str:
    """What Ray says about a death: its first line, and the cause where one is given."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.split("\n") if line.strip()]
    causes = [line for line in lines[1:] if "Error" in line or "exit" in line.lower() or "node" in line.lower()]
    return " ".join([*lines[:1], *causes[-1:]])[:500]
