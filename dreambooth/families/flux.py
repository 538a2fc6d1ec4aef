"""FLUX.1: a rectified flow in a transformer over packed latents, on T5's tokens and CLIP's pooled embedding (Black Forest Labs)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import Flow, recipes
from dreambooth.families.recipes import INVERSION, Recipe


class Flux(Flow):
    """FLUX.1 dev (with guidance as a numeric input) and schnell (without)."""

    name = "FLUX.1"
    pipelines = ("FluxPipeline",)
    denoiser_class = "FluxTransformer2DModel"
    fixed_attention = False
    encoder_names = ("text_encoder", "text_encoder_2")
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "joint_attention_dim": ("text_encoder_2",), "pooled_projection_dim": ("text_encoder",),
    }  # fmt: skip
    embedding_names = ("clip_l", "t5xxl")
    reads_alone: ClassVar[Mapping[str, str]] = {"text_encoder_2": "text"}
    packing = 2
    channel_multiple = 4
    takes_negative_prompt = False
    guidance_scale = 3.5
    lora_targets = (
        "attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj",
        "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip
    recipe: ClassVar[Recipe] = {**recipes(train_guidance_scale=1.0), "textual_inversion": {**INVERSION, "train_guidance_scale": 1.0}}
    """LoRA's and full fine-tuning's values are those of diffusers' README for FLUX, with guidance 1 while training.

    The other methods' are Stable Diffusion's, and untested here.
    """

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pooled = self.encoders[0](tokens["input_ids"]).pooler_output
        return {"text": tokens["text"] if "text" in tokens else self.encoders[1](tokens["input_ids_2"])[0], "pooled": pooled}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        b, c, h, w = x_t.shape
        packed = self.pipe._pack_latents(x_t, b, c, h, w)
        picture_ids = self.pipe._prepare_latent_image_ids(b, h // 2, w // 2, x_t.device, x_t.dtype)
        text_ids = torch.zeros(condition["text"].shape[1], 3, device=x_t.device, dtype=x_t.dtype)
        guidance = torch.full((b,), self.embedded_guidance, device=x_t.device) if self.denoiser.config.guidance_embeds else None
        out = self.denoiser(
            hidden_states=packed, timestep=time / 1000, guidance=guidance, pooled_projections=condition["pooled"],
            encoder_hidden_states=condition["text"], txt_ids=text_ids, img_ids=picture_ids, return_dict=False,
        )[0]  # fmt: skip
        factor = self.vae_factor
        return self.pipe._unpack_latents(out, h * factor, w * factor, factor)
