"""Sana: a rectified flow in a linear transformer over latents of 32 x 32 pixels each, reading Gemma's states (Xie et al. 2024)."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.flow import Flow, recipes
from dreambooth.families.recipes import Recipe


class Sana(Flow):
    """Sana and Sana 1.5; Sprint, which is distilled, has another pipeline."""

    name = "Sana"
    pipelines = ("SanaPipeline",)
    denoiser_class = "SanaTransformer2DModel"
    vae_classes = ("AutoencoderDC",)
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"caption_channels": ("text_encoder",)}
    most_tokens = 300
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"padding_side": "right"}
    reads_lower_case = True
    default_latents = 32
    guidance_scale = 4.5
    takes_fp16 = False
    takes_new_words = False
    text_trainable = ()
    lora_targets = ("to_k", "to_q", "to_v")
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4)
    """LoRA's values are those of diffusers' README for Sana, with rank 16 for its 4. The other methods' are FLUX.1's, and untested here."""
    terms = "Sana's weights are under NVIDIA's licence for research, its text encoder under Gemma's terms; only its code is Apache-2.0."

    @classmethod
    def vae_factor_of(cls, vae: Mapping[str, Any]) -> int | None:
        return super().vae_factor_of({"block_out_channels": vae.get("encoder_block_out_channels")})

    @property
    def instruction(self) -> str:
        """What its pipeline writes before a prompt, but not before a negative one."""
        return "\n".join(inspect.signature(type(self.pipe).__call__).parameters["complex_human_instruction"].default)

    @property
    def dropped_tokens(self) -> int:
        """Of the instruction's the first one is seen, and one more, as its pipeline counts."""
        return len(self.tokenizers[0](self.instruction).input_ids) - 2

    def format_prompt(self, prompt: str, number: int) -> str:
        return self.instruction + super().format_prompt(prompt, number)

    def make_schedule(self) -> NoiseSchedule:
        """Shifted as its sampler shifts. diffusers' script loads another scheduler from the folder, to which `flow_shift` says nothing."""
        config = self.pipe.scheduler.config
        if "flow_shift" not in config:
            return super().make_schedule()
        plain = torch.arange(config.num_train_timesteps, 0, -1) / config.num_train_timesteps
        return NoiseSchedule.from_sigmas(config.flow_shift * plain / (1 + (config.flow_shift - 1) * plain))

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """Its pipeline would draw in a size of its table, scale that to the one asked for, and tidy prompts where it finds packages to."""
        return super().pipeline_kwargs(guidance_scale, negative_prompts) | {"use_resolution_binning": False, "clean_caption": False}

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        """Its VAE gives latents and no spread around them."""
        latents = self.pipe.vae.encode(pixels).latent
        return torch.cat([latents, torch.zeros_like(latents)], dim=1)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = tokens["attention_mask"].bool()
        states = self.encoders[0](tokens["input_ids"], attention_mask=mask, use_cache=False)[0]
        last = mask.shape[1] - self.dropped_tokens - 1
        return {name: torch.cat([value[:, :1], value[:, -last:]], dim=1) for name, value in {"text": states, "mask": mask}.items()}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        return self.denoiser(
            x_t, condition["text"], time * self.denoiser.config.timestep_scale, encoder_attention_mask=condition["mask"], return_dict=False
        )[0]
