"""A Ray cluster: a worker for each place, a job at a time, on as many machines as there are; any of them may go."""

import importlib
import logging
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dreambooth.bench.executors.attempt import Trouble
from dreambooth.bench.executors.base import Executor, Keep
from dreambooth.bench.executors.bringing import Storage
from dreambooth.bench.executors.mirror import open_url
from dreambooth.bench.executors.processes import part_of_gpu
from dreambooth.bench.executors.ray_worker import TOKEN, JobActor
from dreambooth.bench.executors.slots import Begun, Lost, Pool, Slot, drive
from dreambooth.bench.executors.storage import is_url
from dreambooth.bench.job import Event, Job, JobProgress, Row, Work
from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.atomic import writable_folder
from dreambooth.files.places import remove

SECONDS_BETWEEN_LOOKS = 5.0
"""How often the cluster is asked which machines it has."""
SECONDS_BETWEEN_WARNINGS = 60.0

log = logging.getLogger(__name__)


class Ray(Executor):
    """A Ray cluster, one place per job with its part of a GPU; workers, machines and this process may die."""

    kind: Literal["ray"] = "ray"
    address: str = "auto"
    """The cluster: auto (the one that this machine belongs to), HOST:PORT, or local to start one on this machine alone."""
    workers: Annotated[int, Ge(1), Le(10_000)] | None = None
    """Jobs at a time; left out, what the cluster holds. A cluster that grows on demand has to be told."""
    retries: Annotated[int, Ge(0), Le(1000)] = 2
    """How often a job whose worker or machine died is tried again, from its last checkpoint."""
    gpus_per_job: Annotated[float, Ge(0), Le(1)] | None = None
    """Part of a GPU that one job takes: 0.25 puts four on each, 0 stays on the CPU; left out, a whole one."""
    cpus_per_job: Annotated[float, Gt(0), Le(10_000)] = 1.0
    """Cores that one job takes, and its number of threads."""
    storage: str | None = None
    """Storage that all machines reach (s3://bucket/bench, or whatever fsspec knows): photos and checkpoints travel through it, and what is
    finished is brought to --output_dir. Left out, --output_dir and the photos have to be on a disk that all machines share."""

    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None) -> Iterator[Event]:
        """The jobs' events as they come; a job is finished when its row and its folder are where the bench was started."""
        ray = _ray(self.address)
        storage = Storage(self.storage) if self.storage else None
        if storage:
            open_url(storage.url)
        is_ours = not ray.is_initialized()
        if is_ours:
            _join(ray, self.address)
        try:
            events = drive(jobs, _Cluster(self, work, storage.rows if storage else keep, ray, storage), retries=self.retries)
            yield from storage.brought(events, keep) if storage else events
        finally:
            if is_ours:
                ray.shutdown()


