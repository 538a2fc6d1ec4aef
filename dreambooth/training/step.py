"""The training step, as the paper's equation reads. Families, methods and displays are not named here."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreambooth.core.batch import Batch, pieces_of
from dreambooth.core.device import autocast
from dreambooth.core.loss import dreambooth_loss, squared_error
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.training.objective import Objective


def forward_backward(
    family: Family,
    batch: Batch | Sequence[Batch],
    *,
    process: NoiseSchedule,
    objective: Objective,
    pieces: int = 1,
    precision: str = "no",
    scale: Tensor | float = 1.0,
) -> Float[Tensor, "b"]:
    """Gradients of Eq. 2 for this process's rows of an update, piece by piece; returns each row's error, [b], still on the device.

    Rows of different shapes come in batches of one shape each.

    The weights of all rows of all pieces and processes add up to Eq. 2's, so the gradients of pieces and processes are *summed*.
    """
    errors = []
    for b in pieces_of([batch] if isinstance(batch, Batch) else batch, pieces):
        x_t = process.noise(b.x, b.eps, b.t)
        target = process.target(b.x, b.eps, b.t)
        with autocast(x_t.device, precision):
            pred = family.answer(x_t, process.times[b.t], b.condition)
        error = squared_error(pred, target, b.mask)
        loss = dreambooth_loss(error * objective.weight(process, b.t), b.weight)
        (loss * scale).backward()
        errors.append(error.detach())
    return torch.cat(errors)


def sum_over_processes(parameters: Iterable[nn.Parameter], *, bucket_bytes: int = 64 << 20) -> None:
    """Add up the gradients of all processes, in buckets; nothing to do for a single one."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.grad.nbytes
        if size >= bucket_bytes:
            _all_reduce(bucket)
            bucket, size = [], 0
    _all_reduce(bucket)


def _all_reduce(bucket: list[Tensor]) -> None:
    if bucket:
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


class Update:
    """Clip, then step, unless a gradient is not finite: then the update is skipped, on the device where the optimizer allows it."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, max_grad_norm: float, precision: str, device: torch.device):
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.skips_on_device = getattr(optimizer, "_step_supports_amp_scaling", False)

    @property
    def scale(self) -> Tensor | float:
        """What the loss is multiplied by, so that float16 gradients do not vanish."""
        return self.scaler.scale(torch.ones((), device=self.parameters[0].device)) if self.scaler.is_enabled() else 1.0

    def apply(self) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
        """One step from the gradients at hand: their norm before clipping, and whether the update was skipped (both on the device)."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        skipped = ~norm.isfinite()
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif self.skips_on_device:
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif not bool(skipped):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, skipped
