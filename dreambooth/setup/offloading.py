"""When frozen weights can be offloaded in the machine's memory while others are computed with."""

from collections.abc import Iterator

import torch

from dreambooth.core.errors import SettingError
from dreambooth.families import Family
from dreambooth.families.offload import Offload
from dreambooth.setup.config import TrainConfig

SETTING = "--group_offload"


def refuse_offload(config: TrainConfig, device: torch.device) -> None:
    """Raise SettingError where nothing would come of it, or where it would be wrong."""
    if not config.execution.group_offload:
        return
    for reason, fix in obstacles(config):
        raise SettingError(SETTING, reason, fix=fix)
    if device.type != "cuda":
        is_shared = device.type in ("cpu", "mps")
        reason = f"{device.type} {'computes in the memory in which weights would be kept' if is_shared else 'is no CUDA device'}."
        raise SettingError(SETTING, reason, fix="Leave it out; `dreambooth plan --memory 12GB` plans for a GPU.")


def obstacles(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """What keeps a run's weights on the device: the reason and the fix."""
    if config.execution.torch_compile:
        yield "compiled code keeps the weights that it was compiled with.", "Leave out --torch_compile, or this."
    if not config.loop.gradient_checkpointing:
        yield "without gradient checkpointing every block's weights stay until the backward pass.", "Add --gradient_checkpointing."


def offload(config: TrainConfig, family: Family, device: torch.device) -> None:
    """Keep the blocks of denoiser and text encoders in RAM, and have them come to a device when they are asked."""
    if not config.execution.group_offload:
        return
    family.offload = Offload(device)
    for name in (family.denoiser_name, *family.encoder_names):
        family.offload.add(name, family.parts[name], learned=config.method.learned_in_place)
