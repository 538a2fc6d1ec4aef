"""LoRA files of any program on a loaded model: each of a file's layers finds its own in the model, or the file is refused."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreambooth.core.errors import SettingError, first_line
from dreambooth.families import Family
from dreambooth.files.layouts import DIFFUSERS_FILE
from dreambooth.files.lora_files import PICKLES, NoLoRA, Pair, pairs_of, read_weights, shortened

FLAG = "--lora"
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
UNREADABLE = "has settings that cannot be read"
MOVES_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways of PEFT to begin that change the base model's own weights, which a LoRA file does not hold."""
ADAPTER = "added"
"""What PEFT calls the new layers, beside a run's own, which are "default"."""


@dataclass(frozen=True)
class Fitted:
    """One layer's update as PEFT takes it: up @ down is added to the weight, and with DoRA each row then gets its length."""

    down: Tensor
    up: Tensor
    magnitude: Tensor | None


@dataclass(frozen=True)
class LoRAFile:
    """A file as it was read: nothing of it is yet known to fit a model."""

    name: str
    pairs: dict[str, Pair]
    settings: dict[str, Mapping[str, Any]]
    """PEFT's, by part: some files keep alpha there."""


def read_lora(name: str, *, allow_pickle: bool = False) -> LoRAFile:
    """What a LoRA file, a folder or a Hub id holds; raises SettingError for everything that is no whole LoRA."""
    path = find_file(name, allow_pickle=allow_pickle)
    try:
        tensors, notes = read_weights(path)
        return LoRAFile(path.name, pairs_of(tensors), _settings(path, notes))
    except NoLoRA as what:
        raise SettingError(FLAG, f"{path.name} {what}.", fix="Give a whole LoRA file, as diffusers, PEFT or kohya save it.") from None


def add_lora(family: Family, file: LoRAFile) -> str:
    """Put a LoRA on a model, beside what acts in it already; returns in words which layers have changed: all that the file has.

    Raises SettingError where a single one would be left out.
    """
    own = {part: module.peft_config for part, module in family.parts.items() if getattr(module, "peft_config", None)}
    if any(str(config.peft_type.value) != "LORA" for configs in own.values() for config in configs.values()):
        raise SettingError(FLAG, "this run's own layers are no LoRA, and the two cannot be mixed.", fix="Put it on the base model.")
    try:
        fitted = fit(family, file)
    except NoLoRA as what:
        raise SettingError(FLAG, f"{file.name} {what}.", fix="Name the base model that it was made for.") from None
    fitted = {part: fitted[part] for part in (family.denoiser_name, *family.encoder_names) if part in fitted}
    for part, layers in fitted.items():
        try:
            _put_in(family.parts[part], layers)
        except (ValueError, TypeError, RuntimeError) as error:
            reason = f"{file.name} cannot be put on the {part} ({shortened(first_line(error), 100)})."
            raise SettingError(FLAG, reason, fix="Is it for this base model?") from None
    counts = " and ".join(f"{len(layers)} layers of the {part}" for part, layers in fitted.items())
    return f"{file.name} changes {counts}."


