"""Names of layers by network, one file each. A new one is its file and a line here; without one, files are written in diffusers' names."""

from typing import TYPE_CHECKING

from dreambooth.formats.names import flux, flux2, sd3, z_image
from dreambooth.formats.names.base import Names, Slice
from dreambooth.formats.names.unet import natives as unet_natives

if TYPE_CHECKING:
    from dreambooth.families.base import Family

UNET = "UNet2DConditionModel"
NAMES: dict[str, Names] = {
    "FluxTransformer2DModel": flux.NAMES, "Flux2Transformer2DModel": flux2.NAMES, "SD3Transformer2DModel": sd3.NAMES,
    "ZImageTransformer2DModel": z_image.NAMES,
    "QwenImageTransformer2DModel": Names(comfy="transformer.", comfy_lycoris="lycoris_"),
    "PixArtTransformer2DModel": Names(comfy="transformer.", diffusers=""),
    "Krea2Transformer2DModel": Names(comfy="transformer.", comfy_lycoris="lycoris_"),
}  # fmt: skip
"""By diffusers' class of the network."""
UNETS = {1: {"text_encoder": "clip_l"}, 2: {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}}
"""What ComfyUI calls the encoders of a UNet that has so many."""


def names_of(family: "Family | type[Family]") -> Names:
    """The names of a family's network."""
    if family.denoiser_class == UNET:
        return Names(kohya=family.kohya_prefixes, clip=UNETS.get(len(family.encoder_names), {}) if family.kohya_prefixes else {})
    return NAMES.get(family.denoiser_class, Names())


def natives_of(family: "Family") -> dict[str, tuple[Slice, ...]]:
    """The layers of a loaded network as its first release names them, each with those of diffusers' that it consists of."""
    layers = [name for name, _ in family.denoiser.named_modules()]
    if family.denoiser_class == UNET:
        per_level = family.denoiser.config.layers_per_block
        found = unet_natives(layers, per_level) if isinstance(per_level, int) else {}
        return {native: (Slice(own),) for own, native in found.items()}
    return names_of(family).natives(layers)


__all__ = ["NAMES", "Names", "Slice", "names_of", "natives_of"]
