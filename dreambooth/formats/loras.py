"""LoRA files of any program on a loaded model: each of a file's layers finds its own in the model, or the file is refused."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dreambooth.core.errors import SettingError, first_line
from dreambooth.formats.changes import Change, Pair
from dreambooth.formats.finding import FLAG, PEFT_CONFIG, PEFT_FILE, find_file
from dreambooth.formats.fit import UNREADABLE, Fitted, base_layer, fit, joined, rows_of
from dreambooth.formats.headers import LENGTHS
from dreambooth.formats.lora_files import NoLoRA, changes_of, read_weights, shortened

if TYPE_CHECKING:
    from dreambooth.families.base import Family

MOVES_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways of PEFT to begin that change the base model's own weights, which a LoRA file does not hold."""
ADAPTER = "added"
"""What PEFT calls the new layers, beside a run's own, which are "default"."""


@dataclass(frozen=True)
class LoRAFile:
    """A file as it was read: nothing of it is yet known to fit a model."""

    name: str
    changes: dict[str, Change]
    settings: dict[str, Mapping[str, Any]]
    """PEFT's, by part: some files keep alpha there."""


def read_lora(name: str, *, allow_pickle: bool = False) -> LoRAFile:
    """What a LoRA file, a folder or a Hub id holds; raises SettingError for everything that is no whole LoRA."""
    path = find_file(name, allow_pickle=allow_pickle)
    try:
        tensors, notes = read_weights(path)
        changes = changes_of(tensors)
        if notes.get(LENGTHS) == "untuned":
            changes = {layer: replace(change, lengths="of the untuned row") for layer, change in changes.items()}
        return LoRAFile(path.name, changes, _settings(path, notes))
    except NoLoRA as what:
        raise SettingError(FLAG, f"{path.name} {what}.", fix="Give a whole LoRA file, as diffusers, PEFT or kohya save it.") from None


def add_lora(family: "Family", file: LoRAFile) -> str:
    """Put a LoRA on a model, beside what acts in it already; returns in words which layers have changed: all that the file has.

    LoRA and DoRA act beside the weights, in float32; what has no place there is added to them. Raises SettingError where a single layer
    would be left out.
    """
    own = {part: module.peft_config for part, module in family.parts.items() if getattr(module, "peft_config", None)}
    fitted = _fitted(family, file)
    if fitted.beside and any(str(config.peft_type.value) != "LORA" for configs in own.values() for config in configs.values()):
        raise SettingError(FLAG, "this run's own layers are no LoRA, and the two cannot be mixed.", fix="Put it on the base model.")
    for part in (family.denoiser_name, *family.encoder_names):
        try:
            if layers := fitted.beside.get(part):
                _put_in(family.parts[part], layers)
        except (ValueError, TypeError, RuntimeError) as error:
            reason = f"{file.name} cannot be put on the {part} ({shortened(first_line(error), 100)})."
            raise SettingError(FLAG, reason, fix="Is it for this base model?") from None
    _merge(family, Fitted(merged=fitted.merged))
    return _in_words(family, file, fitted)


def merge_lora(family: "Family", file: LoRAFile) -> str:
    """The same, with all of the file added to the weights, in float32: there is one model then, and no LoRA beside it."""
    fitted = _fitted(family, file)
    _merge(family, fitted)
    return _in_words(family, file, fitted)


def _fitted(family: "Family", file: LoRAFile) -> Fitted:
    try:
        return fit(family, file.changes, file.settings)
    except NoLoRA as what:
        raise SettingError(FLAG, f"{file.name} {what}.", fix="Name the base model that it was made for.") from None


def _in_words(family: "Family", file: LoRAFile, fitted: Fitted) -> str:
    found = fitted.layers()
    parts = [part for part in (family.denoiser_name, *family.encoder_names) if part in found]
    return f"{file.name} changes {' and '.join(f'{len(found[part])} layers of the {part}' for part in parts)}."


@torch.no_grad()
def _merge(family: "Family", fitted: Fitted) -> None:
    """Add to the weights what is to be added, each rounded once to what its weight is kept in."""
    for part, layers in fitted.beside.items():
        for layer, pair in layers.items():
            weight = base_layer(family.parts[part].get_submodule(layer)).weight
            weight.copy_(weight.float() + pair.difference(weight.cpu()).to(weight.device))  # type: ignore[union-attr, operator, arg-type]
    for place, change in fitted.merged:
        modules = [base_layer(family.parts[place.part].get_submodule(one.layer)) for one in place.slices]
        weights = [rows_of(module, one, place.parameter) for module, one in zip(modules, place.slices, strict=True)]
        moved = change.difference(joined([weight.cpu() for weight in weights]))
        for weight, difference in zip(weights, moved.split([len(weight) for weight in weights]), strict=True):
            weight.copy_(weight.float() + difference.to(weight.device))


def _settings(path: Path, notes: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """PEFT's settings by part: in the header of diffusers' files, or in a file beside PEFT's, which means any part ("")."""
    found: dict[str, dict[str, Any]] = {}
    try:
        for name, value in json.loads(notes.get("lora_adapter_metadata", "{}")).items():
            part, _, setting = name.partition(".")
            found.setdefault(part, {})[setting] = value
        beside = path.with_name(PEFT_CONFIG)
        if path.name == PEFT_FILE and beside.is_file():
            found[""] = dict(json.loads(beside.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError, OSError):
        raise NoLoRA(UNREADABLE) from None
    if any(str(own.get("init_lora_weights")).lower().startswith(MOVES_BASE) for own in found.values()):
        raise NoLoRA("was trained on other weights than the base model's (PiSSA's kind)")
    return dict(found)


@torch.no_grad()
def _put_in(part: Any, layers: Mapping[str, Pair]) -> None:
    """PEFT's layers around those of a part, filled, in float32, at rest, and active beside those that were there."""
    from peft import LoraConfig

    ranks = {layer: pair.rank for layer, pair in layers.items()}
    most = max(ranks.values())
    other = {f"^{re.escape(layer)}": rank for layer, rank in ranks.items() if rank != most}
    config = LoraConfig(
        r=most, lora_alpha=most, rank_pattern=other, alpha_pattern=dict(other), target_modules="|".join(map(re.escape, layers)),
        use_dora=any(pair.magnitude is not None for pair in layers.values()),
    )  # fmt: skip
    before = list(getattr(part, "peft_config", {}))
    with torch.random.fork_rng(devices=[]):  # PEFT draws values, which are replaced at once
        part.add_adapter(config, adapter_name=ADAPTER)
    config.base_model_name_or_path = None
    for layer, pair in layers.items():
        module = part.get_submodule(layer)
        wanted = [(module.lora_A[ADAPTER].weight, pair.down), (module.lora_B[ADAPTER].weight, pair.up)]
        wanted += [(module.lora_magnitude_vector[ADAPTER].weight, pair.magnitude)] if pair.magnitude is not None else []
        for parameter, value in wanted:
            parameter.data = value.to(parameter.device).view_as(parameter).contiguous()
    part.set_adapter([*before, ADAPTER])
    part.requires_grad_(False).eval()
