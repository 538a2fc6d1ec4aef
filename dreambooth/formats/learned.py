"""What a run has changed in a model, layer by layer: read out of PEFT's layers, or found by comparing two models."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dreambooth.formats.changes import Change, LoHa, LoKr, Pair, Whole
from dreambooth.formats.fit import base_layer

if TYPE_CHECKING:
    from dreambooth.families.base import Family

Changes = dict[str, dict[str, Change]]
"""By part and layer."""
ADAPTER = "default"
"""What PEFT calls a run's own layers."""


@torch.no_grad()
def changes_in(family: "Family") -> Changes:
    """What the layers of PEFT's that a method has put into a model do, each as exactly as its kind can be written down."""
    found = {name: _of_part(family.parts[name]) for name in (family.denoiser_name, *family.encoder_names)}
    return {name: layers for name, layers in found.items() if layers}


def _of_part(part: nn.Module) -> dict[str, Change]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: _of_layer(module) for name, module in part.named_modules() if isinstance(module, BaseTunerLayer)}


def _of_layer(module: Any) -> Change:
    from peft.tuners.loha.layer import LoHaLayer
    from peft.tuners.lokr.layer import LoKrLayer
    from peft.tuners.lora.layer import LoraLayer

    kind = type(module)
    if issubclass(kind, LoraLayer):
        down, up = (_kept(part[ADAPTER].weight) for part in (module.lora_A, module.lora_B))
        lengths = module.lora_magnitude_vector
        weight = base_layer(module).weight
        assert isinstance(weight, torch.Tensor)
        lengths = _kept(lengths[ADAPTER].weight).view(-1, *[1] * (weight.ndim - 1)) if lengths else None
        return Pair(down, up, alpha=module.scaling[ADAPTER] * len(down), magnitude=lengths)
    if issubclass(kind, LoHaLayer):
        own = [_own(module, role) for role in LoHa.roles]
        return LoHa(*own, alpha=module.scaling[ADAPTER] * own[1].shape[0])  # type: ignore[arg-type, union-attr]
    if issubclass(kind, LoKrLayer):
        change = LoKr(*(_own(module, role) for role in LoKr.roles))
        scaling = module.scaling[ADAPTER]  # PEFT's counts always, others' only where there are factors
        return LoKr(**{**vars(change), "alpha": scaling * change.rank}) if change.rank else change.folded(scaling)
    return Whole(_merged_difference(module))


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu().clone()


def _own(module: Any, role: str) -> torch.Tensor | None:
    parameters = getattr(module, role)
    return _kept(parameters[ADAPTER]) if ADAPTER in parameters else None


def _merged_difference(module: Any) -> torch.Tensor:
    """W' - W by PEFT's own merging, in float32."""
    alone = copy.deepcopy(module).float().cpu()
    before = base_layer(alone).weight.detach().clone()  # type: ignore[operator, union-attr]
    alone.merge(safe_merge=True)
    return base_layer(alone).weight.detach() - before  # type: ignore[operator, union-attr]


@torch.no_grad()
def differences(tuned: "Family", base: "Family") -> Changes:
    """What whole weights have moved by, of every layer that has one; a layer's bias stands under its name with `.bias` behind."""
    found: Changes = {}
    for name in (tuned.denoiser_name, *tuned.encoder_names):
        before = dict(base.parts[name].named_parameters())
        for path, value in tuned.parts[name].named_parameters():
            moved = value.detach().float().cpu() - before[path].detach().float().cpu()
            layer = path.removesuffix(".weight")
            if moved.any():
                found.setdefault(name, {})[layer] = Whole(moved)
    return found


@torch.no_grad()
def merge(family: "Family", changes: Mapping[str, Mapping[str, Change]]) -> None:
    """Add changes to the weights of a model without layers of PEFT's, in float32, each weight rounded once to what it is kept in."""
    for part, layers in changes.items():
        for layer, change in layers.items():
            weight = family.parts[part].get_submodule(layer).weight
            weight.copy_(weight.float() + change.difference(weight.cpu()).to(weight.device))  # type: ignore[union-attr, operator, arg-type]
