"""Stable Diffusion 1.x and 2.x: a UNet with one CLIP text encoder, epsilon or v-prediction (Rombach et al. 2022)."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.recipes import CUSTOM, INVERSION, Recipe, rates


class StableDiffusion(Family):
    """Any sizes of VAE, text encoder and UNet in the Stable Diffusion layout."""

    name = "Stable Diffusion"
    pipelines = ("StableDiffusionPipeline",)
    kohya_prefixes: ClassVar[Mapping[str, str]] = {"unet": "lora_unet", "text_encoder": "lora_te"}
    masks_padding = True
    recipe: ClassVar[Recipe] = {
        **rates(5e-6, max_train_steps=800, train_batch_size=1, num_class_images=200, lr_warmup_steps=0),
        "textual_inversion": INVERSION,
        "custom_diffusion": CUSTOM,
    }
    """Full fine-tuning: the paper's learning rate (section 3.3) and diffusers' steps; with the text encoder, halve the rate."""

    def make_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.pipe.scheduler.config)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        encoder = self.encoders[0]
        mask = getattr(encoder.config, "use_attention_mask", False)
        return {"text": encoder(tokens["input_ids"], attention_mask=tokens["attention_mask"] if mask else None)[0]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        return self.denoiser(x_t, time, condition["text"], return_dict=False)[0]
