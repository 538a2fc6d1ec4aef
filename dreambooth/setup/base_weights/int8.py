"""int8 with a scale for each row of the output: the weights of LLM.int8() (Dettmers et al. 2022). Activations stay as they are."""

import torch
from torch import Tensor

from dreambooth.setup.base_weights.layers import Format, Packed


class Int8(Format):
    """Rounded to 8-bit integers, row by row."""

    rounding = "a part in 254 of a row's largest weight"
    for_convolutions = True

    def pack(self, weight: Tensor) -> Packed:
        rows = weight.flatten(1).float()
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
        return {"weight": (rows / scale).round().to(torch.int8), "scale": scale}

    def unpack(self, packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        return (packed["weight"].to(dtype) * packed["scale"].to(dtype)).view(shape)
