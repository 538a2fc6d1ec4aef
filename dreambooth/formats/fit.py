"""The layers of a file and the layers of a model: each of the file's finds its own, in whatever names, or the file is refused."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dreambooth.formats.changes import Change, Factors, InputRotation, LoKr, Pair, Whole
from dreambooth.formats.lora_files import NoLoRA, shortened
from dreambooth.formats.names import Slice, names_of, natives_of

if TYPE_CHECKING:
    from dreambooth.families.base import Family

UNREADABLE = "has settings that cannot be read"


@dataclass(frozen=True)
class Place:
    """A weight of the model, or several that are one in the network's first release."""

    part: str
    slices: tuple[Slice, ...]
    parameter: str = "weight"

    @property
    def layers(self) -> list[str]:
        return list(dict.fromkeys(one.layer for one in self.slices))


@dataclass
class Fitted:
    """A file's changes where they belong, alpha over rank within them."""

    beside: dict[str, dict[str, Pair]] = field(default_factory=dict)
    """By part and layer: what can act beside a layer in PEFT's own."""
    merged: list[tuple[Place, Change]] = field(default_factory=list)
    """What is added to weights."""

    def layers(self) -> dict[str, set[str]]:
        """All that is changed, by part."""
        found = {part: set(layers) for part, layers in self.beside.items()}
        for place, _ in self.merged:
            found.setdefault(place.part, set()).update(place.layers)
        return found


def fit(family: "Family", changes: Mapping[str, Change], settings: Mapping[str, Mapping[str, Any]]) -> Fitted:
    """Where a file's changes belong; raises NoLoRA where one finds no place, or one of another size."""
    known, fitted, taken = places(family), Fitted(), set[tuple[str, str, int, str]]()
    strange = [name for name in changes if _own_name(name) not in known]
    if strange:
        reason = f"{len(strange)} of its {len(changes)} layers are not in this {family.name} ({shortened(strange[0])})"
        raise NoLoRA(f"is for another model: {reason}")
    for name, change in changes.items():
        place = known[_own_name(name)]
        place = replace(place, parameter="bias") if name.endswith(".bias") else place
        keys = {(place.part, one.layer, one.number, place.parameter) for one in place.slices}
        if keys & taken:
            raise NoLoRA(f"names a layer twice ({shortened(name)})")
        taken |= keys
        change = _as_settings_say(change, settings, place)
        for layer, own in _put(family, place, name, change, fitted):
            fitted.beside.setdefault(place.part, {})[layer] = own
    _refuse_some_lengths(fitted)
    _refuse_missing(family, settings, fitted)
    return fitted


def _put(family: "Family", place: Place, name: str, change: Change, fitted: Fitted) -> Iterator[tuple[str, Pair]]:
    """Each layer with what acts beside it; what cannot is noted in `fitted`. Raises NoLoRA where it does not fit the weights."""
    modules = [base_layer(family.parts[place.part].get_submodule(one.layer)) for one in place.slices]
    weights = [rows_of(module, one, place.parameter) for module, one in zip(modules, place.slices, strict=True)]
    if not isinstance(change, Whole) and not all(isinstance(module, (nn.Linear, nn.Conv2d)) for module in modules):
        raise NoLoRA(f"changes {shortened(name)}, which is no linear layer")
    whole = all(one.of == 1 for one in place.slices)
    if isinstance(change, Pair) and whole and (change.magnitude is None or _over_outputs(change, weights)):
        start = 0
        for one, weight in zip(place.slices, weights, strict=True):
            own = change if len(weights) == 1 else change.rows(slice(start, start + len(weight)))
            start += len(weight)
            yield one.layer, _shaped(weight, name, own, count=sum(map(len, weights)), up=change.up)
        return
    _try(name, change, weights)
    fitted.merged.append((place, change))
    if isinstance(change, Factors) and change.of_outputs and modules[0].bias is not None and place.parameter == "weight":
        fitted.merged.append((replace(place, parameter="bias"), replace(change, values=change.values.flatten())))


