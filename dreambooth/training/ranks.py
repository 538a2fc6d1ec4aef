"""Several processes as one: who this process is, and how the others are waited for. A single process needs none of it."""

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError

SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}  # fmt: skip
"""How accelerate's launcher says that a model is to be divided among processes."""
YES = ("1", "true", "yes")
PATIENCE = timedelta(hours=12)
"""How long processes wait for one another; the first one may be drawing class images meanwhile."""


@dataclass(frozen=True)
class Ranks:
    """Rank and count of processes, and this one's device."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process; all processes must ask together."""
        if self.count == 1:
            return flag
        value = torch.tensor([int(flag)], device=self.device if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def agreed(self, number: int) -> int:
        """The first process's number, in every process; all must ask together. What each draws for itself is no one's."""
        if self.count == 1:
            return number
        value = torch.tensor([number], dtype=torch.int64, device=self.device if dist.get_backend() == "nccl" else "cpu")
        dist.broadcast(value, src=0)
        return int(value)


def launcher_settings() -> dict[tuple[str, str], str]:
    """What `accelerate launch` says through the environment (`--mixed_precision`, `--cpu`), for settings that were left out."""
    found: dict[tuple[str, str], str] = {}
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if precision and precision != "no":
        found["loop", "mixed_precision"] = precision
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in YES:
        found["loop", "device"] = "cpu"
    return found


def join(device: str | None) -> Ranks:
    """This process among those that `accelerate launch` or `torchrun` have started; alone where they have not.

    Raises SettingError where the launcher was to divide the model: each process would hold all of it instead.
    """
    for variable, what in SHARDING.items():
        if os.environ.get(variable, "").lower() in YES:
            reason = f"{what} would divide the model, which each process keeps whole here."
            fix = "Launch with --multi_gpu alone; --base_weights, --group_offload or --fit need less memory."
            raise SettingError("accelerate launch", reason, fix=fix)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(0, 1, pick_device(device))
    from accelerate import PartialState

    state = PartialState(cpu=pick_device(device).type == "cpu", timeout=PATIENCE)
    atexit.register(_leave)
    return Ranks(state.process_index, state.num_processes, torch.device(str(state.device)))


def _leave() -> None:
    """Part from the other processes in order; a process that just ends while another still writes can be aborted by its threads."""
    if dist.is_initialized():
        dist.destroy_process_group()
