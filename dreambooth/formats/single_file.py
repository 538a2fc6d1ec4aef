"""A checkpoint in one file, as ComfyUI, A1111, Forge and InvokeAI keep their models: Stable Diffusion 1 and 2, and SDXL."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dreambooth.core.errors import SettingError
from dreambooth.files.reading import Damaged, read_json
from dreambooth.files.tensors import save_tensors
from dreambooth.formats.base import A1111, COMFY, FLAG, SMALL, Format, Result, Written, lighten
from dreambooth.formats.checkpoints import LEVELS, PER_LEVEL, VAE_LEVELS, checkpoint, marks
from dreambooth.formats.headers import checkpoint_notes
from dreambooth.formats.pipeline import rounds, whole, why_no_weights

if TYPE_CHECKING:
    from dreambooth.families.base import Family

FOLDERS = {COMFY: "ComfyUI/models/checkpoints", A1111: "stable-diffusion-webui/models/Stable-diffusion"}
INVOKE = {"InvokeAI": "its model manager", "diffusers": "from_single_file"}


class SingleFile(Format):
    """The whole model as one file, small weights merged into it: SD and SDXL"""

    name = "single_file"

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        fits = family.pipelines[0] in LEVELS and method in ("full", *SMALL)
        return {**FOLDERS, **INVOKE} if fits else {}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if family.pipelines[0] not in LEVELS:
            fix = "Export it --as pipeline, and small weights --as comfy."
            return f"single files are written of Stable Diffusion and SDXL, not of {family.name}.", fix
        return why_no_weights(method)

    def check_model(self, family: "type[Family]", folder: Path) -> None:
        kind = family.pipelines[0]
        unet, vae = (_config(folder / name) for name in ("unet", "vae"))
        levels, inside = len(unet.get("block_out_channels", ())), len(vae.get("block_out_channels", ()))
        wrong = [
            (levels != LEVELS[kind], f"its UNet has {levels} levels, where {family.name} has {LEVELS[kind]}"),
            (unet.get("layers_per_block") != PER_LEVEL, f"its UNet has {unet.get('layers_per_block')} blocks a level, not {PER_LEVEL}"),
            (inside != VAE_LEVELS, f"its VAE has {inside} levels, where {family.name}'s has {VAE_LEVELS}"),
        ]  # fmt: skip
        reason = next((words for is_so, words in wrong if is_so), None)
        if reason:
            raise SettingError(FLAG, f"no program knows this model's shape as a single file: {reason}.", fix="Export it --as pipeline.")

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        family = whole(result)
        lighten(family, dtype, result.stored)
        tensors = checkpoint(family.pipe) | marks(family.pipe)
        save_tensors(path, tensors, texts=checkpoint_notes(family, result.facts))
        result.family = None
        return Written(len(tensors), "weights", _remarks(family, path))

    def rounds(self, result: Result, dtype: torch.dtype | None) -> bool:
        return rounds(result, dtype)

    def read_back(self, path: Path, result: Result) -> "Family | None":
        return result.others.of_file(path)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "config.json")
    except (FileNotFoundError, Damaged):
        return {}


def _remarks(family: "Family", path: Path) -> tuple[str, ...]:
    """What a model that predicts v needs in programs that cannot see it in the file."""
    if family.process.prediction != "v_prediction":
        return ()
    if len(family.encoder_names) == 2:
        return ("It predicts v, and is marked so (v_pred) for ComfyUI and A1111.",)
    reads = f"A1111 reads it from {path.stem}.yaml beside the file, ComfyUI by the node ModelSamplingDiscrete"
    return (f"It predicts v, which no mark in a Stable Diffusion file says: {reads}.",)
