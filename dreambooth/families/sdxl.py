"""Stable Diffusion XL: two text encoders, and a UNet conditioned on each picture's size and crop (Podell et al. 2023, sec. 2.2)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.recipes import CUSTOM, INVERSION, Recipe, rates


class SDXL(Family):
    """The base model of SDXL; its VAE encodes in float32 or bfloat16, since float16 overflows there."""

    name = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)
    default_latents = 128
    encoder_names = ("text_encoder", "text_encoder_2")
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"cross_attention_dim": ("text_encoder", "text_encoder_2")}
    added_embeddings = ("text_time",)
    embedding_names = ("clip_l", "clip_g")
    kohya_prefixes: ClassVar[Mapping[str, str]] = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    text_trainable = ("text_encoder", "text_encoder_2")
    recipe: ClassVar[Recipe] = {
        **rates(2e-6, max_train_steps=800, train_batch_size=1, num_class_images=200, lr_warmup_steps=0),
        "textual_inversion": INVERSION,
        "custom_diffusion": CUSTOM,
    }

    def make_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.pipe.scheduler.config)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = self.encoders[0](tokens["input_ids"], output_hidden_states=True)
        second = self.encoders[1](tokens["input_ids_2"], output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return {"text": text, "pooled": second[0]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        added = {"text_embeds": condition["pooled"], "time_ids": condition["time_ids"].to(x_t.dtype)}
        return self.denoiser(x_t, time, condition["text"], added_cond_kwargs=added, return_dict=False)[0]

    def geometry(self, original: tuple[int, int], corner: tuple[int, int], target: tuple[int, int]) -> dict[str, Tensor]:
        """Original height and width, crop top and left, target height and width: float [1, 6]."""
        return {"time_ids": torch.tensor([[*original, *corner, *target]], dtype=torch.float32)}