def find_file(name: str, *, allow_pickle: bool) -> Path:
    """The file that a path, a folder or a Hub id means; raises SettingError where there is none, more than one, or a pickle."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = _in_folder(path, allow_pickle=allow_pickle)
    elif not path.is_file():
        path = _from_hub(name)
    if path.suffix in PICKLES and not allow_pickle:
        raise SettingError(FLAG, f"{path.name} is a pickle, which can run any code.", fix="Pass --allow_pickle if you trust it.")
    return path


def _in_folder(folder: Path, *, allow_pickle: bool) -> Path:
    for usual in (DIFFUSERS_FILE, PEFT_FILE):
        if (folder / usual).is_file():
            return folder / usual
    if (folder / "model_index.json").is_file():
        raise SettingError(FLAG, f"{folder} is a whole pipeline, not a LoRA.", fix=f"Draw with it: dreambooth generate {folder} ...")
    kinds = (".safetensors", *PICKLES) if allow_pickle else (".safetensors",)
    found = sorted(path for path in folder.iterdir() if path.suffix in kinds and path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:3])
        raise SettingError(FLAG, f"{folder} holds {len(found)} files of weights ({names}).", fix="Name one of them.")
    if any(folder.glob(f"*/{PEFT_CONFIG}")):
        fix = f"Draw with the run itself: dreambooth generate {folder} ..."
        raise SettingError(FLAG, f"{folder} is a run whose layers are no LoRA.", fix=fix)
    pickles = any(path.suffix in PICKLES for path in folder.iterdir())
    raise SettingError(FLAG, f"{folder} holds no LoRA file.", fix="Pass --allow_pickle if you trust its pickle." if pickles else "")


def _from_hub(name: str) -> Path:
    """The file of a Hub id, `owner/name` or `owner/name/file.safetensors`, downloaded once."""
    from huggingface_hub import HfApi, errors, hf_hub_download

    parts = name.split("/")
    if len(parts) < 2 or name.startswith((".", "/", "~")) or not all(parts):
        raise SettingError(FLAG, f"there is no file {name}.", fix="Give a LoRA file, its folder, or a Hub id such as owner/name.")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:]) or DIFFUSERS_FILE
    try:
        try:
            return Path(hf_hub_download(repository, file))
        except errors.EntryNotFoundError:  # or it is not in the cache, and nobody can be asked: then the next line says so
            found = [one for one in HfApi().list_repo_files(repository) if one.endswith(".safetensors") and "/" not in one]
        if len(parts) == 2 and len(found) == 1:
            return Path(hf_hub_download(repository, found[0]))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        gated = isinstance(error, errors.GatedRepoError)
        reason = f"{repository} is gated." if gated else f"there is no file {name}, and the Hub knows no {repository}."
        raise SettingError(FLAG, reason, fix="Accept its licence, then `hf auth login`." if gated else "Check the name.") from None
    except Exception:  # the transport's own errors differ from version to version
        reason = f"{name} is neither a file here nor in the cache, and the Hub cannot be reached."
        raise SettingError(FLAG, reason, fix="Connect, or give the path of a LoRA file.") from None
    fix = f"Name one: {', '.join(f'{repository}/{one}' for one in found[:3])}." if found else ""
    raise SettingError(FLAG, f"{repository} holds no {file}.", fix=fix)


def fit(family: Family, file: LoRAFile) -> dict[str, dict[str, Fitted]]:
    """The file's updates by part and layer of the model, alpha over rank within them; raises NoLoRA where one finds no place."""
    known = _names(family)
    scaled = {layer: pair.scaled(pair.alpha / pair.rank) if pair.alpha is not None else pair for layer, pair in file.pairs.items()}
    strange = {layer: pair for layer, pair in scaled.items() if layer not in known}
    translated = _translated(family, strange, known, len(scaled)) if strange else {}
    fitted: dict[str, dict[str, Fitted]] = {}
    for layer, pair in [*((layer, pair) for layer, pair in scaled.items() if layer in known), *translated.items()]:
        part, own = known[layer]
        if own in fitted.setdefault(part, {}):
            raise NoLoRA(f"names a layer twice ({shortened(layer)})")
        said = layer in translated or file.pairs[layer].alpha is not None
        pair = pair if said else pair.scaled(_factor(file.settings, part, own, pair.rank))
        fitted[part][own] = _fitted(_weight(family.parts[part].get_submodule(own)), layer, pair)
    for layers in fitted.values():
        count = sum(layer.magnitude is not None for layer in layers.values())
        if 0 < count < len(layers):
            raise NoLoRA(f"has DoRA's lengths for {count} of {len(layers)} layers")
    return fitted


def _translated(family: Family, strange: Mapping[str, Pair], known: Mapping[str, Any], count: int) -> dict[str, Pair]:
    """Layers in the names of the model's first release (Stability's, Black Forest Labs'), which diffusers has a table for."""
    refusal = NoLoRA(
        f"is for another model: {len(strange)} of its {count} layers are not in this {family.name} ({shortened(next(iter(strange)))})"
    )
    if any(pair.magnitude is not None for pair in strange.values()):
        raise refusal
    raw = {name: tensor for pair in strange.values() for name, tensor in zip(pair.names, (pair.down, pair.up), strict=True)}
    options = {"unet_config": family.denoiser.config} if family.denoiser_name == "unet" else {}
    try:
        found = family.pipe.lora_state_dict(raw, **options)
        pairs = pairs_of(found[0] if isinstance(found, tuple) else found)
    except Exception:  # its tables assume the names and widths of one model, and fail in any way for another's
        raise refusal from None
    if len(pairs) < len(strange) or not pairs.keys() <= known.keys():
        raise refusal
    return pairs


def _names(family: Family) -> dict[str, tuple[str, str]]:
    """What files call the model's layers -> part and layer."""
    found: dict[str, tuple[str, str]] = {}
    for part in (family.denoiser_name, *family.encoder_names):
        for layer, module in family.parts[part].named_modules():
            inside = re.search(r"\.(base_layer|lora_\w+)(\.|$)", layer)
            if not inside and isinstance(_base(module), (nn.Linear, nn.Conv2d)):
                for name in _spellings(family, part, layer):
                    found.setdefault(name, (part, layer))
    return found