def _shaped(weight: Tensor, name: str, pair: Pair, *, count: int, up: Tensor) -> Pair:
    """The pair in the shapes that PEFT gives it beside this weight; raises NoLoRA where it is for one of another size."""
    pair, shapes = pair.scaled(pair.factor), f"{list(up.shape)} x {list(pair.down.shape)}, and the model's weight is {list(weight.shape)}"
    down, own = pair.down, pair.up
    if weight.ndim == 4:
        down, own = (tensor[..., None, None] if tensor.ndim == 2 else tensor for tensor in (down, own))
        wanted = (*weight.shape[1:],), (weight.shape[0], pair.rank, 1, 1)
    else:
        down, own = (tensor.flatten(1) if tensor.shape[2:] == (1, 1) else tensor for tensor in (down, own))
        wanted = (weight.shape[1],), (weight.shape[0], pair.rank)
    if (tuple(down.shape[1:]), tuple(own.shape)) != wanted or len(up) != count:
        raise NoLoRA(f"is for another model: {shortened(name)} is {shapes}")
    return replace(pair, down=down, up=own, magnitude=None if pair.magnitude is None else pair.magnitude.flatten())


def _over_outputs(pair: Pair, weights: list[Tensor]) -> bool:
    """Whether DoRA's lengths are one for each output, and of the row that results; raises NoLoRA where they fit neither side."""
    assert pair.magnitude is not None
    outputs, inputs = sum(map(len, weights)), weights[0].shape[1]
    shape, count = pair.magnitude.shape, pair.magnitude.numel()
    if count not in (outputs, inputs) or pair.magnitude.ndim > weights[0].ndim:
        sizes = f"a weight of {list(weights[0].shape)}: they are {list(shape)}"
        raise NoLoRA(f"is a DoRA whose lengths fit no side of {sizes}")
    by_rows = count == outputs and (pair.magnitude.ndim < 2 or shape[0] == outputs)
    return by_rows and pair.lengths == "of the result"


def _try(name: str, change: Change, weights: list[Tensor]) -> None:
    """See that a change fits the weights that it is added to, by their shapes; raises NoLoRA where it does not."""
    try:
        moved = change.difference(joined(weights))
    except (RuntimeError, ValueError, IndexError):
        shapes = ", ".join(str(list(value.shape)) for value in change.tensors.values())
        raise NoLoRA(f"is for another model: {shortened(name)} is {shapes}, and the model's weight {list(weights[0].shape)}") from None
    if not moved.isfinite().all():
        raise NoLoRA(f"is damaged: what {shortened(name)} does is not finite")


def joined(weights: list[Tensor]) -> Tensor:
    """Weights whose outputs stand below each other, as one, in float32."""
    return weights[0].float() if len(weights) == 1 else torch.cat([weight.float() for weight in weights])


def rows_of(module: nn.Module, one: Slice, parameter: str = "weight") -> Tensor:
    """The part of a layer's weight that a slice is; raises NoLoRA for a layer that has none."""
    weight = getattr(module, parameter, None)
    if not isinstance(weight, Tensor):
        raise NoLoRA(f"changes the {parameter} of {shortened(one.layer)}, which has none")
    return weight.detach()[one.rows(len(weight))]


def base_layer(module: nn.Module) -> nn.Module:
    """A layer without what PEFT has put around it."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module  # type: ignore[operator]


def _own_name(name: str) -> str:
    return name.removesuffix(".bias")


def places(family: "Family") -> dict[str, Place]:
    """What files call the model's layers, and where those are."""
    found: dict[str, Place] = {}
    for part in (family.denoiser_name, *family.encoder_names):
        for layer, module in family.parts[part].named_modules():
            inside = re.search(r"\.(base_layer|lora_\w+)(\.|$)", layer)
            if layer and not inside and isinstance(getattr(base_layer(module), "weight", None), Tensor):
                for name in _spellings(family, part, layer):
                    found.setdefault(name, Place(part, (Slice(layer),)))
    for native, slices in natives_of(family).items():
        for name in _spellings(family, family.denoiser_name, native):
            found.setdefault(name, Place(family.denoiser_name, slices))
    return found


