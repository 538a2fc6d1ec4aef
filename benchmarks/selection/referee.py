"""The referee: what a checkpoint is worth by the ground truth of the toybox's world, on pictures that no selection rule sees.

The world is rendered, so the right answer to a prompt exists: the same subject in that place, or in that colour. The referee draws a
fixed part of the final evaluation's suite, whose prompts, places and seeds are apart from those that choose, and writes down raw
figures only; `score.py` makes a score of them. Its three instruments:

    likeness   cosine of instance embeddings between a picture and renders of the same subject by the same prompt
    colours    distance between the colours inside the renders' common mask and those of the renders there (no network in it)
    named      probability that the judge, a network that no rule looks through, gives to the place or colour that was asked for
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from dreambooth.evaluation.live import SEED as LIVE_SEED
from dreambooth.evaluation.protocol import held_out, is_live, toybox_suite, without_identifier
from dreambooth.evaluation.scoring import measure
from dreambooth.families import Family
from dreambooth.families.sampling import Sampling, draw
from dreambooth.metrics import EvalImages, GeneratedImage
from dreambooth.metrics.base import cosines
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prompts.placeholder import fill
from dreambooth.toybox.weights import Weights
from dreambooth.toybox.world import CONTEXTS, Subject, render, render_mask, render_photos, scene_of_prompt

PLACES = (
    "on a cobblestone street", "on top of pink fabric", "with a mountain in the background", "with a blue house in the background",
    "with a wheat field in the background", "on top of green grass with sunflowers around it",
)  # fmt: skip
"""Of the suite's fourteen, six that no held-out prompt names."""
COLORS = ("red", "purple")
SEEDS = (0, 1)
CLASS_SEEDS = tuple(range(8))
TRUTHS = 3
"""Renders a prompt: other angles, distances and lights of the same answer."""
TRUTH_SEED = 7_000
SIZE, DIRECTIONS, LEVELS = 128, 24, 33
VERSION = 1
"""Goes up with every change of what is measured, so that old rows are not mixed with new ones."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Asked:
    """One prompt of the referee, and what the judge should name in its pictures."""

    text: str
    head: str
    word: str


@dataclass(frozen=True)
class Truth:
    """The right answers to one prompt: renders, and where the subject is in all of them."""

    pictures: tuple[Image.Image, ...]
    core: np.ndarray
    """bool [SIZE, SIZE]."""


def asked(noun: str) -> list[Asked]:
    """The referee's prompts for a class, with [V]: part of the final suite, and none of those that choose."""
    places = {phrase: name for name, phrase in CONTEXTS.items()}
    prompts = [Asked(f"a [V] {noun} {words}", "context", places[words]) for words in PLACES]
    prompts += [Asked(f"a {color} [V] {noun}", "color", color) for color in COLORS]
    suite = {prompt.text for prompt in toybox_suite(noun, live=is_live(noun))}
    choosing = [prompt.text for prompt in held_out(noun, toybox=True)]
    assert {prompt.text for prompt in prompts} <= suite, "the referee asks what the final evaluation asks"
    assert not any(words in text for words in PLACES for text in choosing), "a place that chooses must not judge"
    assert max(*SEEDS, *CLASS_SEEDS) < LIVE_SEED, "seeds that choose must not judge"
    return prompts


