"""Names at full shape: every layer that a LoRA of the real networks can change has a name that the program's own rules know.

Networks are built from their published configurations on the meta device, without weights.
"""

from types import SimpleNamespace

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, ZImageTransformer2DModel
from diffusers.loaders import single_file_utils as diffusers_readers
from torch import nn

from dreambooth.families import FAMILIES
from dreambooth.formats.changes import Pair
from dreambooth.formats.checkpoints import checkpoint
from dreambooth.formats.comfy import Comfy
from dreambooth.formats.fit import places
from dreambooth.formats.kohya import Kohya
from dreambooth.formats.names import natives_of
from tests import tiny
from tests.formats import readers

SD15 = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}
SD21 = {**SD15, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
SDXL = {
    "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": (1, 2, 10),
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
NETWORKS = {
    "Stable Diffusion 1.5": ("Stable Diffusion", lambda: UNet2DConditionModel(**SD15)),
    "Stable Diffusion 2.1": ("Stable Diffusion", lambda: UNet2DConditionModel(**SD21)),
    "SDXL": ("Stable Diffusion XL", lambda: UNet2DConditionModel(**SDXL)),
    "FLUX.1 dev": ("FLUX.1", lambda: FluxTransformer2DModel(guidance_embeds=True)),
    "SD3.5 medium": (
        "Stable Diffusion 3",
        lambda: SD3Transformer2DModel(
            num_layers=24, num_attention_heads=24, caption_projection_dim=1536, qk_norm="rms_norm", dual_attention_layers=tuple(range(13))
        ),
    ),
    "FLUX.2 klein 4B": (
        "FLUX.2 klein",
        lambda: Flux2Transformer2DModel(num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680),
    ),
    "Z-Image": ("Z-Image", lambda: ZImageTransformer2DModel()),
}  # fmt: skip
COUNTS = {
    "Stable Diffusion 1.5": 128, "Stable Diffusion 2.1": 128, "SDXL": 560, "FLUX.1 dev": 19 * 12 + 38 * 3, "SD3.5 medium": 24 * 8 - 1,
    "FLUX.2 klein 4B": 5 * 4 + 20 * 2, "Z-Image": 34 * 4,
}  # fmt: skip
"""Layers that the default LoRA of each changes."""


class Network:
    """A family with a network of full shape, and a change in each layer that its LoRA targets."""

    def __init__(self, name: str):
        family, build = NETWORKS[name]
        self.kind = next(one for one in FAMILIES if one.name == family)
        with torch.device("meta"):
            self.network = build()
        part = self.kind.denoiser_name
        self.family = SimpleNamespace(
            name=self.kind.name, denoiser_name=part, denoiser_class=self.kind.denoiser_class, encoder_names=(), denoiser=self.network,
            parts={part: self.network}, kohya_prefixes=self.kind.kohya_prefixes,
        )  # fmt: skip
        ends = tuple(f".{target}" for target in self.kind.lora_targets)
        self.targets = {
            layer: module for layer, module in self.network.named_modules()
            if f".{layer}".endswith(ends) and isinstance(module, (nn.Linear, nn.Conv2d))
        }  # fmt: skip
        pairs = {
            layer: Pair(torch.zeros(1, module.in_features), torch.ones(module.out_features, 1), alpha=1.0)
            for layer, module in self.targets.items()
        }
        self.result = SimpleNamespace(family=self.family, changes={part: pairs})

    def names(self, format) -> set[str]:
        found = list(format.named(self.result))
        assert len({name for name, _ in found}) == len(found)
        return {name for name, _ in found}


@pytest.fixture(scope="module")
def network():
    known: dict[str, Network] = {}
    return lambda name: known.setdefault(name, known.get(name) or Network(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_comfyui_knows_every_layer_of_an_exported_lora(network, name):
    one = network(name)
    assert len(one.targets) == COUNTS[name]
    names = one.names(Comfy())
    known = readers.comfy_unet(one.network) if one.kind.kohya_prefixes else readers.comfy_transformer(one.network, ("transformer.",))
    assert len(names) == COUNTS[name] and not names - known


@pytest.mark.parametrize("name", ["Stable Diffusion 1.5", "Stable Diffusion 2.1", "SDXL"])
def test_a1111_knows_every_layer_of_an_exported_lora(network, name):
    one = network(name)
    assert not one.names(Kohya()) - readers.a1111_unet(one.network)


@pytest.mark.parametrize(
    ("name", "known", "count"),
    [
        ("FLUX.1 dev", readers.kohya_flux(19, 38), 19 * 8 + 38),
        ("SD3.5 medium", readers.kohya_sd3(24), 24 * 4 - 1),
    ],
)
def test_sd_scripts_knows_every_fused_layer(network, name, known, count):
    names = network(name).names(Kohya())
    assert len(names) == count and not names - known


@pytest.mark.parametrize("name", NETWORKS)
def test_every_exported_name_is_found_again(network, name):
    one = network(name)
    known = places(one.family)
    for format in (Comfy(), Kohya()) if one.kind.kohya_prefixes or name in ("FLUX.1 dev", "SD3.5 medium") else (Comfy(),):
        found = [layer for native in one.names(format) for layer in known[native].layers]
        assert set(one.targets) <= set(found)


THEIRS = {
    "FLUX.1 dev": diffusers_readers.convert_flux_transformer_checkpoint_to_diffusers,
    "FLUX.2 klein 4B": diffusers_readers.convert_flux2_transformer_checkpoint_to_diffusers,
    "SD3.5 medium": diffusers_readers.convert_sd3_transformer_checkpoint_to_diffusers,
    "Z-Image": diffusers_readers.convert_z_image_transformer_checkpoint_to_diffusers,
}


class Loose(dict):
    """Weights by native names, and something for every other weight that a converter wants to move."""

    def pop(self, key, default=None):
        return super().pop(key, torch.zeros(4, 1))


@pytest.mark.parametrize("name", THEIRS)
def test_diffusers_own_converter_finds_each_of_our_native_layers_rows(network, name):
    """One number for each output in the place of its row: they have to come out in the layers that we say they are from, in order."""
    one = network(name)
    rng = torch.Generator().manual_seed(0)
    rows = {
        layer: torch.randn(module.out_features if isinstance(module, nn.Linear) else module.out_channels, 1, generator=rng)
        for layer, module in one.network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))
    }  # fmt: skip
    native = Loose()
    for name_there, slices in natives_of(one.family).items():
        for end in ("weight", "bias"):
            native[f"{name_there}.{end}"] = torch.cat([rows[part.layer][part.rows(len(rows[part.layer]))] for part in slices])
    covered = {part.layer for slices in natives_of(one.family).values() for part in slices}
    found = THEIRS[name](native)
    wrong = [layer for layer in covered if not torch.equal(found.get(f"{layer}.weight", torch.zeros(0)), rows[layer])]
    assert len(covered) >= len(one.targets) and set(one.targets) <= covered and not wrong, wrong[:5]


@pytest.mark.parametrize("base", ["sd_shaped", "sdxl_shaped"])
def test_every_weight_of_a_checkpoint_has_a_name_that_diffusers_knows(shaped, base):
    """Its own converter takes the UNet's names back to the very weights."""
    pipe = tiny.load(shaped(base)).pipe
    own = checkpoint(pipe)
    config = dict(pipe.unet.config)
    found = diffusers_readers.convert_ldm_unet_checkpoint(dict(own), config)
    mine = pipe.unet.state_dict()
    assert found.keys() == mine.keys() and all(torch.equal(found[name], value) for name, value in mine.items())
    again = diffusers_readers.convert_ldm_vae_checkpoint(dict(own), dict(pipe.vae.config))
    vae = pipe.vae.state_dict()
    assert again.keys() == vae.keys() and all(torch.equal(again[name].flatten(), value.flatten()) for name, value in vae.items())


@pytest.mark.parametrize("name", ["Stable Diffusion 1.5", "Stable Diffusion 2.1", "SDXL"])
def test_every_weight_of_a_real_unet_has_a_place_in_a_checkpoint(network, name):
    one = network(name)
    natives = natives_of(one.family)
    layers = {layer for layer, module in one.network.named_modules() if getattr(module, "weight", None) is not None}
    assert layers == {slices[0].layer for slices in natives.values() if slices[0].layer in layers}
    assert "output_blocks.11.0.out_layers.3" in natives if "XL" not in name else "output_blocks.8.0.out_layers.3" in natives
