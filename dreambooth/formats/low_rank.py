"""A small file from a run that changed whole weights: of each layer's difference the R directions that hold the most of it.

W' - W = U S V^T by singular values; up = U sqrt(S), down = sqrt(S) V^T of the R largest. What is no matrix (norms, biases, embeddings)
has no place in such a file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dreambooth.core.errors import SettingError
from dreambooth.formats.base import FLAG, SMALL, Result, Written
from dreambooth.formats.changes import Pair
from dreambooth.formats.comfy import Comfy
from dreambooth.formats.learned import Changes, differences
from dreambooth.formats.pipeline import why_no_weights
from dreambooth.formats.small import weight_of

if TYPE_CHECKING:
    from dreambooth.families.base import Family

RANK = 64
OVERSAMPLED, ITERATIONS, LARGE = 8, 4, 1024
"""Of the randomized search that takes the place of the whole decomposition for matrices larger than this on both sides."""


class LowRank(Comfy):
    """A LoRA of rank R from any result: the low-rank part of what it has changed"""

    name = "lora"
    is_exact = False

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        return super().readers(family, "lora") if method in ("full", *SMALL) else {}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        return super().why_not(family, "lora") if method in ("full", *SMALL) else why_no_weights(method)

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        tuned = result.family
        assert tuned is not None
        changes, kept = low_rank(tuned, _all(result, tuned), result.rank or RANK)
        if not changes:
            raise SettingError(FLAG, "no matrix of this result differs from the base model's.", fix="Has it been trained?")
        result.changes = changes
        written = super().write(result, path, dtype)
        return Written(written.count, written.of_what, _remarks(kept, result.rank or RANK), {"kept": _rounded(kept)})


def _all(result: Result, tuned: "Family") -> Iterator[tuple[str, str, Tensor]]:
    """Part, layer and difference of everything that has changed, one after the other."""
    if not result.changes:
        found = differences(tuned, result.others.base())
        yield from ((part, layer, change.tensors["diff"]) for part, layers in found.items() for layer, change in layers.items())
        return
    for part, layers in result.changes.items():
        for layer, change in layers.items():
            yield part, layer, change.difference(weight_of(tuned, part, layer).detach().cpu())


def low_rank(family: "Family", changed: Iterator[tuple[str, str, Tensor]], rank: int) -> tuple[Changes, dict[str, tuple[float, float]]]:
    """Pairs of at most this rank for all that is a matrix or a convolution, and, of every change, its square and what of it is kept."""
    found: Changes = {}
    kept: dict[str, tuple[float, float]] = {}
    for part, layer, difference in changed:
        square, share = float(difference.square().sum()), 0.0
        if not square:
            continue
        if isinstance(_module(family, part, layer), (nn.Linear, nn.Conv2d)):
            pair, share = decomposed(difference, rank)
            found.setdefault(part, {})[layer] = pair
        kept[f"{part}.{layer}"] = (square, square * share)
    return found, kept


def _module(family: "Family", part: str, layer: str) -> nn.Module | None:
    """The layer whose weight is meant; None for a bias, or a parameter that is no layer's weight."""
    modules = dict(family.parts[part].named_modules())
    module = modules.get(layer)
    return module.get_base_layer() if module is not None and hasattr(module, "get_base_layer") else module  # type: ignore[operator]


def decomposed(difference: Tensor, rank: int) -> tuple[Pair, float]:
    """up @ down of the largest singular values, and the share of the squared difference that they hold; convolutions as [out, in k k]."""
    matrix = difference.flatten(1)
    rank = min(rank, *matrix.shape)
    if min(matrix.shape) > LARGE and 4 * rank < min(matrix.shape):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            u, s, v = torch.svd_lowrank(matrix, q=rank + OVERSAMPLED, niter=ITERATIONS)
        down = v.T
    else:
        u, s, down = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    down, up = root[:, None] * down[:rank], u[:, :rank] * root
    if difference.ndim == 4:
        down, up = down.view(rank, *difference.shape[1:]), up[..., None, None]
    share = float((s[:rank].square().sum() / matrix.square().sum()).clamp(0, 1))
    return Pair(down.contiguous(), up.contiguous(), alpha=float(rank)), share


def _remarks(kept: Mapping[str, tuple[float, float]], rank: int) -> tuple[str, ...]:
    whole, held = (sum(one[place] for one in kept.values()) for place in (0, 1))
    shares = {name: part / square for name, (square, part) in kept.items() if part}
    least = min(shares, key=lambda name: shares[name])
    lost = sum(square for square, part in kept.values() if not part)
    words = f"Rank {rank} keeps {held / whole:.1%} of the squared difference"
    words += f", by layer {shares[least]:.1%} ({least}) to {max(shares.values()):.1%}"
    return (words + (f"; {lost / whole:.1%} is in norms, biases and embeddings, which such a file has no place for." if lost else "."),)


def _rounded(kept: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The kept share by layer."""
    return {name: round(part / square, 4) for name, (square, part) in kept.items()}
