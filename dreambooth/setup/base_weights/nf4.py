"""NormalFloat of 4 bits, a scale for 64 weights (QLoRA, Dettmers et al. 2023, section 3), by bitsandbytes' kernels."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from dreambooth.setup.base_weights.layers import Format, Packed

BLOCK = 64


class NormalFloat4(Format):
    """Rounded to 16 levels, blocks of 64 weights by themselves."""

    rounding = "to the nearest of 16 levels, in blocks of 64"
    package = "bitsandbytes"

    def pack(self, weight: Tensor) -> Packed:
        import bitsandbytes  # noqa: F401  its operators are torch's from here on

        flat = weight.flatten()
        rows = pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        packed, largest = torch.ops.bitsandbytes.quantize_4bit.default(rows, BLOCK, "nf4", torch.uint8)
        return {"weight": packed, "largest": largest}

    def unpack(self, packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        dequantize = torch.ops.bitsandbytes.dequantize_4bit.default
        # A row a block: of others bitsandbytes 0.50 mixes up the scales on a CPU, where 64 does not divide the rows.
        rows = dequantize(packed["weight"], packed["largest"], BLOCK, "nf4", (len(packed["largest"]), BLOCK), dtype)
        return rows.flatten()[: shape.numel()].view(shape)
