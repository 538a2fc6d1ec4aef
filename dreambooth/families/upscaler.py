"""The x4 upscaler, stage III of a cascade: latents in the size of the small picture, which stands beside them (Stability AI 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.recipes import INVERSION, Recipe
from dreambooth.families.superresolution import SuperResolution, stage_rates


class Upscaler(SuperResolution):
    """stable-diffusion-x4-upscaler, which takes the place of DeepFloyd's own stage III: that was never published."""

    name = "Stable Diffusion x4 upscaler"
    pipelines = ("StableDiffusionUpscalePipeline",)
    stage = 3
    default_latents = 128
    guidance_scale = 9.0
    schedulers = ("scheduler", "low_res_scheduler")
    noising_scheduler = "low_res_scheduler"
    base_level = 20
    recipe: ClassVar[Recipe] = {**stage_rates(1), "textual_inversion": INVERSION}
    """Stable Diffusion's rates, untested here."""

    @property
    def num_levels(self) -> int:
        return self.pipe.config.max_noise_level + 1

    def make_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.pipe.scheduler.config)

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        """The small picture, which has the latents' size, behind mean and deviation."""
        return torch.cat([super().encode(pixels), self.small_pictures(pixels)], dim=1)

    def draw(self, moments: Float[Tensor, "b moments h w"], noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return super().draw(moments[:, :-3], noise)

    def small_of(self, moments: Float[Tensor, "b moments h w"]) -> Float[Tensor, "b 3 h w"]:
        return moments[:, -3:]

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"text": self.encoders[0](tokens["input_ids"])[0]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        both = torch.cat([x_t, condition["conditioning_image"]], dim=1)
        return self.denoiser(both, time, condition["text"], class_labels=condition["noise_level"], return_dict=False)[0]

    def small_kwargs(self, small: Float[Tensor, "b 3 h w"]) -> dict[str, Any]:
        """Its pipeline takes a tensor without a negative number for one in [0, 1]."""
        return {"image": (small / 2 + 0.5).clamp(0, 1), "noise_level": self.noise_level}