def _spellings(family: "Family", part: str, layer: str) -> list[str]:
    """A layer as diffusers, PEFT, kohya, LyCORIS, ai-toolkit, OneTrainer and ComfyUI name it."""
    comfy: list[str] = []
    if part == family.denoiser_name:
        old = re.sub(r"\.to_out\.0$", ".to_out", layer).replace(".to_", ".processor.to_")
        starts, whole, bare = ["lora_unet", "lora_transformer", "lycoris"], {layer, old}, ["", "base_model.model.", "diffusion_model."]
        comfy = [f"{start}diffusion_model.{layer}" for start in ("model.", "base_model.model.")]
    else:
        number = family.encoder_names.index(part) + 1
        old = layer if layer.startswith("text_model.") else f"text_model.{layer}"
        starts, whole, bare = [f"lora_te{number}", *(["lora_te"] if number == 1 else ["lora_te3"])], {layer, old}, []
        own = names_of(family).clip.get(part)
        comfy = [f"text_encoders.{own}.transformer.{name}" for name in whole] if own else []
    dotted = [f"{start}{name}" for name in whole for start in (f"{part}.", f"base_model.model.{part}.", f"{part}.base_model.model.", *bare)]
    return dotted + comfy + [f"{start}_{name.replace('.', '_')}" for name in whole for start in starts]


def _as_settings_say(change: Change, settings: Mapping[str, Mapping[str, Any]], place: Place) -> Change:
    """The change with the factor that PEFT's settings name, where the file has no alpha beside it; a rotation with how it turns."""
    if isinstance(change, InputRotation):
        return replace(change, settings=_rotation_settings(settings.get(place.part) or settings.get("") or {}))
    if change.alpha is not None or isinstance(change, Whole):
        return change
    rank = change.rank
    factor = _factor(settings, place.part, place.slices[0].layer, rank)
    if isinstance(change, LoKr) and rank is None:
        return change.folded(factor)
    return change if rank is None or factor == 1 else replace(change, alpha=factor * rank)


def _rotation_settings(own: Mapping[str, Any]) -> dict[str, Any]:
    """What of PEFT's settings says how a rotation is made; what is left out is as PEFT has it."""
    if not own:
        raise NoLoRA("is an OFT of PEFT's, and the adapter_config.json beside it is missing, which says how it turns")
    usual = {"use_cayley_neumann": True, "num_cayley_neumann_terms": 5, "block_share": False, "coft": False, "eps": 6e-5}
    found = {name: own.get(name, value) for name, value in usual.items()}
    if any(type(found[name]) is not type(value) for name, value in usual.items()):
        raise NoLoRA(UNREADABLE)
    return found


def _factor(settings: Mapping[str, Mapping[str, Any]], part: str, layer: str, rank: int | None) -> float:
    """Alpha over rank, as PEFT reads its settings; 1 where there are none."""
    own = settings.get(part) or settings.get("") or {}
    try:
        rank = rank or int(own.get("r") or 1)
        patterns = dict(own.get("alpha_pattern") or {})
        key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", layer)), None)
        alpha = float(patterns[key] if key is not None else own.get("lora_alpha", own.get("alpha", rank)))
    except (TypeError, ValueError, re.error):
        raise NoLoRA(UNREADABLE) from None
    if not math.isfinite(alpha):
        raise NoLoRA(UNREADABLE)
    return alpha / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _refuse_some_lengths(fitted: Fitted) -> None:
    """PEFT gives all layers of a part lengths, or none."""
    for layers in fitted.beside.values():
        count = sum(pair.magnitude is not None for pair in layers.values())
        if 0 < count < len(layers):
            raise NoLoRA(f"has DoRA's lengths for {count} of {len(layers)} layers")


def _refuse_missing(family: "Family", settings: Mapping[str, Mapping[str, Any]], fitted: Fitted) -> None:
    """A file whose own header names more layers than it holds is half a file."""
    for part, held in fitted.layers().items():
        targets = (settings.get(part) or settings.get("") or {}).get("target_modules")
        if not (isinstance(targets, list) and all(isinstance(target, str) for target in targets)):
            continue
        modules = ((name, base_layer(module)) for name, module in family.parts[part].named_modules())
        ends = tuple(f".{target.removeprefix('text_model.')}" for target in targets)
        named = {name for name, module in modules if isinstance(module, (nn.Linear, nn.Conv2d)) and f".{name}".endswith(ends)}
        if named - held and held <= named and len(held) < len(named):
            raise NoLoRA(f"is incomplete: it holds {len(held)} of the {len(named)} layers of the {part} that its header names")
