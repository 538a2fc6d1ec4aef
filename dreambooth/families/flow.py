"""What the rectified flows share: a transformer, trained at the sigmas of its pipeline's own scheduler."""

from abc import ABC
from collections.abc import Mapping
from typing import Any

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family, Recipe


def recipes(lora: Mapping[str, Any] | None = None, **shared: Any) -> Recipe:
    """The rate and rank of each method for a flow, LoRA's by `lora`, with lengths and sizes, which all methods of a family share with
    `shared`."""
    rates = {
        "full": {"learning_rate": 1e-5}, "lora": lora or {"learning_rate": 1e-4, "rank": 16}, "loha": {"learning_rate": 1e-4, "rank": 8},
        "lokr": {"learning_rate": 1e-4, "rank": 8}, "oft": {"learning_rate": 6e-5},
    }  # fmt: skip
    sizes = {"max_train_steps": 500, "train_batch_size": 1, "num_class_images": 100, "lr_warmup_steps": 0}
    return {method: {**rate, **sizes, **shared} for method, rate in rates.items()}


class Flow(Family, ABC):
    """A transformer that predicts eps - x."""

    denoiser_name = "transformer"
    default_latents = 128

    def make_schedule(self) -> NoiseSchedule:
        """The scheduler's own training sigmas: shifted when its shift is static, plain when it shifts by the picture's size."""
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        return NoiseSchedule.from_sigmas(scheduler.sigmas[: scheduler.config.num_train_timesteps])
