"""What a run needs of a device and of the machine, phase by phase, and whether that is there."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.wording import size
from dreambooth.families import family_of
from dreambooth.memory.phases import Phase, Rehearsal
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.offloading import refuse_offload
from dreambooth.setup.sharding import refuse_sharding, refuse_undividable

PROCESS = 640 << 20
"""Bytes of Python with its libraries, of which torch is most: measured on Linux, and not part of the phases."""
CONTEXT: Mapping[str, int] = {"cuda": 512 << 20, "xpu": 512 << 20, "mps": 0, "cpu": 0}
"""Bytes that a device's driver and libraries take. Not measured on this release's GPUs."""
ROUNDING: Mapping[str, float] = {"cpu": 1.1, "cuda": 1.05, "xpu": 1.05, "mps": 1.05}
"""What is held for each byte that tensors have: by the allocator, and by kernels for themselves. Measured on a CPU with networks in the
shape of SD1.5 at 256 px, where it is 1.01 to 1.17 (`python -m benchmarks.memory --measure`); on GPUs assumed, and not measured."""


@dataclass(frozen=True)
class Estimate:
    """The memory of a run."""

    device: str
    phases: Sequence[Phase]
    weights: Mapping[str, int]
    """Bytes of each part as it is loaded."""
    limit: int | None = None
    """Bytes that there are; None where nobody knows."""
    offloaded: int = 0
    """Bytes of the machine's memory that --group_offload holds while it trains."""
    processes: int = 1
    """How many of this machine hold the model together, each of which loads all of it."""

    def need(self, phase: Phase) -> int:
        """Bytes of the device that a phase takes, with what counting tensors cannot know."""
        base = PROCESS if self.device == "cpu" else CONTEXT.get(self.device, 0)
        return int(phase.peak.bytes * ROUNDING.get(self.device, 1.05)) + base

    def need_of(self, name: str) -> int:
        """The same of a phase by its name; nothing for one that is not among them."""
        return max((self.need(phase) for phase in self.phases if phase.name == name), default=0)

    @property
    def highest(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=self.need)

    @property
    def peak(self) -> int:
        """Bytes that the device must have."""
        return self.need(self.highest)

    @property
    def ram(self) -> int:
        """Bytes of the machine: all there is on a CPU; beside a GPU what is loaded before it goes there, and what is offloaded."""
        one = self.peak if self.device == "cpu" else max(sum(self.weights.values()), self.offloaded) + PROCESS
        return one * self.processes

    @property
    def fits(self) -> bool | None:
        """Whether there is enough; None where nobody knows."""
        return None if self.limit is None else self.peak <= self.limit

    @property
    def verdict(self) -> str:
        """In a sentence."""
        what = f"needs {size(self.peak)} ({self.highest.name})"
        if self.limit is None:
            return what
        if self.fits:
            return f"{what}: fits {size(self.limit)}, {size(self.limit - self.peak)} to spare"
        return f"{what}: {size(self.peak - self.limit)} more than the {size(self.limit)} there are"

    def lines(self) -> list[tuple[str, str]]:
        """For people: each phase and what it is made of, then the verdict."""
        rows = [(phase.name, f"{size(self.need(phase)):>8}  {self._made_of(phase)}") for phase in self.phases]
        return [
            *rows,
            ("device", f"{f'each of {self.processes}: ' if self.processes > 1 else ''}{self.device} {self.verdict}"),
            *([] if self.device == "cpu" else [("RAM", f"{size(self.ram)} to load{self._pinned()}")]),
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs: GiB, three digits."""
        return {
            "device": self.device,
            "phases": {
                phase.name: {"peak_gib": _gib(self.need(phase)), "made_of": {name: _gib(n) for name, n in phase.peak.parts.items()}}
                for phase in self.phases
            },
            "peak_gib": _gib(self.peak), "ram_gib": _gib(self.ram), "limit_gib": None if self.limit is None else _gib(self.limit),
            "fits": self.fits, "processes": self.processes,
        }  # fmt: skip

    def _pinned(self) -> str:
        return f", of which {size(self.offloaded)} are pinned while it trains" if self.offloaded else ""

    def _made_of(self, phase: Phase) -> str:
        parts = sorted(phase.peak.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {size(count)}" for name, count in parts if count >= phase.peak.bytes / 200)


def estimate(rehearsal: Rehearsal, device: torch.device, *, limit: int | None) -> Estimate:
    """What a rehearsed run needs of a device."""
    return Estimate(device.type, list(rehearsal.phases()), rehearsal.loaded, limit, rehearsal.offloaded, rehearsal.processes)


def rehearse(config: TrainConfig, device: torch.device) -> Rehearsal:
    """The run without numbers, from its model's configurations. Raises SettingError for --group_offload and --fsdp where nothing can come
    of them."""
    refuse_offload(config, device)
    refuse_sharding(config)
    config = with_configurations(config)
    refuse_undividable(config, family_of(config.model))
    return Rehearsal(config, on_cpu=device.type == "cpu")


def with_configurations(config: TrainConfig) -> TrainConfig:
    """With the model's configurations alone in its place, where it is not on this disk."""
    source = config.model.configurations()
    return config.updated({("model", name): getattr(source, name) for name in ("pretrained_model_name_or_path", "revision")})


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device now, and on a CPU what programs can have; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = None
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10
    with suppress(OSError, ValueError):  # a container's own limit
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found = min(most - used, found or most)
    return found


def installed_bytes(device: torch.device) -> int | None:
    """All bytes of a CUDA device, free or not; None for others, whose memory belongs to every program."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None


def _gib(count: int) -> float:
    return round(count / 2**30, 3)
