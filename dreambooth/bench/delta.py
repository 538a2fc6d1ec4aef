"""A full fine-tune as a small file: what each weight has moved, as a product of two thin matrices.

    D = W_tuned - W_base [o, i];   D ~ U V,   of the r largest singular values

which is the best rank-r approximation in the Frobenius norm (Eckart and Young 1936), found as for an exported LoRA
(`formats.low_rank.decomposed`). Vectors are kept whole. Factors are float16 beside a scale each, since moves are often below float16's
smallest normal number.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of, fingerprint
from dreambooth.families.base import Family
from dreambooth.files.entries import whole_entries
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.formats.low_rank import decomposed
from dreambooth.setup.open import read_config
from dreambooth.setup.record import RECORD

DELTA, CONFIG = "delta.safetensors", "config.yaml"


def write_delta(run: Path, folder: Path, *, rank: int, allow_pickle: bool = False) -> Path:
    """The run's delta in `folder`, with its configuration and record beside; returns its path.

    Raises SettingError for a run whose method leaves the base model's weights as they are.
    """
    config = read_config(run, allow_pickle=allow_pickle)
    if not config.method.trains_whole_parts:
        fix = "Keep it as `adapter`: its own file is small already."
        raise SettingError("--keep", f"a delta is for full fine-tuning; {config.method.kind} changes no weight of the model.", fix=fix)
    own = {
        "pretrained_model_name_or_path": str(run),
        "pretrained_vae_name_or_path": None,
        "tokenizer_name": None,
        "variant": None,
        "revision": None,
    }
    before, after = _family(config.model), _family(config.model.updated({(name,): value for name, value in own.items()}))
    tensors: dict[str, Tensor] = {}
    for name, old, new in _pairs(before, after):
        tensors |= {f"{name}.{part}": value for part, value in compress(new - old, rank).items()}
    path = folder / DELTA
    save_tensors(path, tensors, notes={"rank": rank, "base": fingerprint(config.model.folder())})
    for file in (CONFIG, RECORD):
        shutil.copyfile(run / file, folder / file)
    return path


def restore(folder: str | Path, output_dir: str | Path, *, allow_pickle: bool = False) -> Path:
    """The whole pipeline that a kept delta stands for, in `output_dir`, for `dreambooth generate` and diffusers.

    Raises SettingError when the base model is not the one that it was taken from.
    """
    folder, output_dir = Path(folder).expanduser(), Path(output_dir).expanduser()
    config = read_config(folder, allow_pickle=allow_pickle)
    tensors, notes = load_tensors(folder / DELTA)
    if fingerprint(config.model.folder()) != notes["base"]:
        reason = f"{folder / DELTA} belongs to another {config.model.pretrained_model_name_or_path} than the one at hand."
        raise SettingError("base model", reason, fix="Put the base model's old files back.")
    family = _family(config.model)
    apply(family, tensors)
    with whole_entries(output_dir) as partial:
        family.save(partial)
        for file in (CONFIG, RECORD):
            shutil.copyfile(folder / file, partial / file)
    return output_dir


def compress(moved: Tensor, rank: int) -> dict[str, Tensor]:
    """`u` [o, r], `v` [r, i] and their `scale`; `whole` where that is not smaller; nothing where nothing has moved."""
    if not moved.any():
        return {}
    if moved.ndim < 2 or rank * sum(moved.flatten(1).shape) >= moved.numel():
        scale = moved.abs().max()
        return {"whole": (moved / scale).half(), "scale": scale.float().reshape(1)}
    pair, _ = decomposed(moved.float(), rank)
    left, right = pair.up.flatten(1), pair.down.flatten(1)
    scales = left.abs().max(), right.abs().max()
    return {"u": (left / scales[0]).half(), "v": (right / scales[1]).half(), "scale": (scales[0] * scales[1]).float().reshape(1)}


def expand(parts: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    """What a weight has moved, of that shape, from what `compress` made of it."""
    own = {name: value.float() for name, value in parts.items()}
    return (own["whole"] if "whole" in own else own["u"] @ own["v"]).view(shape) * own["scale"]


def apply(family: Family, tensors: Mapping[str, Tensor]) -> None:
    """Move a loaded base model's weights as a delta says."""
    moved: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        weight, _, part = name.rpartition(".")
        moved.setdefault(weight, {})[part] = value
    for name, module in family.parts.items():
        state = module.state_dict()
        for weight, value in state.items():
            parts = moved.pop(f"{name}.{weight}", None)
            if parts:
                value += expand(parts, value.shape)
    assert not moved, f"the base model has no {next(iter(moved))}"


def _pairs(before: Family, after: Family) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every weight of both models, by part and name."""
    for name, module in before.parts.items():
        own = after.parts[name].state_dict()
        for weight, old in module.state_dict().items():
            if old.is_floating_point():
                yield f"{name}.{weight}", old, own[weight]


def _family(source: ModelSource) -> Family:
    return family_of(source).load(source)
