"""What the rectified flows share: a transformer, trained at the sigmas of its pipeline's own scheduler."""

from abc import ABC

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family


class Flow(Family, ABC):
    """A transformer that predicts eps - x."""

    denoiser_name = "transformer"
    default_latents = 128

    def make_schedule(self) -> NoiseSchedule:
        """The scheduler's own training sigmas: shifted when its shift is static, plain when it shifts by the picture's size."""
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        return NoiseSchedule.from_sigmas(scheduler.sigmas[: scheduler.config.num_train_timesteps])
