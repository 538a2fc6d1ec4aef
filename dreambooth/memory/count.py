"""How many bytes are alive at each moment of a computation on fake tensors, and what they belong to when they are most."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SMALL = 1 << 21
"""Numbers in a tensor up to which it is computed for real, where all that it is made of is."""
BLOCK = 512
"""Bytes by which torch's allocators round up: 64 on a CPU, 512 on CUDA."""

ACTIVATIONS = "activations"
"""What belongs to nothing else."""


@dataclass
class Peak:
    """The moment at which most was alive."""

    bytes: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)
    """By what it belongs to, bytes."""


class Alive(TorchDispatchMode):
    """Counts storages from where they are made to where the last tensor of them goes; views and in-place results are counted once.

    Tensors that come of real and small ones alone are real: lengths, times and masks keep their values, and code that asks for one
    goes the way that it goes in a run. What a network with fake weights has touched is fake. Enter it inside the `FakeTensorMode`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now: Counter[str] = Counter()
        self.total = 0
        self.peak = Peak()
        self._known: dict[int, tuple[int, str]] = {}
        self._kind = ACTIVATIONS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = self._run(func, args, kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out

    def add(self, tensor: torch.Tensor, kind: str | None = None) -> None:
        """Count the storage of a tensor, if it is not yet; with `kind`, as that from now on."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            size, before = self._known[key]
            if kind and kind != before:
                self._known[key] = (size, kind)
                self.now[before] -= size
                self.now[kind] += size
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._known[key] = (size, kind or self._kind)
        self.now[kind or self._kind] += size
        self.total += size
        weakref.finalize(storage, self._gone, key)
        if self.total > self.peak.bytes:
            self.peak = Peak(self.total, {name: count for name, count in self.now.items() if count})

    def ignore(self, tensor: torch.Tensor) -> None:
        """Count nothing for the storage of a tensor, which outlives this."""
        self._known[tensor.untyped_storage()._cdata] = (0, ACTIVATIONS)

    @contextmanager
    def making(self, kind: str) -> Iterator[None]:
        """A block in which what is made belongs to `kind`."""
        self._kind = kind
        try:
            yield
        finally:
            self._kind = ACTIVATIONS

    @contextmanager
    def gradients(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """A block in which what a backward pass leaves in `grad` belongs to the gradients."""
        hooks = [one.register_post_accumulate_grad_hook(self._gradient) for one in parameters]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self.add(parameter.grad, "gradients")

    def _gone(self, key: int) -> None:
        size, kind = self._known.pop(key)
        self.now[kind] -= size
        self.total -= size

    @staticmethod
    def _run(func: Any, args: Any, kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if func is torch.ops.aten.nonzero.default:
                return _places(args[0])
            if func is torch.ops.aten.index.Tensor:
                args = (args[0], [place for index in args[1] for place in _places(index, apart=True)])
            return func(*args, **kwargs)
        if not tensors:
            made = func(*args, **kwargs)  # fake, to see how large it would be
            leaves = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
            if any(leaf.numel() > SMALL for leaf in leaves):
                return made
        with unset_fake_temporarily():
            return func(*args, **kwargs)


def _places(index: Any, *, apart: bool = False) -> Any:
    """Where a mask holds; of one that has lost its values everywhere, for prompts are as long as they may be. `apart`: by axis, and an
    index that is no mask as it is."""
    if index is None or (apart and index.dtype != torch.bool):
        return [index]
    with unset_fake_temporarily():
        mask = torch.ones(index.shape, dtype=torch.bool) if isinstance(index, FakeTensor) else index
        places = mask.nonzero()
        return list(places.unbind(1)) if apart else places


def fake() -> FakeTensorMode:
    """The mode under which networks are made and asked without numbers."""
    return FakeTensorMode(allow_non_fake_inputs=True)
