"""In what the frozen weights of a base model are kept while something small learns beside them: one file each, and its line here."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from dreambooth.setup.base_weights.bf16 import BFloat16
from dreambooth.setup.base_weights.fp8 import Float8
from dreambooth.setup.base_weights.int8 import Int8
from dreambooth.setup.base_weights.layers import Format, store_layer
from dreambooth.setup.base_weights.nf4 import NormalFloat4

BaseWeights = Literal["bf16", "fp8", "int8", "nf4"]
FORMATS: Mapping[BaseWeights, Format] = {"bf16": BFloat16(), "fp8": Float8(), "int8": Int8(), "nf4": NormalFloat4()}


def store(part: nn.Module, name: BaseWeights, *, learned: tuple[str, ...] = ()) -> None:
    """Keep a frozen part's layers in a format, but for those at its edges, those that its library keeps whole, and those whose weights'
    names end on one of `learned`. Convolutions that a format is not for (4 bits) are kept in int8.

    What the layers compute is what they would with the rounded weights, in any precision.
    """
    chosen, kept = FORMATS[name], tuple(getattr(part, "_keep_in_fp32_modules", None) or ())
    for path, layer in list(part.named_modules()):
        whole = any(one in path for one in kept) or path.endswith(chosen.edges) or (learned and f"{path}.weight".endswith(learned))
        if not whole and isinstance(layer, nn.Linear | nn.Conv2d) and type(layer) in (nn.Linear, nn.Conv2d):
            store_layer(layer, chosen if isinstance(layer, nn.Linear) or chosen.for_convolutions else FORMATS["int8"])


__all__ = ["FORMATS", "BaseWeights", "store"]
