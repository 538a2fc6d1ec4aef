"""The kernel of the denoiser's attention, set by diffusers' own dispatcher."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dreambooth.core.errors import SettingError
from dreambooth.families import Family
from dreambooth.setup.config import TrainConfig
from dreambooth.training.execution import AttentionBackend

SETTING = "--attention_backend"
EVERY = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True)
class Kernel:
    """What a kernel needs. It must have a backward pass, and no download of code."""

    devices: tuple[str, ...] = ("cuda",)
    needs_half: bool = False
    takes_masks: bool = False
    install: str = "Leave it out."
    """How to come by it, where it is not part of torch."""


KERNELS: Mapping[AttentionBackend, Kernel] = {
    "native": Kernel(EVERY, takes_masks=True), "_native_math": Kernel(EVERY, takes_masks=True),
    "_native_efficient": Kernel(takes_masks=True), "_native_flash": Kernel(needs_half=True), "_native_cudnn": Kernel(needs_half=True),
    "flash": Kernel(needs_half=True, install="pip install flash-attn"), "xformers": Kernel(install="pip install xformers"),
    "_flash_3": Kernel(needs_half=True, install="Build it from the folder `hopper` of flash-attention."),
}  # fmt: skip


def refuse_attention(config: TrainConfig, device: torch.device) -> None:
    """Raise SettingError for a kernel that is not installed, or cannot compute what this run computes on this device."""
    name = config.execution.attention_backend
    if name is None:
        return
    kernel, others = KERNELS[name], f"Leave it out, or use one of {device.type}'s: {', '.join(_of_device(device))}."
    if device.type not in kernel.devices:
        raise SettingError(SETTING, f"{name} runs on {' or '.join(kernel.devices)}, not on {device.type}.", fix=others)
    if kernel.needs_half and config.loop.mixed_precision == "no":
        raise SettingError(SETTING, f"{name} computes in half precision alone.", fix="Add --mixed_precision bf16.")
    _refuse_absent(name, kernel)


def refuse_fixed_attention(config: TrainConfig, kind: type[Family]) -> None:
    """Raise SettingError for a kernel that a family's attention cannot have."""
    name = config.execution.attention_backend
    if name not in (None, "native") and kind.fixed_attention:
        raise SettingError(SETTING, f"diffusers leaves the attention of {kind.name} to torch, which chooses.", fix="Leave it out.")
    if name and kind.masked_attention and not KERNELS[name].takes_masks:
        reason = f"{name} has no mask, by which {kind.name} keeps its attention from padding."
        raise SettingError(SETTING, reason, fix="Leave it out, or use _native_efficient.")


def use_attention(family: Family, name: AttentionBackend | None) -> None:
    """Have the denoiser's attention computed by a kernel; other networks, and later ones of this process, keep torch's choice."""
    if name is None or family.fixed_attention:
        return
    from diffusers.models.attention_dispatch import attention_backend

    notices = logging.getLogger("diffusers.models.modeling_utils")
    before = notices.level
    notices.setLevel(logging.ERROR)  # that its interface may change is ours to see to
    try:
        with attention_backend("native"):  # diffusers makes the chosen one the default of every network; at the block's end that is undone
            family.denoiser.set_attention_backend(name)
    finally:
        notices.setLevel(before)


def rehearsed(config: TrainConfig) -> TrainConfig:
    """With a kernel that takes tensors without numbers, and as much memory: all but the plain one keep no table of scores."""
    kept = config.execution.attention_backend == "_native_math"
    return config if kept else config.updated({("execution", "attention_backend"): None})


def _of_device(device: torch.device) -> list[str]:
    return [name for name, kernel in KERNELS.items() if device.type in kernel.devices]


def _refuse_absent(name: AttentionBackend, kernel: Kernel) -> None:
    """Raise SettingError where diffusers says that a kernel's package is not there, or too old."""
    from diffusers.models.attention_dispatch import attention_backend

    try:
        with attention_backend(name):
            return
    except RuntimeError as error:
        said = str(error).partition(" Please ")[0].rstrip(".")
        raise SettingError(SETTING, f"{said}.", fix=kernel.install) from None
