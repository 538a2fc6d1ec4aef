"""A whole pipeline of diffusers': what small weights do is added to the model's, in float32, and each weight rounded once."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dreambooth.formats.base import DIFFUSERS, SMALL, Format, Result, Written, lighten
from dreambooth.formats.learned import merge

if TYPE_CHECKING:
    from dreambooth.families.base import Family

WORDS = ("textual_inversion", "custom_diffusion")


class Pipeline(Format):
    """The whole model as a pipeline folder, small weights merged into it"""

    name = "pipeline"
    suffix = ""

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        return {DIFFUSERS: "from_pretrained", "dreambooth": "generate FOLDER"} if method in ("full", *SMALL) else {}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        return why_no_weights(method)

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        family = whole(result)
        lighten(family, dtype, result.stored)
        family.save(path)
        return Written(len(list(path.rglob("*.safetensors"))), "files of weights")

    def rounds(self, result: Result, dtype: torch.dtype | None) -> bool:
        return rounds(result, dtype)

    def read_back(self, path: Path, result: Result) -> "Family | None":
        return result.others.of_folder(path)


def rounds(result: Result, dtype: torch.dtype | None) -> bool:
    """Whether a whole model is rounded when it is written: as asked for, or as the base model's own files are."""
    return dtype not in (None, torch.float32) or (dtype is None and any(kind != torch.float32 for kind in result.stored.values()))


def why_no_weights(method: str) -> tuple[str, str]:
    """Why a method's result is no whole model."""
    if method in WORDS:
        return f"--method {method} learns a new word, which no weight of a pipeline holds.", "Export it --as embedding."
    return f"how --method {method} changes weights is not known here.", ""


def whole(result: Result) -> "Family":
    """The model as it draws, in float32, with nothing beside its weights."""
    if not result.changes:
        assert result.family is not None
        return result.family
    family = result.untuned()
    merge(family, result.changes)
    return family
