"""Configurations of models as they were published, from diffusers' and transformers' own classes; no weights, a few KiB each.

What is left out here is the class's own default, which for FLUX.1, Z-Image and Qwen-Image is the published model.
"""

import json
from pathlib import Path
from typing import Any

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "clip_sample": False}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "projection_dim": 1280}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
CHANNELS = [128, 256, 512, 512]
VAE = {
    "block_out_channels": CHANNELS, "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}  # fmt: skip
FLOW_VAE = {**VAE, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1159,
            "scaling_factor": 0.3611}  # fmt: skip
QWEN3_4B = {
    "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 40960,
}  # fmt: skip
QWEN3_8B = {**QWEN3_4B, "hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False}

UNET = "UNet2DConditionModel"
MODELS: dict[str, dict[str, tuple[str, str, dict[str, Any]]]] = {
    "sd15": {
        "": ("diffusers", "StableDiffusionPipeline", {}),
        "unet": ("diffusers", UNET, {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}),
        "vae": ("diffusers", "AutoencoderKL", VAE),
        "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
        "tokenizer": ("transformers", "CLIPTokenizer", {"model_max_length": 77}),
        "scheduler": ("diffusers", "DDIMScheduler", BETAS),
    },
    "sdxl": {
        "": ("diffusers", "StableDiffusionXLPipeline", {}),
        "unet": ("diffusers", UNET, {
            "sample_size": 128, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "transformer_layers_per_block": [1, 2, 10],
            "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }),
        "vae": ("diffusers", "AutoencoderKL", {**VAE, "scaling_factor": 0.13025, "force_upcast": True}),
        "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
        "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", {**CLIP_G, "hidden_act": "gelu"}),
        "tokenizer": ("transformers", "CLIPTokenizer", {"model_max_length": 77}),
        "tokenizer_2": ("transformers", "CLIPTokenizer", {"model_max_length": 77}),
        "scheduler": ("diffusers", "EulerDiscreteScheduler", {name: value for name, value in BETAS.items() if name != "clip_sample"}),
    },
    "flux-dev": {
        "": ("diffusers", "FluxPipeline", {}),
        "transformer": ("diffusers", "FluxTransformer2DModel", {"guidance_embeds": True}),
        "vae": ("diffusers", "AutoencoderKL", FLOW_VAE),
        "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
        "text_encoder_2": ("transformers", "T5EncoderModel", T5_XXL),
        "tokenizer": ("transformers", "CLIPTokenizer", {"model_max_length": 77}),
        "tokenizer_2": ("transformers", "T5Tokenizer", {"model_max_length": 512}),
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "shift": 3.0}),
    },
    "klein-4b": {
        "": ("diffusers", "Flux2KleinPipeline", {"is_distilled": False}),
        "transformer": ("diffusers", "Flux2Transformer2DModel", {
            "num_layers": 5, "num_single_layers": 20, "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 7680,
            "guidance_embeds": False,
        }),
        "vae": ("diffusers", "AutoencoderKLFlux2", {}),
        "text_encoder": ("transformers", "Qwen3ForCausalLM", QWEN3_4B),
        "tokenizer": ("transformers", "Qwen2TokenizerFast", {"model_max_length": 131072}),
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "shift": 3.0}),
    },
    "z-image": {
        "": ("diffusers", "ZImagePipeline", {}),
        "transformer": ("diffusers", "ZImageTransformer2DModel", {}),
        "vae": ("diffusers", "AutoencoderKL", FLOW_VAE),
        "text_encoder": ("transformers", "Qwen3Model", QWEN3_4B),
        "tokenizer": ("transformers", "Qwen2Tokenizer", {"model_max_length": 131072}),
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    },
}  # fmt: skip
"""By short name: the pipeline's class, then each part's library, class and what it has otherwise than that class's defaults."""

MODELS["sd15-half"] = {
    **MODELS["sd15"],
    "unet": ("diffusers", UNET, {**MODELS["sd15"]["unet"][2], "block_out_channels": [160, 320, 640, 640]}),
}
"""SD1.5's shape at half its width: what a machine of 8 GiB can train whole."""


def write(name: str, folder: Path) -> Path:
    """A pipeline folder of a model's configurations; kept where it is already there."""
    parts = MODELS[name]
    index: dict[str, Any] = {"_class_name": parts[""][1], **parts[""][2]}
    for part, (library, kind, config) in parts.items():
        if part:
            index[part] = [library, kind]
            own = {"_class_name": kind} if library == "diffusers" else {"architectures": [kind]}
            stem = "scheduler_config" if part == "scheduler" else "tokenizer_config" if part.startswith("tokenizer") else "config"
            _write(folder / part / f"{stem}.json", {**own, **config})
    _write(folder / "model_index.json", index)
    return folder


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
