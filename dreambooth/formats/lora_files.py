"""What a file of weights is, by the names of its tensors; and a LoRA file of any program as a change of each of its layers."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from dreambooth.files.tensors import open_tensors
from dreambooth.formats.changes import Change, Factors, InputRotation, LoHa, LoKr, OutputRotation, Pair, Whole, of_roles

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
DOWN = r"\.lora_A(?:\.\w+)?\.weight|\.lora_down\.weight|\.lora\.down\.weight|_lora\.down\.weight|\.lora_linear_layer\.down\.weight|\.lora_A"
UP = DOWN.replace("lora_A", "lora_B").replace("down", "up")
MAGNITUDE = r"\.dora_scale|\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?"
KINDS = (LoHa, LoKr, OutputRotation, InputRotation, Factors, Whole)
OTHERS = "|".join((*(role for kind in KINDS for role in kind.roles), "diff_b", "lora_mid.weight")).replace(".", r"\.")
ROLES = re.compile(rf"(?P<layer>.+?)(?:(?P<down>{DOWN})|(?P<up>{UP})|(?P<alpha>\.alpha)|(?P<magnitude>{MAGNITUDE})|\.(?P<other>{OTHERS}))$")
"""How PEFT, diffusers (two namings, one of 2023), kohya and LyCORIS name the tensors of a layer."""
FLOAT8 = tuple(
    kind for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz") if (kind := getattr(torch, name, None))
)

OTHER_ADAPTERS = {
    r"\.oft_[rs](\.|$)": "an OFT of PEFT 0.13 or older", r"\.oft_R|\.oft_(?!blocks$)|^oft_": "an OFT in names that are not known",
    r"\.on_input$": "an (IA)3 of LyCORIS'",
    r"\.[ab][12]\.weight$": "a GLoRA", r"_custom_diffusion\.": "the file of a Custom Diffusion run",
    r"^bundle_emb\.": "a LoRA with new words in it", r"^lora_controlnet$": "a ControlNet",
    r"\.(w|b)_norm$|\.set_weight$": "a LyCORIS file of norms",
    r"scale_weight$|scaled_fp8$|\.weight_scale": "a file of scaled weights (fp8)",
}  # fmt: skip
OTHER_FILES = {
    r"^control_model\.|controlnet_|input_hint_block": "a ControlNet", r"^image_proj\.|^ip_adapter\.": "an IP-Adapter",
    r"^model\.diffusion_model\.|^first_stage_model\.|^cond_stage_model\.|^conditioner\.": "a whole checkpoint",
    r"double_blocks\.|transformer_blocks\.": "a whole network", r"(down|up|input|output)_blocks\.\d": "a whole network",
    r"^(decoder|encoder)\.(up|down|mid)": "a VAE", r"encoder\.(layers|block)\.": "a text encoder",
}  # fmt: skip
"""What a file is in which a tensor's name looks so; the first that is found counts."""


class NoLoRA(Exception):
    """A file that is no LoRA, or a damaged one; its text says what it is, to follow the file's name."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header's notes of a safetensors file, or the tensors of a pickle that holds nothing else; raises NoLoRA."""
    if path.suffix in PICKLES:
        return _read_pickle(path), {}
    try:
        with open_tensors(path) as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, dict(file.metadata() or {})
    except (SafetensorError, OSError):
        raise NoLoRA("is no safetensors file, or a half-written one") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a pickle can raise has no bounds
        raise NoLoRA("cannot be read as a pickle of weights") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise NoLoRA("is a pickle of something else than weights")
    return found


