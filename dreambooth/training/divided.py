"""An update of weights of which each process has a share: gradients come summed, one norm is over all shares, a state is saved whole."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from dreambooth.families.shards import Shards
from dreambooth.training.step import Update, norm_of, sum_over_processes


class DividedUpdate(Update):
    """The same step as one process's: the optimizer has shares for its tensors, each of which it steps by itself."""

    def __init__(self, optimizer: torch.optim.Optimizer, shards: Shards, *, max_grad_norm: float, precision: str, device: torch.device):
        super().__init__(optimizer, max_grad_norm=max_grad_norm, precision=precision, device=device)
        assert not self.scaler.is_enabled(), "each process would find a scale of its own"
        self.shards = shards
        self.shares = [parameter for parameter in self.parameters if shards.is_share(parameter)]
        self.others = [parameter for parameter in self.parameters if not shards.is_share(parameter)]
        shards.answers["states"] = self.state_dict

    def add_up(self) -> None:
        self.shards.take_gradients()
        sum_over_processes(self.others)

    def norm(self) -> Float[Tensor, ""]:
        shares = norm_of(self.shares).square().to(self.shards.device)
        dist.all_reduce(shares)
        return (shares + norm_of(self.others).to(shares.device).square()).sqrt()

    def forget(self) -> None:
        self.shards.take_gradients()
        super().forget()

    def state_dict(self) -> dict[str, Any]:
        state = self.optimizer.state_dict()
        with self.shards.together("states"):
            whole = {place: self._whole(place, values) for place, values in state["state"].items()}
        return {**state, "state": whole}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shares = {place: self._share(place, values) for place, values in state["state"].items()}
        self.optimizer.load_state_dict({**state, "state": shares})

    def _whole(self, place: int, values: dict[str, Any]) -> dict[str, Any]:
        """The state of a tensor (by its place among all), of which what has the share's shape is gathered."""
        own = self.parameters[place]
        if not self.shards.is_share(own):
            return values
        return {name: self.shards.whole(own, value) if _is_like(value, own) else value for name, value in values.items()}

    def _share(self, place: int, values: dict[str, Any]) -> dict[str, Any]:
        own = self.parameters[place]
        if not self.shards.is_share(own):
            return values
        return {name: self.shards.share(own, value) if _is_moment(value) else value for name, value in values.items()}


def _is_like(value: Any, parameter: nn.Parameter) -> bool:
    return _is_moment(value) and value.shape == parameter.shape


def _is_moment(value: Any) -> bool:
    """Whether it has a number for each of a weight's; a count of steps has none."""
    return isinstance(value, Tensor) and value.ndim > 0
