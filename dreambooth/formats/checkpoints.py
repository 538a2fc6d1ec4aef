"""The names of a single-file checkpoint of Stable Diffusion and SDXL, from diffusers' and transformers' names of the same weights.

A UNet's blocks are counted through (`names.unet`); a VAE's blocks on the way up are counted from the other end, and its attention is 1 x 1
convolutions; CLIP ViT-L keeps its names, OpenCLIP's encoders have their own, with queries, keys and values in one weight and the projection
transposed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dreambooth.formats.names.unet import natives

UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST, SECOND = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
"""SDXL's two text encoders."""
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
"""The text encoder of Stable Diffusion 1, and of 2."""
V_PREDICTION, ZERO_SNR = "v_pred", "ztsnr"
"""Empty tensors by which ComfyUI and A1111 know what an SDXL predicts."""
LEVELS = {"StableDiffusionPipeline": 4, "StableDiffusionXLPipeline": 3}
"""Levels of the UNet, each with two blocks on the way down, by pipeline."""
VAE_LEVELS, PER_LEVEL = 4, 2
VAE_WORDS = {"mid_block.attentions.0.": "mid.attn_1.", "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out"}
OPEN_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
OPEN_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight", "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
}  # fmt: skip


def checkpoint(pipe: Any) -> dict[str, Tensor]:
    """All weights of a pipeline of diffusers' under the names of a single file, on the CPU, in the precisions that they have.

    Raises ValueError for a UNet of another shape than Stable Diffusion's and SDXL's.
    """
    unet = _weights(pipe.unet)
    found = {f"{UNET}{native}": unet[own] for own, native in natives(unet, PER_LEVEL).items()}
    if len(found) != len(unet) or pipe.unet.config.layers_per_block != PER_LEVEL:
        raise ValueError("no program knows this shape of a UNet as a single file")
    found |= {f"{VAE}{name}": value for name, value in _vae(_weights(pipe.vae))}
    encoders = [encoder for name in ("text_encoder", "text_encoder_2") if (encoder := getattr(pipe, name, None))]
    for prefix, encoder in zip(_prefixes(encoders), encoders, strict=True):
        inside = _open_clip if prefix in (SECOND, OPEN_CLIP) else _clip
        found |= {f"{prefix}{name}": value for name, value in inside(_weights(encoder))}
    return found


def marks(pipe: Any) -> dict[str, Tensor]:
    """What tells a reader of SDXL that it predicts v, and up to which noise."""
    config = pipe.scheduler.config
    if config.get("prediction_type") != "v_prediction" or not hasattr(pipe, "text_encoder_2"):
        return {}
    found = {V_PREDICTION: torch.zeros(0)}
    return found | ({ZERO_SNR: torch.zeros(0)} if config.get("rescale_betas_zero_snr") else {})


def _weights(part: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in part.state_dict().items() if not name.endswith("position_ids")}


def _prefixes(encoders: Sequence[Any]) -> tuple[str, ...]:
    if len(encoders) == 2:
        return FIRST, SECOND
    return (CLIP if encoders[0].config.hidden_act == "quick_gelu" else OPEN_CLIP,)  # OpenAI's alone is trained with that


def _vae(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, value in weights.items():
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
        name = re.sub(r"decoder\.up_blocks\.(\d+)\.resnets\.", lambda found: f"decoder.up.{VAE_LEVELS - 1 - int(found[1])}.block.", name)
        name = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.", lambda found: f"decoder.up.{VAE_LEVELS - 1 - int(found[1])}.upsample.", name
        )
        name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda found: f"mid.block_{int(found[1]) + 1}.", name)
        for own, native in VAE_WORDS.items():
            name = name.replace(own, native)
        if ".attn_1." in name:
            for own, native in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                name = name.replace(f".attn_1.{own}.", f".attn_1.{native}.")
            value = value[:, :, None, None] if value.ndim == 2 else value
        yield name, value


def _clip(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """As transformers named them before version 5, below `text_model`: readers know the encoder by that."""
    for name, value in weights.items():
        yield (name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"), value


def _open_clip(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    own = {name.removeprefix("text_model."): value for name, value in weights.items()}
    for name, value in own.items():
        if name == "text_projection.weight":
            yield "text_projection", value.T.contiguous()
        elif name in OPEN_ENDS:
            yield OPEN_ENDS[name], value
        elif ".self_attn.q_proj." in name:
            parts = [own[name.replace("q_proj", letter)] for letter in ("q_proj", "k_proj", "v_proj")]
            yield f"{_block(name)}.attn.in_proj_{name.rpartition('.')[2]}", torch.cat(parts)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            _, _, inner = name.removeprefix("encoder.layers.").partition(".")
            layer, _, kind = inner.rpartition(".")
            yield f"{_block(name)}.{OPEN_LAYER[layer]}.{kind}", value


def _block(name: str) -> str:
    return f"transformer.resblocks.{name.removeprefix('encoder.layers.').partition('.')[0]}"
