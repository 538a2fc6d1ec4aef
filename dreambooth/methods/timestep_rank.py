"""T-LoRA's masks: how many of a LoRA's components act at a time (Soboleva et al. 2026). Nothing is learned here.

The denoiser is asked for one time at a time, in training and in drawing: a hook on it reads that time, and hooks on the low-rank layers
let the first r(t) components through.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreambooth.families.base import Family


def rank_at(time: Float[Tensor, "b"], *, rank: int, lowest: int) -> Int[Tensor, "b"]:
    """Components that act at `time`, in [0, 1] from no noise to noise alone: floor((r - r_min) (1 - time)) + r_min, long [b]."""
    return ((rank - lowest) * (1 - time)).floor().long() + lowest


def mask_by_time(family: Family, *, rank: int, lowest: int) -> None:
    """Let the denoiser's LoRA layers act by the time that the denoiser is called with."""
    from peft.tuners.lora import LoraLayer

    span = 1.0 if family.process.prediction == "flow" else float(len(family.process.times))
    seen: dict[str, Tensor] = {}

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        told = kwargs["timestep"] if "timestep" in kwargs else args[1]
        time = torch.as_tensor(told).reshape(-1).float() / span
        act = rank_at(time, rank=rank, lowest=lowest)
        seen["mask"] = torch.arange(rank, device=act.device) < act[:, None]

    def cut(module: Any, args: tuple[Any, ...], out: Tensor) -> Tensor:
        """`out` is [b, tokens, r], or [b, r, h, w] of a convolution; a mask of one row serves all."""
        mask = seen["mask"].to(out.device, out.dtype)
        shape = (len(mask), rank, 1, 1) if isinstance(module, torch.nn.Conv2d) else (len(mask), *[1] * (out.ndim - 2), rank)
        return out * mask.view(shape)

    family.denoiser.register_forward_pre_hook(read, with_kwargs=True)
    for layer in family.denoiser.modules():
        if isinstance(layer, LoraLayer):
            for matrix in layer.lora_A.values():
                matrix.register_forward_hook(cut)
