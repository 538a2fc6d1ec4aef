"""Several worker processes on this machine, each with its GPU, or its part of one."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context
from pickle import PickleError, UnpicklingError
from signal import Signals
from typing import Annotated, Literal

from annotated_types import Ge, Le

from dreambooth.bench.executors.attempt import Trouble
from dreambooth.bench.executors.base import Executor, Keep
from dreambooth.bench.executors.process_worker import serve
from dreambooth.bench.executors.slots import Begun, Lost, Pool, Slot, drive
from dreambooth.bench.job import Event, Job, JobProgress, Row, Work
from dreambooth.core.errors import SettingError

DEFAULT_WORKERS = 2
"""Without a GPU: two small models use two cores well, and the memory of two is what most machines have."""
FAILURES = 3
"""Jobs in a row that may fail on a GPU, while there are others, before it is left out."""
LEAVING_SECONDS = 3.0
"""A worker without a job gets so long to leave by itself."""

log = logging.getLogger(__name__)


class Processes(Executor):
    """Several processes on this machine, one or more to a GPU; one that dies is replaced."""

    kind: Literal["processes"] = "processes"
    workers: Annotated[int, Ge(1), Le(10_000)] | None = None
    """Jobs at a time; left out, what the GPUs hold, or 2 on the CPU; with ray, what the cluster holds, or grows to when it is given."""
    retries: Annotated[int, Ge(0), Le(1000)] = 2
    """How often a job whose worker died is tried again, from its last checkpoint."""
    gpus_per_job: Annotated[float, Ge(0), Le(1)] | None = None
    """Part of a GPU that one job takes: 0.25 puts four on each, 0 stays on the CPU; left out, a whole one."""

    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None) -> Iterator[Event]:
        """The jobs' events as they come; workers live on from job to job, so that libraries are loaded once."""
        return drive(jobs, _Machine(self, work, keep, gpus_here()), retries=self.retries)


def gpus_here() -> list[str]:
    """Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES knows them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def part_of_gpu(asked: float | None, *, has_gpus: bool) -> float:
    """What a job takes of a GPU: as asked, else a whole one where there is one."""
    return float(has_gpus) if asked is None else asked


class _Machine(Pool):
    """Worker processes on the GPUs and cores of this machine."""

    def __init__(self, settings: Processes, work: Work, keep: Keep | None, gpus: list[str]):
        self.settings, self.work, self.keep, self.gpus = settings, work, keep, gpus
        self.held: dict[int, str] = {}
        """Which GPU each open slot is on."""
        self.failed = Counter[str]()
        """Jobs in a row that have failed on each GPU."""
        self.most = len(gpus)

    def share(self, job: Job) -> float:
        if not self.gpus and self.settings.gpus_per_job:
            fix = "Leave it out to use what there is, or say 0."
            raise SettingError(
                "--gpus_per_job", f"{self.settings.gpus_per_job:g} of a GPU was asked for; there is no CUDA GPU here.", fix=fix
            )
        return part_of_gpu(self.settings.gpus_per_job, has_gpus=True) if self.gpus else 0.0

    def limit(self, share: float) -> int:
        places = len(self.gpus) * int(1 / share) if share else DEFAULT_WORKERS
        asked = self.settings.workers or places
        return min(asked, places) if share and len(self.gpus) < self.most else asked

    def open(self, share: float) -> Slot:
        gpu = min(self.gpus, key=lambda gpu: list(self.held.values()).count(gpu)) if share else ""
        threads = max(1, _cores() // self.limit(share))
        slot = _Process(self, gpu, threads)
        self.held[id(slot)] = gpu
        return slot

    def ended(self, slot: Slot, *, well: bool) -> None:
        """A GPU that fails job after job, and so is always the free one, would go through the whole plan."""
        gpu = self.held.get(id(slot), "")
        self.failed[gpu] = 0 if well else self.failed[gpu] + 1
        if gpu in self.gpus and self.failed[gpu] >= FAILURES and len(self.gpus) > 1:
            self.gpus.remove(gpu)
            log.warning("GPU %s gets no more jobs: %d in a row have failed on it.", gpu, FAILURES)

    def wait(self, slots: list[Slot]) -> None:
        handles = [handle for slot in slots if isinstance(slot, _Process) for handle in (slot.line, slot.process.sentinel)]
        connection.wait(handles, timeout=1.0)


class _Process(Slot):
    """A worker process and the line to it."""

    def __init__(self, machine: _Machine, gpu: str, threads: int):
        context = get_context("spawn")  # a fork would inherit locks of libraries' threads, and an accelerator that is in use
        self.machine = machine
        self.where = f"GPU {gpu}" if gpu else "CPU"
        self.line, far = context.Pipe()
        self.process = context.Process(target=serve, args=(far, machine.work, machine.keep, self.where), daemon=True)
        with _environment(gpu, threads):
            self.process.start()
        far.close()

    def give(self, job: Job) -> None:
        try:
            self.line.send(job)
        except OSError:
            return  # it has died, and its news will say so

    def news(self) -> Iterator[Begun | JobProgress | Row | Trouble]:
        was_alive = self.process.is_alive()
        try:
            while self.line.poll():
                yield self.line.recv()
        except (EOFError, OSError, PickleError, UnpicklingError):
            self.process.join(timeout=5.0)
            raise Lost(self._end_in_words()) from None
        if not was_alive:
            raise Lost(self._end_in_words())

    def ask_to_stop(self) -> None:
        self.process.terminate()

    def end(self) -> None:
        self.machine.held.pop(id(self), None)
        self.line.close()
        if self.job is None:
            self.process.join(LEAVING_SECONDS)  # it sees the closed line, and cleans up behind its libraries as it leaves
        self.process.kill()
        self.process.join()
        self.process.close()

    def _end_in_words(self) -> str:
        code = self.process.exitcode
        if code is None:
            return "it no longer answers."
        if code >= 0:
            return f"it left with exit code {code}."
        hint = "; if nobody did that, the machine's memory ran out: use fewer --workers" if -code == 9 else ""
        return f"it was killed by {Signals(-code).name}{hint}."


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _environment(gpu: str, threads: int) -> Iterator[None]:
    """A block in which new processes see one GPU only and their part of the cores, from before the first library is loaded."""
    given = {"CUDA_VISIBLE_DEVICES": gpu}
    given |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
