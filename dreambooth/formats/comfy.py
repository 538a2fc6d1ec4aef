"""LoRA files for ComfyUI: a UNet's layers in kohya's names, a transformer's in diffusers', which ComfyUI maps onto its own."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from dreambooth.formats.base import COMFY, DIFFUSERS, LORAS, SMALL, Result
from dreambooth.formats.changes import Change, Pair, Whole
from dreambooth.formats.names import names_of
from dreambooth.formats.small import LoRAFormat, Named, for_untuned_rows, in_pairs, underscored, weight_of, with_outer

if TYPE_CHECKING:
    from dreambooth.families.base import Family


class Comfy(LoRAFormat):
    """LoRA for ComfyUI, and, of SD and SDXL, for A1111 and Forge"""

    name = "comfy"

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        names = names_of(family)
        if method not in SMALL:
            return {}
        if family.kohya_prefixes:
            return LORAS if method != "dora" else {COMFY: LORAS[COMFY]}
        if names.comfy is None or (method in ("loha", "lokr") and names.comfy_lycoris is None):
            return {}
        return {COMFY: LORAS[COMFY], **({DIFFUSERS: names.diffusers} if method == "lora" and names.diffusers else {})}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if method in SMALL:
            return f"ComfyUI has no names for the layers of {family.name} in {method} files.", "Export it --as pipeline."
        return super().why_not(family, method)

    def named(self, result: Result) -> Iterator[Named]:
        family = result.family
        assert family is not None
        for part, layers in result.changes.items():
            for layer, change in layers.items():
                yield self._name(family, part, layer, change), for_untuned_rows(change, weight_of(family, part, layer))

    def tensors(self, name: str, change: Change) -> dict[str, Tensor]:
        if "." in name and isinstance(change, Pair):
            return dict(in_pairs(name, change))
        return super().tensors(name, change)

    def _name(self, family: "Family", part: str, layer: str, change: Change) -> str:
        names = names_of(family)
        if part != family.denoiser_name:
            layer = with_outer(family, part, layer)
            return f"{names.kohya[part]}_{underscored(layer)}" if family.kohya_prefixes else f"{part}.{layer}"
        if family.kohya_prefixes:
            return f"{names.kohya[part]}_{underscored(layer)}"
        if isinstance(change, (Pair, Whole)) or names.comfy_lycoris is None:
            return f"{names.comfy}{layer}"
        return f"{names.comfy_lycoris}{underscored(layer)}"