def changes_of(tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    """The layers' changes by the layers' names in the file, in float32; raises NoLoRA where anything in it is something else.

    The change of a layer's bias stands under the layer's name with `.bias` behind.
    """
    layers: dict[str, dict[str, str]] = {}
    other = []
    for name in tensors:
        found = ROLES.match(name)
        if found is None:
            other.append(name)
            continue
        role = found["other"] or next(role for role in ("down", "up", "alpha", "magnitude") if found[role])
        layer, role = (f"{found['layer']}.bias", "diff") if role == "diff_b" else (found["layer"], role)
        if role in layers.setdefault(layer, {}):
            raise NoLoRA(f"holds two LoRAs in one file ({shortened(name)})")
        layers[layer][role] = name
    if other or not layers:
        raise NoLoRA(what_it_is(tensors, other))
    return {layer: _change(layer, roles, tensors) for layer, roles in layers.items()}


def _change(layer: str, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Change:
    """One layer's tensors, whole and fitting each other."""
    if any(tensors[name].dtype in FLOAT8 for name in names.values()):
        raise NoLoRA("holds weights in 8 bits (fp8), which have lost what a LoRA is")
    known = {"down": Pair.roles[0], "up": Pair.roles[1]}
    own = {known.get(role, role): tensors[name].float() for role, name in names.items() if role not in ("alpha", "magnitude")}
    absent = [role for role in ("down", "up") if role not in names]
    if absent and own.keys() <= {*Pair.roles, "lora_mid.weight"}:
        raise NoLoRA(f"is incomplete: the {' and '.join(absent)} matrix of {shortened(layer)} is missing")
    if set(own) == set(Pair.roles):
        _see_a_pair(layer, *(own[role] for role in Pair.roles))
    if "ia3_l" in own and own["ia3_l"].ndim != 2:  # of a convolution it does not say whether inputs are meant or outputs
        raise NoLoRA(f"is an (IA)3 that changes a convolution ({shortened(layer)})")
    magnitude = tensors[names["magnitude"]].float() if "magnitude" in names else None
    if not all(values.isfinite().all() for values in (*own.values(), magnitude) if values is not None):
        raise NoLoRA(f"is damaged: {shortened(layer)} holds numbers that are not finite")
    alpha = _alpha(layer, tensors[names["alpha"]]) if "alpha" in names else None
    try:
        change = of_roles(own, alpha=alpha, magnitude=magnitude)
    except (RuntimeError, ValueError, IndexError):
        change = None
    if change is None or not all(value.numel() for value in own.values()):
        raise NoLoRA(f"is incomplete or damaged: {shortened(layer)} holds {shortened(', '.join(sorted(own)), 100)}")
    return change


def _see_a_pair(layer: str, down: Tensor, up: Tensor) -> None:
    if down.ndim not in (2, 4) or up.ndim not in (2, 4) or up.shape[1] != down.shape[0] or not down.numel() * up.numel():
        raise NoLoRA(f"is damaged: {list(down.shape)} and {list(up.shape)} of {shortened(layer)} are no pair of matrices")


def _alpha(layer: str, value: Tensor) -> float:
    alpha = float(value) if value.numel() == 1 else math.nan
    if not math.isfinite(alpha):
        raise NoLoRA(f"is damaged: the alpha of {shortened(layer)} is no number")
    return alpha


def what_it_is(tensors: Mapping[str, Any], other: list[str] | None = None) -> str:
    """A file that is no LoRA as the end of a sentence; `other` are the names that no LoRA has."""
    if not tensors:
        return "holds no weights"
    names = list(tensors) if other is None else other
    for kinds in (OTHER_ADAPTERS, OTHER_FILES if len(names) == len(tensors) else {}):
        for pattern, kind in kinds.items():
            if any(re.search(pattern, name) for name in names):
                return f"is {kind}"
    if is_embedding(tensors):
        return "is a new word (textual inversion)"
    if names and len(names) < len(tensors):
        return f"holds {len(names)} tensors that are no part of a LoRA ({shortened(names[0])})"
    return f"holds no LoRA ({shortened(next(iter(tensors)))})"


def is_embedding(tensors: Mapping[str, Any]) -> bool:
    """Whether a file holds nothing but a new word's vectors, one tensor for each text encoder."""
    return len(tensors) <= 4 and all(len(value.shape) <= 2 and not name.endswith((".weight", ".bias")) for name, value in tensors.items())


def is_lora(path: Path) -> bool:
    """Whether a file's names are those of a LoRA, also of one that `pairs_of` refuses."""
    try:
        with open_tensors(path) as file:
            names = list(file.keys())
    except (SafetensorError, OSError):
        return False
    return any(ROLES.match(name) for name in names) or any(re.search(pattern, name) for pattern in OTHER_ADAPTERS for name in names)


def shortened(name: str, most: int = 60) -> str:
    """A layer's name as it can stand in a sentence: its start and its end."""
    return name if len(name) <= most else f"{name[:20]} ... {name[25 - most :]}"