class Referee:
    """Measures models of one subject. Renders, encoders and the judge are made once."""

    def __init__(self, subject: Subject, encoders: LoadedEncoders, sampling: Sampling, *, batch_size: int = 12):
        self.subject, self.encoders, self.sampling, self.batch_size = subject, encoders, sampling, batch_size
        self.asked = asked(subject.noun)
        self.truths = [_truth(subject, prompt.text.replace("[V] ", "")) for prompt in self.asked]
        self.photos = tuple(Image.fromarray(pixels) for pixels in render_photos(subject, SIZE))

    def look(self, family: Family, identifier: str | None) -> Figures:
        """Raw figures of a model; without an identifier those of a model that has not learned the subject."""
        plain = [without_identifier(prompt.text) for prompt in self.asked]
        prompts = [fill(prompt.text, identifier) for prompt in self.asked] if identifier else plain
        noun = f"a {self.subject.noun}"
        with torch.random.fork_rng():
            drawn = self._draw(family, list(zip(prompts, plain, range(len(plain)), strict=True)), SEEDS)
            alone = self._draw(family, [(noun, noun, 0)], CLASS_SEEDS)
            found = measure(
                EvalImages(drawn, self.photos, alone), self.encoders, ("clip_t", "clip_t_chance", "div", "div_class", "copying")
            )
        figures = {name: terms.mean() for name, terms in found.items() if not isinstance(terms, str)}
        figures |= self._figures([(shot.image, shot.row) for shot in drawn])
        figures["class_likeness"] = self._class_likeness([shot.image for shot in alone])
        named = weights().named(_stack([shot.image for shot in alone]))["class"]
        figures["class_named"] = float(named[:, weights().words("class").index(self.subject.noun)].mean())
        return figures

    def truth(self) -> Figures:
        """The same figures of the renders themselves, each held against the others: the upper end of every scale."""
        likeness, colours, pictures = [], [], []
        for row, truth in enumerate(self.truths):
            near = cosines(*[self.encoders.dino(truth.pictures)] * 2)
            likeness.append(float(near[~torch.eye(len(near), dtype=torch.bool)].mean()))
            for number, picture in enumerate(truth.pictures):
                others = [other for place, other in enumerate(truth.pictures) if place != number]
                colours.append(colour_distance([picture], others, truth.core))
                pictures.append((picture, row))
        return {"likeness": float(np.mean(likeness)), "colours": float(np.mean(colours)), **self._named(pictures)}

    def _draw(self, family: Family, prompts: Sequence[tuple[str, str, int]], seeds: Sequence[int]) -> tuple[GeneratedImage, ...]:
        wanted = [(text, plain, row, seed) for text, plain, row in prompts for seed in seeds]
        pictures = draw(
            family, [text for text, *_ in wanted], [seed for *_, seed in wanted], sampling=self.sampling, batch_size=self.batch_size
        )
        return tuple(
            GeneratedImage(p.image, p.prompt, plain, row, seed, p.finite) for p, (_, plain, row, seed) in zip(pictures, wanted, strict=True)
        )

    def _figures(self, pictures: Sequence[tuple[Image.Image, int]]) -> Figures:
        """Likeness, colours and what the judge names, of pictures with the number of their prompt."""
        near = [
            float(cosines(self.encoders.dino([image]), self.encoders.dino(self.truths[row].pictures)).mean()) for image, row in pictures
        ]
        far = [colour_distance([image], self.truths[row].pictures, self.truths[row].core) for image, row in pictures]
        return {"likeness": float(np.mean(near)), "colours": float(np.mean(far)), **self._named(pictures)}

    def _named(self, pictures: Sequence[tuple[Image.Image, int]]) -> Figures:
        """Mean probability of what was asked for, by head."""
        found = weights().named(_stack([image for image, _ in pictures]))
        values: dict[str, list[float]] = {}
        for place, (_, row) in enumerate(pictures):
            wanted = self.asked[row]
            values.setdefault(wanted.head, []).append(float(found[wanted.head][place, weights().words(wanted.head).index(wanted.word)]))
        return {f"named_{head}": float(np.mean(some)) for head, some in values.items()}

    def _class_likeness(self, pictures: Sequence[Image.Image]) -> float:
        """How much the class alone looks like the subject, in the colours that it has."""
        own = [
            picture for prompt, truth in zip(self.asked, self.truths, strict=True) if prompt.head == "context" for picture in truth.pictures
        ]
        return float(cosines(self.encoders.dino(list(pictures)), self.encoders.dino(own)).mean())


def colour_distance(pictures: Sequence[Image.Image], truths: Sequence[Image.Image], core: np.ndarray) -> float:
    """How far the colours inside a mask are from those of the renders there: the earth mover's distance, sliced, in 0..1 of sRGB.

    Zero for equal colours wherever they are, so that a turned pattern costs nothing. Sliced Wasserstein (Rabin et al. 2011): the mean
    over fixed directions of the distance between sorted projections.
    """
    a, b = (np.concatenate([np.asarray(image)[core] for image in images]).astype(np.float32) / 255 for images in (pictures, truths))
    levels = np.linspace(0, 1, LEVELS)
    return float(np.abs(np.quantile(a @ _directions(), levels, axis=0) - np.quantile(b @ _directions(), levels, axis=0)).mean())


@cache
def weights() -> Weights:
    """The shipped toybox, for its judge."""
    return Weights()


@cache
def _directions() -> np.ndarray:
    """Unit vectors [3, DIRECTIONS], always the same."""
    found = np.random.default_rng(0).normal(size=(3, DIRECTIONS)).astype(np.float32)
    return found / np.linalg.norm(found, axis=0)


def _truth(subject: Subject, prompt: str) -> Truth:
    answers = [scene_of_prompt(prompt, subject, seed=TRUTH_SEED + number) for number in range(TRUTHS)]
    core = np.min([render_mask(*answer, SIZE) for answer in answers], axis=0) > 0.5
    assert core.sum() > 100, f"{prompt}: the renders of {subject.name} hardly overlap"
    return Truth(tuple(Image.fromarray(render(*answer, SIZE)) for answer in answers), core)


def _stack(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
