"""A stage of a cascade that makes small pictures large: it sees the small one beside the noisy large one, and is told how noisy that is.

For training the small picture is an area average of the photo. As for drawing it gets noise of a level (an index into a schedule of its
own), which the network is told: noise conditioning augmentation (Ho et al. 2021, "Cascaded Diffusion Models"). DreamBooth lowers it
while it tunes, or what is fine in the subject stays the base model's (section 3.3).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.recipes import Recipe, rates

Variance = Annotated[float, Ge(0), Lt(1)]
"""Of noise on a small picture, where picture and noise together have about 1."""


def stage_rates(batch: int) -> Recipe:
    """Stable Diffusion's rates, for lengths and sizes of a stage that gives detail and no shape."""
    return rates(5e-6, max_train_steps=500, train_batch_size=batch, with_prior_preservation=False, lr_warmup_steps=0)


class SuperResolution(Family, ABC):
    """A stage after the first."""

    conditioning_channels = 3
    ratio: ClassVar[int] = 4
    """Pixels along a side for one of the small picture."""
    noising_scheduler: ClassVar[str]
    """The pipeline's name for the schedule of the small picture's noise."""
    base_level: ClassVar[int]
    """The level at which its pipeline draws when nothing is said."""

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.noising = NoiseSchedule.from_betas(getattr(pipe, self.noising_scheduler).config)
        self.noise_levels: tuple[int, int] | None = None
        """The lowest and the highest level of training; None for a model that was not tuned, or not with a small picture."""

    @property
    def pixel_step(self) -> int:
        """Small pictures have whole sides, too."""
        return math.lcm(super().pixel_step, self.ratio)

    @property
    def num_levels(self) -> int:
        """How many levels of noise the network knows."""
        return len(self.noising)

    @property
    def noise_level(self) -> int:
        """The lowest that was trained; of a model that was not, its pipeline's own."""
        return self.noise_levels[0] if self.noise_levels else self.base_level

    def variance(self, level: int) -> float:
        """How much of the small picture's variance is noise at a level."""
        return float(self.noising.sigma[level] ** 2)

    def nearest_level(self, variance: float, *, setting: str = "--noise_augmentation") -> int:
        """The level whose variance is nearest; raises SettingError for more noise than the network knows."""
        most = self.variance(self.num_levels - 1)
        if variance > most:
            raise SettingError(setting, f"this model knows variances up to {most:.2g}, got {variance:g}.", fix="Give a smaller one.")
        return int((self.noising.sigma[: self.num_levels].double() ** 2 - variance).abs().argmin())

    def small_pictures(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 h w"]:
        """What a stage before would have drawn, by an area average."""
        return avg_pool2d(pixels, self.ratio)

    @abstractmethod
    def small_of(self, moments: Float[Tensor, "b moments H W"]) -> Float[Tensor, "b 3 h w"]:
        """The small pictures of what `encode` gave."""

    def enlarged(self, small: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        """Small pictures in the size of x, as the pipeline makes it."""
        return small

    def conditioning(self, moments: Float[Tensor, "b moments H W"], rngs: Iterable[torch.Generator]) -> dict[str, Tensor]:
        """The small pictures, each with noise of a level in the trained range; nothing where training goes without them."""
        if not self.noise_levels:
            return {}
        low, high = self.noise_levels
        image = self.enlarged(self.small_of(moments))
        drawn = [(torch.randn(image.shape[1:], generator=rng), torch.randint(low, high + 1, (), generator=rng)) for rng in rngs]
        noise, level = (torch.stack(values).to(image.device) for values in zip(*drawn, strict=True))
        return self.noised(image, noise, level)

    def noised(self, image: Float[Tensor, "b 3 h w"], noise: Float[Tensor, "b 3 h w"], level: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """Small pictures in the size of x, with noise as the noising scheduler adds it, and the level beside them."""
        self.noising = self.noising.to(image.device)
        return {"conditioning_image": self.noising.noise(image, noise, level), "noise_level": level}

    def levels(self, variances: Sequence[float]) -> tuple[int, int]:
        """The lowest and the highest of the levels nearest to some variances; without any the lowest of all. Raises SettingError."""
        found = sorted(self.nearest_level(variance) for variance in variances or (0.0,))
        return found[0], found[-1]
