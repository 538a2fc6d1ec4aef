"""LoRA files for kohya's tools, and for A1111 and Forge: layers in the names of sd-scripts.

Those of a transformer are the first release's, where queries, keys and values are one layer. A pair of matrices for it from the pairs of
its parts: their downs below each other, [k r, in], and their ups as blocks on a diagonal, [out, k r]; nothing is lost.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreambooth.files.names import KOHYA_FILE
from dreambooth.formats.base import A1111, COMFY, KOHYA, LORAS, SMALL, Facts, Result
from dreambooth.formats.changes import Change, Pair
from dreambooth.formats.learned import changes_in
from dreambooth.formats.names import Slice, names_of, natives_of
from dreambooth.formats.small import LoRAFormat, Named, underscored, weight_of, with_outer

if TYPE_CHECKING:
    from dreambooth.families.base import Family

FOLDER = "--network_weights of its scripts"


class Kohya(LoRAFormat):
    """LoRA for kohya's tools, A1111 and Forge"""

    name = "kohya"

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        if not names_of(family).kohya or method not in SMALL:
            return {}
        if not family.kohya_prefixes:
            forge = {A1111: LORAS[A1111]} if names_of(family).in_forge else {}
            return {KOHYA: FOLDER, COMFY: LORAS[COMFY], **forge} if method == "lora" else {}
        if method in ("dora", "oft"):  # ComfyUI divides by another length; whole differences are A1111's and ComfyUI's alone
            return {KOHYA: FOLDER} if method == "dora" else LORAS
        return {**LORAS, KOHYA: FOLDER}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if method in SMALL:
            fix = "ComfyUI loads the file of --as comfy."
            return f"kohya's tools have no names for {method} files of {family.name}.", fix
        return super().why_not(family, method)

    def named(self, result: Result) -> Iterator[Named]:
        family = result.family
        assert family is not None
        names = names_of(family)
        for part, layers in result.changes.items():
            if part == family.denoiser_name and names.rows:
                yield from _fused(family, {layer: change for layer, change in layers.items() if isinstance(change, Pair)})
                continue
            for layer, change in layers.items():
                layer = layer if part == family.denoiser_name else with_outer(family, part, layer)
                yield f"{names.kohya[part]}_{underscored(layer)}", change


def write_beside(family: "Family", folder: Path, facts: Facts) -> Path:
    """A run's LoRA in its folder once more, in kohya's names, in the precision that it learned in; returns the new file."""
    path = folder / KOHYA_FILE
    Kohya().write(Result(family, None, changes_in(family), None, facts), path, None)
    return path


def _fused(family: "Family", layers: Mapping[str, Pair]) -> Iterator[Named]:
    """The pairs of a transformer by the first release's layers; a part that has none gets rows of zeros."""
    prefix, part = names_of(family).kohya[family.denoiser_name], family.denoiser_name
    todo = set(layers)
    for native, slices in natives_of(family).items():
        if any(one.layer in layers for one in slices):
            todo -= {one.layer for one in slices}
            yield (
                f"{prefix}_{underscored(native)}",
                fused([(one, layers.get(one.layer), weight_of(family, part, one.layer)) for one in slices]),
            )
    assert not todo, f"{todo} have no names of kohya's"


def fused(parts: list[tuple[Slice, Pair | None, Tensor]]) -> Change:
    """One pair from those of a fused layer's parts, in their order; None is a part in which nothing has learned."""
    own = [pair.rows(one.rows(len(pair.up))) if pair else None for one, pair, _ in parts]
    if len(own) == 1 and parts[0][1] is not None and parts[0][0].of == 1:
        return parts[0][1]
    sizes = [len(weight[one.rows(len(weight))]) for one, _, weight in parts]
    ups = [pair.up if pair else torch.zeros(size, 0) for pair, size in zip(own, sizes, strict=True)]
    down = torch.cat([pair.down for pair in own if pair])
    return Pair(down, torch.block_diag(*ups), alpha=float(len(down)))
