"""What the formats of small files share: each layer's change under its name in a program, with alpha, and headers."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreambooth.files.tensors import save_tensors
from dreambooth.formats.base import SMALL, Format, Result, Written, rounded
from dreambooth.formats.changes import Change, Pair
from dreambooth.formats.fit import base_layer
from dreambooth.formats.headers import LENGTHS, kohya_notes
from dreambooth.formats.loras import add_lora, read_lora

if TYPE_CHECKING:
    from dreambooth.families.base import Family

OUTER = "text_model."
Named = tuple[str, Change]
"""What stands before the tensors' roles, and the change."""


class LoRAFormat(Format):
    """A file of small weights by layer"""

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if method == "full":
            reason = "a run of --method full has changed whole weights."
            return reason, "Export it --as pipeline or single_file, or --as lora --rank 64."
        if method not in SMALL:
            return f"--method {method} learns a new word.", "Export it --as embedding."
        return super().why_not(family, method)

    @abstractmethod
    def named(self, result: Result) -> Iterator[Named]:
        """The changes under the names of the format."""

    def tensors(self, name: str, change: Change) -> dict[str, Tensor]:
        """The tensors of one layer, by their names in the file: kohya's and LyCORIS' roles, alpha beside them."""
        found = {f"{name}.{role}": value for role, value in change.tensors.items()}
        if change.rank is not None:
            found[f"{name}.alpha"] = torch.tensor(float(change.rank if change.alpha is None else change.alpha))
        if change.magnitude is not None:
            found[f"{name}.dora_scale"] = change.magnitude
        return found

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        assert result.family is not None
        named = list(self.named(result))
        tensors = {key: value for name, change in named for key, value in self.tensors(name, change).items()}
        alone = {name: value for name, value in tensors.items() if not name.endswith(".alpha")}
        ranks, alphas = {change.rank for _, change in named}, {change.alpha for _, change in named}
        notes = kohya_notes(
            result.family, result.facts, rank=ranks.pop() if len(ranks) == 1 else None, alpha=alphas.pop() if len(alphas) == 1 else None,
            count=len(named),
        )  # fmt: skip
        if any(change.lengths == "of the untuned row" for _, change in named):
            notes[LENGTHS] = "untuned"
        save_tensors(path, {**tensors, **rounded(alone, dtype)}, texts=notes)
        return Written(len(named), "layers")

    def read_back(self, path: Path, result: Result) -> "Family | None":
        base = result.untuned()
        add_lora(base, read_lora(str(path)))
        return base


def underscored(layer: str) -> str:
    return layer.replace(".", "_")


def with_outer(family: "Family", part: str, layer: str) -> str:
    """A layer of a text encoder as all but transformers 5 name it: CLIP's stand below `text_model`."""
    is_clip = str(getattr(family.parts[part].config, "model_type", "")).startswith("clip")
    return layer if not is_clip or layer.startswith((OUTER, "text_projection")) else f"{OUTER}{layer}"


def for_untuned_rows(change: Change, weight: Tensor) -> Change:
    """DoRA's lengths for a reader that divides by the untuned row's length: times |W| / |V| they come out the same."""
    if change.magnitude is None:
        return change
    bare = replace(change, magnitude=None)
    before = weight.detach().float().cpu()
    ratio = before.flatten(1).norm(dim=1) / (before + bare.difference(before)).flatten(1).norm(dim=1)
    return replace(change, magnitude=change.magnitude * ratio.view_as(change.magnitude), lengths="of the untuned row")


def weight_of(family: "Family", part: str, layer: str) -> Tensor:
    weight = base_layer(family.parts[part].get_submodule(layer)).weight
    assert isinstance(weight, Tensor)
    return weight


def in_pairs(name: str, change: Pair) -> Mapping[str, Tensor]:
    """A pair as diffusers and PEFT name it, alpha over rank within: there is no alpha for a reader to overlook."""
    own = change.scaled(change.factor)
    lengths = {} if change.magnitude is None else {f"{name}.dora_scale": change.magnitude}
    return {f"{name}.lora_A.weight": own.down, f"{name}.lora_B.weight": own.up, **lengths}
