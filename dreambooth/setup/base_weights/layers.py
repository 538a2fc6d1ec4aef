"""A frozen layer whose weight is kept packed, and unpacked for the moment in which it is asked, forward and backward."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.nn.grad import conv2d_input

Packed = Mapping[str, Tensor]


class Format(ABC):
    """A way to keep a weight. `pack` and `unpack` are functions: the same weight has the same bits wherever it is packed."""

    rounding: ClassVar[str]
    """What is lost, for people."""
    package: ClassVar[str | None] = None
    """The package that it needs beside torch."""
    for_convolutions: ClassVar[bool] = False
    edges: ClassVar[tuple[str, ...]] = ("pos_embed", "patch_embed", "proj_in", "proj_out", "lm_head")
    """How the names of layers end that are kept whole: where a network reads and answers, small rounding is seen."""

    @abstractmethod
    def pack(self, weight: Tensor) -> Packed:
        """What is kept of a weight of any shape, whose first dimension is the output's."""

    @abstractmethod
    def unpack(self, packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """The rounded weight."""


class _Stored(nn.Module):
    """What packed layers share. Their `weight` is unpacked each time that it is read."""

    format: Format
    names: tuple[str, ...]
    shape: torch.Size
    unpacked_dtype: torch.dtype
    bias: Tensor | None

    @property
    def packed(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"packed_{name}") for name in self.names}

    @property
    def weight(self) -> Tensor:
        return self.format.unpack(self.packed, self.shape, self.unpacked_dtype)

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        return _Product.apply(input.to(dtype), self, dtype, *self.packed.values())

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def pulled_back(self, shape: torch.Size, weight: Tensor, gradient: Tensor) -> Tensor:
        raise NotImplementedError


class StoredLinear(_Stored, nn.Linear):  # type: ignore[misc]
    """A linear layer with a packed weight."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))

    def pulled_back(self, shape: torch.Size, weight: Tensor, gradient: Tensor) -> Tensor:
        return gradient @ weight


class StoredConv2d(_Stored, nn.Conv2d):  # type: ignore[misc]
    """A convolution with a packed weight."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def pulled_back(self, shape: torch.Size, weight: Tensor, gradient: Tensor) -> Tensor:
        return conv2d_input(shape, weight, gradient, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[arg-type]


class _Product(torch.autograd.Function):
    """A layer's answer, whose backward pass unpacks the weight again: torch would keep the unpacked one of every layer until then."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Stored, dtype: torch.dtype, *packed: Tensor) -> Tensor:
        ctx.layer, ctx.dtype, ctx.shape = layer, dtype, x.shape
        ctx.save_for_backward(*(one.detach() for one in packed))  # where they lie now: layers may be elsewhere by then
        return layer.product(x, layer.format.unpack(layer.packed, layer.shape, dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        layer = ctx.layer
        packed = dict(zip(layer.packed, ctx.saved_tensors, strict=True))
        weight = layer.format.unpack(packed, layer.shape, ctx.dtype)
        return layer.pulled_back(ctx.shape, weight, gradient.to(ctx.dtype)), None, None, *(None for _ in packed)


def as_parameters(part: nn.Module) -> None:
    """Keep packed weights as parameters, which FSDP divides; it leaves buffers whole."""
    for layer in part.modules():
        for name in (f"packed_{one}" for one in layer.names) if isinstance(layer, _Stored) else ():
            value = layer.get_buffer(name)
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(value, requires_grad=False))


@torch.no_grad()
def store_layer(layer: nn.Linear | nn.Conv2d, format: Format) -> None:
    """Pack a layer's weight, in its place."""
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return
    weight = layer.weight.detach()
    packed = format.pack(weight)
    del layer.weight
    stored: Any = layer
    stored.__class__ = StoredLinear if isinstance(layer, nn.Linear) else StoredConv2d
    stored.format, stored.names, stored.shape, stored.unpacked_dtype = format, tuple(packed), weight.shape, weight.dtype
    for name, value in packed.items():
        layer.register_buffer(f"packed_{name}", value, persistent=False)
