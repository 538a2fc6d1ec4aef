"""The training step, as the paper's equation reads. Families, methods and displays are not named here."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

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
    passes: int = 0,
) -> Float[Tensor, "b"]:
    """Gradients of Eq. 2 for this process's rows of an update, piece by piece; returns each row's error, [b], still on the device.

    Rows of different shapes come in batches of one shape each.

    The weights of all rows of all pieces and processes add up to Eq. 2's, so the gradients of pieces and processes are *summed*.
    `passes` is how many there are at least: processes that hold a network together do as many as one another, the last ones of rows that
    count for nothing.
    """
    errors = []
    cut = list(pieces_of([batch] if isinstance(batch, Batch) else batch, pieces))
    idle = [replace(cut[-1], weight=torch.zeros_like(cut[-1].weight))] * (passes - len(cut)) if passes > len(cut) else []
    for place, b in enumerate([*cut, *idle]):
        x_t = process.noise(b.x, b.eps, b.t)
        target = process.target(b.x, b.eps, b.t)
        with autocast(x_t.device, precision, keep=not family.shards):
            pred = family.answer(x_t, process.times[b.t], b.condition)
        error = squared_error(pred, target, b.mask)
        loss = dreambooth_loss(error * objective.weight(process, b.t), b.weight)
        (loss * scale).backward()
        if place < len(cut):
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


def norm_of(parameters: Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """The length of all gradients together."""
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


class Update:
    """Clip, then step, unless a gradient is not finite: then the update is skipped where the optimizer can do so on the device.

    Where it cannot, the step is taken all the same, for to ask would be to wait for the device in every update. Such a run ends before
    anything of it is saved.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, max_grad_norm: float, precision: str, device: torch.device):
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.skips_on_device = getattr(optimizer, "_step_supports_amp_scaling", False)

    @property
    def scale(self) -> Tensor | float:
        """What the loss is multiplied by, so that float16 gradients do not vanish."""
        return self.scaler.scale(torch.ones((), device=self.parameters[0].device)) if self.scaler.is_enabled() else 1.0

    @property
    def is_whole(self) -> bool:
        """Whether an update that is not finite leaves all weights as they were."""
        return self.skips_on_device or self.scaler.is_enabled()

    @contextmanager
    def backward(self) -> Iterator[None]:
        """A block whose backward passes are this update's, and no trial's."""
        yield

    def add_up(self) -> None:
        """Add up the gradients of all processes."""
        sum_over_processes(self.parameters)

    def norm(self) -> Float[Tensor, ""]:
        """The length of the gradient over everything that learns."""
        return norm_of(self.parameters)

    def forget(self) -> None:
        """Let go of the gradients at hand."""
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, of whole weights."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a state that `state_dict` gave."""
        self.optimizer.load_state_dict(state)

    def apply(self) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
        """One step from the gradients at hand: their norm before clipping, and whether the update was skipped (both on the device)."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        norm = self.norm()
        if self.max_grad_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        skipped = ~norm.isfinite()
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            if self.skips_on_device:
                self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        self.forget()
        return norm, skipped


class FusedUpdate(Update):
    """The same weights, but each tensor steps within the backward pass as soon as its gradient is whole, and no gradient is kept.

    For one backward pass an update, no clipping and no gradient scaler. A gradient that is not finite leaves its own tensor as it is, on
    the device where the optimizer allows it; other tensors have been stepped. Such a run ends before anything of it is saved.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, max_grad_norm: float, precision: str, device: torch.device):
        super().__init__(optimizer, max_grad_norm=max_grad_norm, precision=precision, device=device)
        assert not max_grad_norm
        assert not self.scaler.is_enabled()
        self._norms: list[Tensor] = []
        self._steps = False
        for place, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                parameter.register_post_accumulate_grad_hook(partial(self._take, place))

    @property
    def is_whole(self) -> bool:
        return False

    @contextmanager
    def backward(self) -> Iterator[None]:
        self._steps = True
        try:
            yield
        finally:
            self._steps = False

    def apply(self) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
        """The norm of the gradients that were stepped, and whether it is not finite."""
        norm = torch.linalg.vector_norm(torch.stack(self._norms))
        self._norms = []
        return norm, ~norm.isfinite()

    @torch.no_grad()
    def _take(self, place: int, parameter: Tensor) -> None:
        """Step one tensor of the group at a place, if this is an update, and let its gradient go."""
        gradient, parameter_alone = parameter.grad, {"params": [parameter]}
        if self._steps and gradient is not None:
            norm = torch.linalg.vector_norm(gradient)
            self._norms.append(norm)
            groups = self.optimizer.param_groups
            self.optimizer.param_groups = [{**groups[place], **parameter_alone}]
            if self.skips_on_device:
                self.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            try:
                self.optimizer.step()
            finally:
                self.optimizer.param_groups = groups
        parameter.grad = None
