"""What one of several processes has of a denoiser that they hold together, counted without them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from dreambooth.families.offload import blocks_of
from dreambooth.families.shards import Shards
from dreambooth.memory.count import Alive

GATHERED = 2
"""How often a block, and what stands between blocks, is there while it is asked: as it came, and in its place; in a backward pass the next
block comes while one is in its place. As often its gradients are: as they were computed, and as they are sent. Counted in torch 2.13's
own pass on a CPU; on GPUs not measured."""


class CountedShards(Shards):
    """In the place of divided weights, whose shapes stay whole to compute with, tensors of the size of a share, and of gathered blocks."""

    def __init__(self, part: nn.Module, count: int, *, learns: bool):
        self.part, self.count, self.learns = part, count, learns
        self.divided = {parameter for parameter in part.parameters() if learns or not parameter.requires_grad}
        blocks = [self._bytes(block.parameters()) for _, block in blocks_of(part)]
        between = self._bytes(part.parameters()) - sum(blocks)
        self.at_work = _bytes(GATHERED * (max(blocks, default=0) + between))
        """What is whole while the network is asked."""
        self.sent = _bytes(self.at_work.nbytes if learns else 0)
        """Gradients that are whole during a backward pass."""
        self.own = [self.share_of(parameter) for parameter in part.parameters() if parameter in self.divided]

    def resident(self) -> list[Tensor]:
        """What a process has of the network."""
        return [*self.own, *(one for one in self.part.parameters() if one not in self.divided), *self.part.buffers()]

    def share_of(self, parameter: Tensor, value: Tensor | None = None) -> Tensor:
        """A tensor of the size of a share of a parameter, or of a value that has its shape; of others the value itself."""
        value = parameter if value is None else value
        if parameter not in self.divided or value.shape != parameter.shape or not len(value):
            return value
        return _bytes(-(-len(value) // self.count) * (value.nbytes // len(value)))

    @contextmanager
    def reducing(self, alive: Alive) -> Iterator[None]:
        """A block in which of each gradient, as soon as it is there, a share is kept."""
        kept: dict[Tensor, Tensor] = {}
        alive.add(self.sent, "gradients")
        hooks = [one.register_post_accumulate_grad_hook(partial(self._reduce, kept, alive)) for one in self.divided if one.requires_grad]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _reduce(self, kept: dict[Tensor, Tensor], alive: Alive, parameter: Tensor) -> None:
        parameter.grad = None
        if parameter not in kept:
            kept[parameter] = self.share_of(parameter)
            alive.add(kept[parameter], "gradients")

    def _bytes(self, parameters: Iterable[Tensor]) -> int:
        return sum(parameter.nbytes for parameter in parameters if parameter in self.divided)


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)
