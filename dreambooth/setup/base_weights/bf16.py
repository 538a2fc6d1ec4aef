"""bfloat16: half the memory of float32, its range, 8 bits of its 24."""

import torch
from torch import Tensor

from dreambooth.setup.base_weights.layers import Format, Packed


class BFloat16(Format):
    """Rounded to bfloat16."""

    rounding = "a part in 256"
    for_convolutions = True
    edges = ()

    def pack(self, weight: Tensor) -> Packed:
        return {"weight": weight.to(torch.bfloat16)}

    def unpack(self, packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        return packed["weight"].to(dtype)