def _spellings(family: Family, part: str, layer: str) -> list[str]:
    """A layer as diffusers, PEFT, kohya, LyCORIS and ComfyUI name it."""
    if part == family.denoiser_name:
        old = re.sub(r"\.to_out\.0$", ".to_out", layer).replace(".to_", ".processor.to_")
        starts, whole, bare = ["lora_unet", "lora_transformer", "lycoris"], {layer, old}, ["", "base_model.model.", "diffusion_model."]
    else:
        number = family.encoder_names.index(part) + 1
        old = layer if layer.startswith("text_model.") else f"text_model.{layer}"
        starts, whole, bare = [f"lora_te{number}", *(["lora_te"] if number == 1 else ["lora_te3"])], {layer, old}, []
    dotted = [f"{start}{name}" for name in whole for start in (f"{part}.", f"base_model.model.{part}.", f"{part}.base_model.model.", *bare)]
    return dotted + [f"{start}_{name.replace('.', '_')}" for name in whole for start in starts]


def _base(module: nn.Module) -> nn.Module:
    """A layer without what PEFT has put around it."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module  # type: ignore[operator]


def _weight(module: nn.Module) -> Tensor:
    weight = _base(module).weight
    assert isinstance(weight, Tensor)
    return weight


def _fitted(weight: Tensor, layer: str, pair: Pair) -> Fitted:
    """The pair in the shapes that PEFT gives it beside this weight; raises NoLoRA where it is for one of another size."""
    down, up = pair.down, pair.up
    if weight.ndim == 4:
        down, up = (tensor[..., None, None] if tensor.ndim == 2 else tensor for tensor in (down, up))
        wanted = (*weight.shape[1:],), (weight.shape[0], pair.rank, 1, 1)
    else:
        down, up = (tensor.flatten(1) if tensor.shape[2:] == (1, 1) else tensor for tensor in (down, up))
        wanted = (weight.shape[1],), (weight.shape[0], pair.rank)
    if (tuple(down.shape[1:]), tuple(up.shape)) != wanted:
        shapes = f"{list(up.shape)} x {list(down.shape)}, and the model's weight is {list(weight.shape)}"
        raise NoLoRA(f"is for another model: {shortened(layer)} is {shapes}")
    magnitude = pair.magnitude
    if magnitude is not None:
        if magnitude.shape[:1] != weight.shape[:1] or magnitude.numel() != len(weight):
            raise NoLoRA(f"is a DoRA with lengths over the inputs ({shortened(layer)}), which cannot be loaded here")
        magnitude = magnitude.flatten()
    return Fitted(down, up, magnitude)


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


def _factor(settings: Mapping[str, Mapping[str, Any]], part: str, layer: str, rank: int) -> float:
    """Alpha over rank, as PEFT reads its settings; 1 where there are none."""
    own = settings.get(part) or settings.get("") or {}
    try:
        patterns = dict(own.get("alpha_pattern") or {})
        key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", layer)), None)
        alpha = float(patterns[key] if key is not None else own.get("lora_alpha", rank))
    except (TypeError, ValueError, re.error):
        raise NoLoRA(UNREADABLE) from None
    if not math.isfinite(alpha):
        raise NoLoRA(UNREADABLE)
    return alpha / (math.sqrt(rank) if own.get("use_rslora") else rank)


@torch.no_grad()
def _put_in(part: Any, layers: Mapping[str, Fitted]) -> None:
    """PEFT's layers around those of a part, filled, in float32, at rest, and active beside those that were there."""
    from peft import LoraConfig

    ranks = {layer: fitted.down.shape[0] for layer, fitted in layers.items()}
    most = max(ranks.values())
    other = {f"^{re.escape(layer)}": rank for layer, rank in ranks.items() if rank != most}
    config = LoraConfig(
        r=most, lora_alpha=most, rank_pattern=other, alpha_pattern=dict(other), target_modules="|".join(map(re.escape, layers)),
        use_dora=any(fitted.magnitude is not None for fitted in layers.values()),
    )  # fmt: skip
    before = list(getattr(part, "peft_config", {}))
    with torch.random.fork_rng(devices=[]):  # PEFT draws values, which are replaced at once
        part.add_adapter(config, adapter_name=ADAPTER)
    config.base_model_name_or_path = None
    for layer, fitted in layers.items():
        module = part.get_submodule(layer)
        wanted = [(module.lora_A[ADAPTER].weight, fitted.down), (module.lora_B[ADAPTER].weight, fitted.up)]
        wanted += [(module.lora_magnitude_vector[ADAPTER].weight, fitted.magnitude)] if fitted.magnitude is not None else []
        for parameter, value in wanted:
            parameter.data = value.to(parameter.device).view_as(parameter).contiguous()
    part.set_adapter([*before, ADAPTER])
    part.requires_grad_(False).eval()