def _ray(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home
    if address == "local" or address.rpartition(":")[0] in ("localhost", "127.0.0.1"):
        # Ray replaces loopback by the machine's address in the network, unless it takes clusters for impossible here
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        fix = "pip install 'dreambooth[cluster]', on every machine of the cluster."
        raise SettingError("--executor", "ray needs the library Ray, which is not installed.", fix=fix) from None


def _join(ray: Any, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "://" not in address:
            socket.create_connection((host, int(port)), timeout=SECONDS_BETWEEN_LOOKS).close()  # Ray itself would knock for minutes
        options = {"include_dashboard": False} if address == "local" else {}
        with _own_sigterm():
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        fix = "Start one with: ray start --head (docs/cluster.md), or use --address local, or --executor processes."
        raise SettingError("--address", f"no Ray cluster answers at {address}: {first_line(error)}.", fix=fix) from None


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """A block after which SIGTERM means what it meant before: Ray has it end this process at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Cluster(Pool):
    """Actors on the machines of a cluster."""

    def __init__(self, settings: Ray, work: Work, keep: Keep | None, ray: Any, storage: Storage | None):
        self.settings, self.ray, self.storage = settings, ray, storage
        self.desk = ray.remote(JobActor)
        self.material = (ray.put(work), ray.put(keep), str(Path.cwd()))
        self.machines: list[dict[str, float]] = []
        self.due = self.warn_at = 0.0
        self.was_possible = False
        self.part: float | None = None

    def share(self, job: Job) -> float:
        """Decided once: jobs of a cluster whose GPUs have gone wait for others, rather than crawl on its CPUs."""
        if self.part is None:
            self.part = part_of_gpu(self.settings.gpus_per_job, has_gpus=any(machine.get("GPU") for machine in self._look()))
            if self.settings.workers and self.settings.gpus_per_job is None and not self.part:
                log.warning("No machine of the cluster has a GPU now, so jobs take CPUs; for GPUs that come on demand: --gpus_per_job 1.")
        return self.part

    def limit(self, share: float) -> int:
        if self.settings.workers:
            return self.settings.workers
        places = sum(self._places(machine, share) for machine in self._look())
        if places:
            self.was_possible, self.warn_at = True, time.monotonic() + SECONDS_BETWEEN_WARNINGS
        elif not self.was_possible:
            raise self._impossible(share)
        elif time.monotonic() > self.warn_at:
            log.warning("No machine of the cluster can take a job now; waiting for one.")
            self.warn_at = time.monotonic() + SECONDS_BETWEEN_WARNINGS
        return places

    def open(self, share: float) -> Slot:
        options = {"num_cpus": self.settings.cpus_per_job, "num_gpus": share, "max_restarts": 0, "max_concurrency": 4}
        actor = self.desk.options(scheduling_strategy="SPREAD", **options).remote(*self.material, share > 0)
        return _Actor(self.ray, actor, self.storage)

    def wait(self, slots: list[Slot]) -> None:
        answers = [slot.answer for slot in slots if isinstance(slot, _Actor)]
        if answers:
            self.ray.wait(answers, num_returns=1, timeout=0.5)
        else:
            time.sleep(0.5)

    def _look(self) -> list[dict[str, float]]:
        """What each machine of the cluster has, as of a few seconds ago."""
        if time.monotonic() > self.due:
            self.machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            self.due = time.monotonic() + SECONDS_BETWEEN_LOOKS
        return self.machines

    def _places(self, machine: dict[str, float], share: float) -> int:
        by_cores = int(machine.get("CPU", 0.0) / self.settings.cpus_per_job)
        return min(by_cores, int(machine.get("GPU", 0.0)) * int(1 / share)) if share else by_cores

    def _impossible(self, share: float) -> SettingError:
        offers = "; ".join(f"{machine.get('CPU', 0):g} CPUs and {machine.get('GPU', 0):g} GPUs" for machine in self.machines)
        asked = f"{self.settings.cpus_per_job:g} CPUs and {share:g} of a GPU"
        fix = "Lower --cpus_per_job or --gpus_per_job (0: no GPU); for a cluster that grows on demand, say how far with --workers."
        return SettingError(
            "--gpus_per_job" if share else "--cpus_per_job", f"no machine has {asked} for a job; they have {offers}.", fix=fix
        )


class _Actor(Slot):
    """An actor, the answer that it owes, and the news that it is asked for now and then."""

    def __init__(self, ray: Any, actor: Any, storage: Storage | None):
        self.ray, self.actor, self.storage = ray, actor, storage
        self.answer: Any = None
        self.words: Any = None

    def give(self, job: Job) -> None:
        far = self.storage.away(job) if self.storage else job
        token = "" if is_url(far.folder) else _mark(Path(far.folder))
        self.answer = self.actor.do.remote(far, token)
        self.words = self.actor.news.remote()

    def news(self) -> Iterator[Begun | JobProgress | Row | Trouble]:
        try:
            if self.ray.wait([self.answer], timeout=0)[0]:
                answer = self.ray.get(self.answer)
                yield from self._last_words()
                yield answer
            elif self.ray.wait([self.words], timeout=0)[0]:
                words, self.words = self.ray.get(self.words), self.actor.news.remote()
                yield from words
        except self.ray.exceptions.RayError as error:
            yield from self._last_words()
            raise Lost(_in_words(error)) from None

    def _last_words(self) -> list[Begun | JobProgress]:
        """What was not heard yet: news on their way, and those not asked for; of a worker that has died, what had left it."""
        words: list[Begun | JobProgress] = []
        try:
            words += self.ray.get(self.words, timeout=SECONDS_BETWEEN_LOOKS)
            words += self.ray.get(self.actor.news.remote(patient=False), timeout=SECONDS_BETWEEN_LOOKS)
        except self.ray.exceptions.RayError:
            return words
        return words

    def ask_to_stop(self) -> None:
        self.actor.stop.remote()

    def end(self) -> None:
        self.ray.kill(self.actor, no_restart=True)


def _mark(folder: Path) -> str:
    """A file in the job's folder by which a worker sees that its own folder of that name is the same one; returns its name.

    It has a new name each time: a machine that has looked for a file in vain may go on saying for a while that it is not there.
    """
    token = f"{TOKEN}{uuid.uuid4().hex}"
    writable_folder(folder, "--output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{TOKEN}*"):
        remove(old, root=folder)
    (folder / token).touch()
    return token


def _in_words(error: BaseException) -> str:
    """What Ray says about a death: its first line, and the cause where one is given."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.split("\n") if line.strip()]
    causes = [line for line in lines[1:] if "Error" in line or "exit" in line.lower() or "node" in line.lower()]
    return " ".join([*lines[:1], *causes[-1:]])[:500]
