"""A Ray cluster as a bench sees it: joined or started for the time of a block, and how many jobs it has room for."""

import importlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dreambooth.core.errors import RunError, SettingError, first_line

if TYPE_CHECKING:
    from dreambooth.bench.executors.ray import Ray

DEFAULT_WORKERS = 2
"""On this machine without a GPU: two small models use two cores well, and the memory of two is what most machines have."""
SECONDS_TO_ANSWER = 5.0
TRIES = 3

log = logging.getLogger(__name__)


class Places:
    """How many jobs there is room for, and which part of a GPU each takes."""

    def __init__(self, settings: "Ray", ray: Any):
        self.settings, self.ray = settings, ray
        self.was_possible, self.is_waiting = False, False
        has_gpus = any(machine.get("GPU") for machine in self._machines())
        self.share = float(has_gpus) if settings.gpus_per_job is None else settings.gpus_per_job
        """Decided once: jobs of a cluster whose GPUs have gone wait for others, rather than crawl on its CPUs."""
        if settings.workers and settings.gpus_per_job is None and not has_gpus and settings.address != "local":
            log.warning("No machine of the cluster has a GPU now, so jobs take CPUs; for GPUs that come on demand: --gpus_per_job 1.")

    def count(self) -> int:
        """Jobs that there may be at a time; raises SettingError where no machine has ever been able to take one."""
        machines = self._machines()
        found = sum(map(self._held_by, machines))
        if self.settings.workers and (found or self.settings.address != "local"):
            return self.settings.workers
        if not found and not self.was_possible:
            offers = "; ".join(f"{machine.get('CPU', 0):g} CPUs and {machine.get('GPU', 0):g} GPUs" for machine in machines)
            asked = f"{self.settings.cpus_per_job:g} CPUs and {self.share:g} of a GPU"
            fix = "Lower --cpus_per_job or --gpus_per_job (0: no GPU); for a cluster that grows on demand, say how far with --workers."
            setting = "--gpus_per_job" if self.share else "--cpus_per_job"
            raise SettingError(setting, f"no machine has {asked} for a job; they have {offers}.", fix=fix)
        if not found and not self.is_waiting:
            log.warning("No machine of the cluster can take a job now; waiting for one.")
        self.was_possible, self.is_waiting = True, not found
        return found

    def _machines(self) -> list[dict[str, float]]:
        """What each machine of the cluster has."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _held_by(self, machine: dict[str, float]) -> int:
        by_cores = int(machine.get("CPU", 0.0) / self.settings.cpus_per_job)
        return min(by_cores, int(machine.get("GPU", 0.0)) * int(1 / self.share)) if self.share else by_cores


def library(settings: "Ray") -> Any:
    """Ray itself; raises SettingError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))  # for ever, otherwise
    if settings.address == "local" or settings.address.rpartition(":")[0] in ("localhost", "127.0.0.1"):
        # Ray replaces loopback by the machine's address in the network, unless it takes clusters for impossible here
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: whatever else the machine does would come first
    try:
        return importlib.import_module("ray")
    except ImportError:
        reason = f"{settings.kind} needs the library Ray, which is not installed."
        fix = "pip install 'dreambooth[cluster]', on every machine of the cluster; --executor inline needs nothing."
        raise SettingError("--executor", reason, fix=fix) from None


@contextmanager
def joined(ray: Any, settings: "Ray") -> Iterator[Any]:
    """A block in which this process belongs to the cluster; one on this machine alone lasts as long as the block."""
    if ray.is_initialized():
        yield ray
        return
    address = settings.address
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "://" not in address:
            socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()  # Ray itself would knock for minutes
        places = _places_here(settings) if address == "local" else 0
        options = {"include_dashboard": False, "num_cpus": math.ceil(places * settings.cpus_per_job)} if places else {}
        with _starting(places):
            _begin(ray, address, options)
    except (OSError, ValueError, RuntimeError) as error:
        fix = "Start one with: ray start --head (docs/cluster.md), or use --address local."
        raise SettingError("--address", f"no Ray cluster answers at {address}: {first_line(error)}.", fix=fix) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _begin(ray: Any, address: str, options: dict[str, int | bool]) -> None:
    """`ray.init`, again where Ray's own processes have needed longer than the 30 seconds that it gives them, as beside much other work.

    Raises RunError after some tries; what Ray raises for a cluster that does not answer passes through.
    """
    for _ in range(TRIES):
        try:
            return ray.init(address=address, logging_level="ERROR", log_to_driver=False, **options)
        except Exception as error:
            if type(error) is not Exception:  # a bare one says that
                raise
            log.warning("Ray has not started in time on this machine (%s).", first_line(error))
            ray.shutdown()
    reason = f"Ray did not start on this machine in {TRIES} tries: it has too much other work, or too little memory."
    raise RunError(f"{reason} Start again when it has less, or give --executor inline, which needs no Ray. Finished jobs are kept.")


def _places_here(settings: "Ray") -> int:
    """Jobs that this machine alone does at a time."""
    import torch

    share = 1.0 if settings.gpus_per_job is None else settings.gpus_per_job
    by_gpus = torch.cuda.device_count() * int(1 / share) if share else 0
    return settings.workers or by_gpus or DEFAULT_WORKERS


@contextmanager
def _starting(places: int) -> Iterator[None]:
    """A block in which new processes are given the part of the cores that each of some places has, from before their first library is
    loaded. Afterwards SIGTERM means what it meant before: Ray has it end this process at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if places and name not in os.environ]
    before = signal.getsignal(signal.SIGTERM)
    os.environ.update(dict.fromkeys(names, str(max(1, cores // max(1, places)))))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
