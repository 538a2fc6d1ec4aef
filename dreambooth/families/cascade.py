"""Pictures through the stages of a cascade: each makes those of the one before it larger, from their unrounded pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.families.sampling import Picture, Sampling, Smaller, draw
from dreambooth.families.superresolution import SuperResolution


@dataclass(frozen=True)
class Stage(Smaller):
    """A stage, which draws the small pictures of the next one."""

    family: Family
    sampling: Sampling
    before: Smaller | None = None
    name: str = ""
    """What its user calls it: stands in every picture."""
    precision: str = "no"
    negative_prompt: str | None = None
    prompt_of: Callable[[str], str] = str
    """What it is asked for where the last stage is asked for a prompt: it may have learned another word."""

    @property
    def stages(self) -> int:
        return 1 + (self.before.stages if self.before else 0)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        drawn = draw(
            self.family, [self.prompt_of(prompt) for prompt in prompts], seeds, sampling=self.sampling, smaller=self.before,
            negative_prompt=self.negative_prompt, batch_size=len(prompts), precision=self.precision, keeps_pixels=True,
        )  # fmt: skip
        return [_named(picture, self.name) for picture in drawn]

    @contextmanager
    def of_all(self, prompts: Sequence[str]) -> Iterator[None]:
        own = [self.prompt_of(prompt) for prompt in prompts]
        with self.family.drawing([*own, *([self.negative_prompt] if self.negative_prompt else [])]):
            if self.before is None:
                yield
                return
            with self.before.of_all(own):
                yield


@dataclass(frozen=True)
class Given(Smaller):
    """Small pictures that are there: the first for the first seed, and so on, over and over."""

    names: Sequence[str]
    pixels: Sequence[Float[Tensor, "3 h w"]]
    """In [-1, 1]."""
    first_seed: int = 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        places = [(seed - self.first_seed) % len(self.pixels) for seed in seeds]
        return [
            Picture(as_image(self.pixels[place]), prompt, seed, True, {"from": self.names[place]}, self.pixels[place])
            for prompt, seed, place in zip(prompts, seeds, places, strict=True)
        ]


def pixels_of(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """A picture's pixels in [-1, 1]."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 127.5 - 1


def as_image(pixels: Float[Tensor, "3 h w"]) -> Image.Image:
    """A picture of pixels in about [-1, 1]."""
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


def refuse_wrong_order(kinds: Sequence[type[Family]], names: Sequence[str]) -> None:
    """Raise SettingError for stages in an order in which they cannot draw; of what draws from text there is one, and it is the first."""
    for (one, before), (kind, name) in pairwise(zip(kinds, names, strict=True)):
        if not kind.conditioning_channels:
            raise SettingError("--then", f"{name} ({kind.name}) draws from text alone.", fix="It can only be the first stage.")
        if kind.stage < one.stage:
            reason = f"{name} is a stage {'I' * kind.stage}, and {before}, named before it, a stage {'I' * one.stage}."
            raise SettingError("--then", reason, fix="Name them in the order of their sizes.")


def refuse_other_size(name: str, side: int, small: int, before: str) -> None:
    """Raise SettingError for a stage that was made for other pictures than those that it will get; `side` and `small` in pixels."""
    wanted = side // SuperResolution.ratio
    if wanted != small:
        reason = f"{name} makes pictures of {wanted} pixels into {side}, and {before} draws {small}."
        raise SettingError("--then", reason, fix=f"Name a stage that draws {wanted}.")


def _named(picture: Picture, name: str) -> Picture:
    return replace(picture, settings={**picture.settings, "model": name}) if name else picture
