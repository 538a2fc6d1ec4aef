"""What the rectified flows share: a transformer, trained at the sigmas of its pipeline's own scheduler."""

import math
from abc import ABC
from collections.abc import Mapping
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.recipes import Recipe, rates


def recipes(lora: Mapping[str, Any] | None = None, **shared: Any) -> Recipe:
    """The rate and rank of each method for a flow, LoRA's by `lora`, with lengths and sizes, which all methods of a family share with
    `shared`."""
    sizes = {"max_train_steps": 500, "train_batch_size": 1, "num_class_images": 100, "lr_warmup_steps": 0}
    return rates(1e-5, lora, **{**sizes, **shared})


class Flow(Family, ABC):
    """A transformer that predicts eps - x."""

    denoiser_name = "transformer"
    default_latents = 128

    def make_schedule(self) -> NoiseSchedule:
        """The scheduler's own training sigmas: shifted when its shift is static, plain when it shifts by the picture's size."""
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        return NoiseSchedule.from_sigmas(scheduler.sigmas[: scheduler.config.num_train_timesteps])

    @classmethod
    def refuse_dynamic_shift(cls, scheduler: Mapping[str, Any]) -> None:
        """Raise SettingError for a scheduler, by its configuration, that shifts pictures of every size alike."""
        if not scheduler.get("use_dynamic_shifting"):
            own = scheduler.get("shift") or scheduler.get("flow_shift") or 1.0
            reason = f"this model's scheduler shifts pictures of every size alike, by {own:g}."
            raise SettingError("--flow_shift", reason, fix="Give a number, or leave it out.")

    def dynamic_shift(self, height: int, width: int) -> float:
        """By how much the scheduler shifts the sigmas of a picture of this size, from the count of its tokens."""
        config = self.pipe.scheduler.config
        tokens = math.prod(self.latent_shape(height, width)[1:]) / self.packing**2
        few, many = config.base_image_seq_len, config.max_image_seq_len
        mu = config.base_shift + (config.max_shift - config.base_shift) * (tokens - few) / (many - few)
        return mu if config.time_shift_type == "linear" else math.exp(mu)
