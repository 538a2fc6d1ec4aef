"""Pictures of a run and of what was written of it, drawn alike and compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from dreambooth.core.device import free_memory
from dreambooth.core.errors import RunError
from dreambooth.families import Family
from dreambooth.families.cascade import Given
from dreambooth.families.sampling import Sampling, Smaller, draw
from dreambooth.families.superresolution import SuperResolution
from dreambooth.setup.open import Opened
from dreambooth.setup.stages import set_noise

STEPS = 8
"""Of the sampler."""


@dataclass(frozen=True)
class Comparison:
    """How pictures are drawn that are to be compared. A later stage makes small ones large, at the noise it was trained with."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    sampling: Sampling
    device: torch.device
    noise_levels: tuple[int, int] | None = None
    smaller: Smaller | None = None

    def pictures(self, family: Family | None) -> list[np.ndarray]:
        """What a model draws, in float32; raises RunError for numbers that are not finite."""
        assert family is not None
        family.to(self.device)
        if isinstance(family, SuperResolution):
            family.noise_levels = self.noise_levels
        pictures = list(draw(family, self.prompts, self.seeds, sampling=self.sampling, smaller=self.smaller))
        if not all(one.finite for one in pictures):
            raise RunError("The pictures are not finite, so there is nothing to compare, and nothing was written. Is the run damaged?")
        drawn = [np.asarray(one.image, dtype=np.int16) for one in pictures]
        family.to(torch.device("cpu"))
        free_memory(self.device)
        return drawn


def own_sampling(opened: Opened) -> Sampling:
    """As the run draws its previews."""
    run = opened.config
    return run.validation.sampling(_side(opened)) if run else Sampling(guidance_scale=opened.family.guidance_scale)


def _side(opened: Opened) -> int:
    run = opened.config
    return (run.cropping.resolution if run else None) or opened.family.native_resolution


def comparison(opened: Opened, prompt: str, seed: int, device: torch.device) -> Comparison:
    """As the run draws its previews, in few steps, two pictures."""
    family, own = opened.family, own_sampling(opened)
    sampling = own.model_copy(update={"num_inference_steps": min(own.num_inference_steps, STEPS)})
    prompts, seeds = [prompt] * 2, [seed, seed + 1]
    if not isinstance(family, SuperResolution):
        return Comparison(prompts, seeds, sampling, device)
    set_noise(opened, None)
    sampling = sampling.model_copy(update={"height": None, "width": None})
    smaller = Given(["patches"], [_patches(_side(opened) // family.ratio)])
    return Comparison(prompts, seeds, sampling, device, family.noise_levels, smaller)


def difference(before: list[np.ndarray], after: list[np.ndarray]) -> int:
    """The largest, in levels of 255."""
    return max(int(np.abs(one - other).max()) for one, other in zip(before, after, strict=True))


def _patches(side: int) -> torch.Tensor:
    """A small picture of a few colours, the same each time, [3, side, side] in [-1, 1]."""
    colours = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return interpolate(colours, size=(side, side), mode="bilinear")[0]
