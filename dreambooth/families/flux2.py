"""FLUX.2 klein: a rectified flow over patches of latents, reading three layers of a language model at once (Black Forest Labs 2025)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import Flow, recipes
from dreambooth.families.recipes import Recipe
from dreambooth.families.source import ModelSource
from dreambooth.families.text import chat

BLOCKS = 48
"""Single blocks at most: 20 in klein 4B, 24 in klein 9B, 48 in dev."""


class Flux2(Flow):
    """FLUX.2 klein, base and distilled. Training is for the base; its LoRA also draws with the distilled model, in 4 steps."""

    name = "FLUX.2 klein"
    pipelines = ("Flux2KleinPipeline",)
    denoiser_class = "Flux2Transformer2DModel"
    fixed_attention = False
    vae_classes = ("AutoencoderKLFlux2",)
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"joint_attention_dim": ("text_encoder",) * 3}
    layers: ClassVar[tuple[int, ...]] = (9, 18, 27)
    """The encoder's hidden states that the transformer was trained on. diffusers' training script reads 10, 20 and 30, FLUX.2 dev's."""
    channel_multiple = 4
    default_latents = 64
    guidance_scale = 4.0
    takes_negative_prompt = False
    takes_new_words = False
    text_trainable = ()
    lora_targets = (
        "to_k", "to_q", "to_v", "to_out.0", "to_qkv_mlp_proj",
        *(f"single_transformer_blocks.{number}.attn.to_out" for number in range(BLOCKS)),
    )  # fmt: skip
    """The single blocks' `to_out` one by one: in a double block a layer of that name holds others, and PEFT refuses it."""
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4)
    """LoRA's values are those of diffusers' README for FLUX.2. The other methods' are FLUX.1's, and untested here."""

    @classmethod
    def advice(cls, source: ModelSource) -> str | None:
        if not source.index().get("is_distilled"):
            return None
        return "This FLUX.2 klein is distilled and forgets by training how to draw in few steps: train klein-base, draw with either."

    @classmethod
    def vae_factor_of(cls, vae: Mapping[str, Any]) -> int | None:
        """Twice the VAE's own: a latent is a patch of 2 x 2 of the VAE's."""
        own = super().vae_factor_of(vae)
        return own and 2 * own

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        channels, h, w = super().latent_shape(height, width)
        return (4 * channels, h, w)

    def format_prompt(self, prompt: str, number: int) -> str:
        return chat(self.pipe.tokenizer, prompt, enable_thinking=False)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The layers side by side, padding's states too: the transformer has no mask, and was trained to read them."""
        out = self.encoders[0](tokens["input_ids"], attention_mask=tokens["attention_mask"], output_hidden_states=True, use_cache=False)
        return {"text": torch.cat([out.hidden_states[layer] for layer in self.layers], dim=-1)}

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        mean, std = super().encode(pixels).chunk(2, dim=1)
        return torch.cat([self.pipe._patchify_latents(mean), self.pipe._patchify_latents(std)], dim=1)

    def pixels(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return super().pixels(self.pipe._unpatchify_latents(latents))

    def normalization(self) -> tuple[Any, Any]:
        """The VAE's own running statistics, by channel of a patch."""
        norm, epsilon = self.pipe.vae.bn, self.pipe.vae.config.batch_norm_eps
        return norm.running_mean.view(1, -1, 1, 1), 1 / torch.sqrt(norm.running_var.view(1, -1, 1, 1) + epsilon)

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        text = condition["text"]
        is_guided = self.denoiser.config.guidance_embeds
        guidance = torch.full((len(x_t),), self.embedded_guidance, device=x_t.device) if is_guided else None
        out = self.denoiser(
            hidden_states=x_t.flatten(2).mT, timestep=time / 1000, guidance=guidance, encoder_hidden_states=text,
            txt_ids=self.pipe._prepare_text_ids(text).to(x_t.device), img_ids=self.pipe._prepare_latent_ids(x_t).to(x_t.device),
            return_dict=False,
        )[0]  # fmt: skip
        return out.mT.unflatten(2, x_t.shape[2:])
