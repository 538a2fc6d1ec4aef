"""A base model's safety checker at work: `generate` shows it every picture, and what it objects to is black.

Class images, previews and evaluation do not pass through it: a black picture among them would be learned from, or scored.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from dreambooth.core.wording import shortened, shown
from dreambooth.families.safety import PICTURES, PREPROCESSOR, SafetyChecker
from dreambooth.families.sampling import Picture
from dreambooth.families.source import ModelSource
from dreambooth.metrics.preprocessing import CLIP, Preprocessing, read
from dreambooth.setup.open import Opened
from dreambooth.setup.stages import Found
from dreambooth.training.records import Message

BLACKED = "blacked_by"
"""The setting of a black picture that says whose doing it is."""
NAME = "safety_checker"


@dataclass(frozen=True)
class Checker:
    """A loaded safety checker."""

    network: Any
    preprocess: Preprocessing
    device: torch.device

    @torch.no_grad()
    def objects(self, image: Image.Image) -> bool:
        """Whether a picture would be blackened: for what it shows, or, by DeepFloyd's checker, for a watermark in it."""
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)[None] / 255
        _, *found = self.network(images=pixels, clip_input=self.preprocess([image]).to(self.device))
        return any(bool(one[0]) for one in found)


def refuse_half_checkers(stages: Sequence[Found], *, allow_pickle: bool) -> None:
    """Raise SettingError for the checker of a base model on this disk that could not be run, before anything is loaded."""
    for stage in stages:
        source = _drawn_with(stage)
        if source.is_here and (checker := SafetyChecker.of(source)):
            checker.runnable(allow_pickle=allow_pickle)


def _drawn_with(stage: Found) -> ModelSource:
    """The pipeline whose checker counts: of a run whose result is one, that."""
    own = stage.config and stage.config.method.trains_whole_parts and stage.path == stage.run
    return stage.source.updated({("pretrained_model_name_or_path",): str(stage.run), ("variant",): None}) if own else stage.source


def load_checker(opened: Opened, *, allow_pickle: bool) -> Checker | None:
    """The checker of the last stage that has one, loaded once for an opened model; None where no base model has any.

    Raises SettingError for one that is not whole, and for a pickle that is not allowed.
    """
    if opened.checker is None:
        files = next((stage.family.checker for stage in (opened, *reversed(opened.stages)) if stage.family.checker), None)
        opened.checker = _loaded(files, opened.family.device, allow_pickle=allow_pickle) if files else None
    return opened.checker


def _loaded(files: SafetyChecker, device: torch.device, *, allow_pickle: bool) -> Checker:
    own = files.files()[f"{PICTURES}/{PREPROCESSOR}"].parent
    network = files.network(allow_pickle=allow_pickle)
    side = int(network.config.vision_config.image_size)
    logging.getLogger(type(network).__module__).setLevel(logging.ERROR)  # which pictures are black is said here, by their seeds
    return Checker(network.to(device), read(own) or Preprocessing(side, side, *CLIP), device)


def checked(pictures: Iterator[Picture], checker: Checker | None) -> Iterator[Picture]:
    """The pictures; black ones, whose settings say so, in the place of those that a checker objects to."""
    for picture in pictures:
        if checker and checker.objects(picture.image):
            black = Image.new("RGB", picture.image.size)
            picture = replace(picture, image=black, settings={**picture.settings, BLACKED: NAME}, pixels=None)
        yield picture


def about(picture: Picture) -> Iterator[Message]:
    """A sentence where a picture is black, or is none."""
    if picture.settings.get(BLACKED):
        prompt = shortened(shown(picture.prompt), 60)
        reason = f'The safety checker blackened the picture of seed {picture.seed} ("{prompt}").'
        yield Message(f"{reason} Try another seed or prompt; --no_safety_checker does not run it.", important=True)
    if not picture.finite:
        yield Message(f"The picture of seed {picture.seed} is not finite; try --mixed_precision no.", important=True)
