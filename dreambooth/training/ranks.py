"""Several processes as one: who this process is, and how the others are waited for. A single process needs none of it."""

import atexit
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.training.records import Record

SHARDING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}  # fmt: skip
"""How accelerate's launcher says that a model is to be divided among processes, by other means than FSDP."""
HOW = "Launch with --use_fsdp --fsdp_version 2, or with --multi_gpu alone, where each process has the whole model."
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
        return bool(self.most(int(flag)))

    def most(self, number: int) -> int:
        """The largest number of any process; all must ask together."""
        if self.count == 1:
            return number
        value = torch.tensor([number], device=self.device if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return int(value)

    def agreed(self, number: int) -> int:
        """The first process's number, in every process; all must ask together. What each draws for itself is no one's."""
        if self.count == 1:
            return number
        value = torch.tensor([number], dtype=torch.int64, device=self.device if dist.get_backend() == "nccl" else "cpu")
        dist.broadcast(value, src=0)
        return int(value)


def launcher_settings() -> dict[tuple[str, str], Any]:
    """What `accelerate launch` says through the environment (`--mixed_precision`, `--cpu`), for settings that were left out."""
    found: dict[tuple[str, str], Any] = {}
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if precision and precision != "no":
        found["loop", "mixed_precision"] = precision
    if _is_yes("ACCELERATE_USE_CPU"):
        found["loop", "device"] = "cpu"
    if _is_yes("ACCELERATE_USE_FSDP"):
        found["execution", "fsdp"] = world_size()
        if _is_yes("FSDP_ACTIVATION_CHECKPOINTING"):
            found["loop", "gradient_checkpointing"] = True
    return found


def world_size() -> int:
    """How many processes the launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _is_yes(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in YES


def _refuse_other_fsdp() -> None:
    """Raise SettingError for what accelerate's FSDP can be asked for and is not done here."""
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise SettingError("accelerate launch", "version 1 of FSDP flattens weights, which adapters cannot stand beside.", fix=HOW)
    if _is_yes("FSDP_OFFLOAD_PARAMS"):
        raise SettingError("--fsdp_offload_params", "each process's share stays on its device.", fix="Leave it out.")
    if os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in (*YES, "full_shard"):
        reason = "blocks that stay gathered after the forward pass make the whole model."
        raise SettingError("--fsdp_reshard_after_forward", reason, fix="Leave it out.")


def join(device: str | None) -> Ranks:
    """This process among those that `accelerate launch` or `torchrun` have started; alone where they have not.

    Raises SettingError where the launcher was to divide the model: each process would hold all of it instead.
    """
    for variable, what in SHARDING.items():
        if _is_yes(variable):
            raise SettingError("accelerate launch", f"{what} would divide the model, which is done by FSDP alone here.", fix=HOW)
    if _is_yes("ACCELERATE_USE_FSDP"):
        _refuse_other_fsdp()
    count = world_size()
    if count == 1:
        return Ranks(0, 1, pick_device(device))
    from accelerate import PartialState

    state = PartialState(cpu=pick_device(device).type == "cpu", timeout=PATIENCE)
    atexit.register(_leave)
    return Ranks(state.process_index, state.num_processes, torch.device(str(state.device)))


def by_first(
    processes: Ranks, family: Family, work: Callable[[], Iterator[Record] | Generator[Record, None, bool]]
) -> Generator[Record, None, bool]:
    """Records of what the first process does alone; all leave it together, and in all of them its answer is returned (False without one).
    Where they hold the model together, the others take their part in it meanwhile."""
    answer = False
    if not processes.is_main:
        if family.shards:
            family.shards.follow()
    else:
        with family.shards.leading() if family.shards else nullcontext():
            answer = yield from work()
    return processes.any(bool(answer))


def _leave() -> None:
    """Part from the other processes in order; a process that just ends while another still writes can be aborted by its threads."""
    if dist.is_initialized():
        dist.destroy_process_group()
