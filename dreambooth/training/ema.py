"""The moving average of what learns: smoother than the last weights, and what previews and the output hold."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average <- decay average + (1 - decay) weights, decay = min(max_decay, (1 + step) / (10 + step)), so that the start counts little."""

    def __init__(self, parameters: Sequence[nn.Parameter], max_decay: float, settle: Callable[[], None]):
        """`settle` puts parameters back to where they must stay: a mean of vectors of one length is shorter than they are."""
        self.parameters, self.max_decay, self.settle = list(parameters), max_decay, settle
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update `step` (from 1)."""
        decay = min(self.max_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, self.parameters, 1 - decay)  # type: ignore[arg-type]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which the model holds the averages."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        try:
            self._put(self.values)
            self.settle()
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, list(values))  # type: ignore[arg-type]
