"""A metric: its inputs, the numbers it is the mean of, its range, and which way is better.

A metric sees pictures only together with what was asked for, so a picture can never be held against another picture's prompt. It
returns its *terms* (one number per picture, per prompt, or per pair), and the score is their mean: so averages, intervals and the
table by prompt come from one place, and no metric averages in a way of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from dreambooth.core.errors import DreamboothError, RunError
from dreambooth.photos.load import PhotoFile

EncoderName = str
"""A name in `dreambooth.metrics.networks`."""
Better = Literal["higher", "lower", "neither"]


class Undefined(DreamboothError):
    """The metric has no value here, and the text says why: one picture has no diversity, no class images no prior."""


@dataclass(frozen=True)
class GeneratedImage:
    """One drawn picture with what was asked for."""

    image: Image.Image
    prompt: str = ""
    """The prompt as it was given to the model, with the identifier."""
    plain: str = ""
    """The same prompt without the identifier: "a dog on the beach"."""
    row: int = 0
    """Number of the prompt."""
    seed: int = 0
    finite: bool = True
    """False when the model's numbers overflowed."""


@dataclass(frozen=True)
class EvalImages:
    """All pictures of one model and one subject."""

    drawn: tuple[GeneratedImage, ...]
    """Pictures of the subject, by the prompts of the suite."""
    photos: tuple[Image.Image | PhotoFile, ...] = ()
    """The real photos of the subject."""
    class_drawn: tuple[GeneratedImage, ...] = ()
    """Pictures of "a [class noun]" by the model under test."""
    class_base: tuple[GeneratedImage, ...] = ()
    """The same prompt and seeds, drawn by the model before training."""


class Encoders(ABC):
    """What metrics compute with: embeddings of pictures and words, and perceptual distances."""

    @abstractmethod
    def embed(self, name: EncoderName, images: Sequence[Image.Image | PhotoFile]) -> Float[Tensor, "n d"]:
        """Embeddings of pictures by the encoder of that name."""

    def dino(self, images: Sequence[Image.Image | PhotoFile]) -> Float[Tensor, "n d"]:
        """DINO's embeddings of pictures."""
        return self.embed("dino", images)

    def clip(self, images: Sequence[Image.Image | PhotoFile]) -> Float[Tensor, "n d"]:
        """CLIP's embeddings of pictures."""
        return self.embed("clip", images)

    def offers(self, name: EncoderName) -> bool:
        """Whether the encoder of that name was given, or is there by itself."""
        return True

    @abstractmethod
    def words(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """CLIP's embeddings of prompts."""

    @abstractmethod
    def distances(self, images: Sequence[Image.Image]) -> Float[Tensor, "n n"]:
        """Perceptual distances of all pairs, zero on the diagonal."""


@dataclass(frozen=True)
class PerSampleValues:
    """What a score is the mean of."""

    values: Tensor
    """[k], one number a picture or prompt; or [k, k], symmetric, one number for each pair of k pictures."""
    groups: Tensor
    """Long [k]: the prompt that each belongs to."""

    def __post_init__(self) -> None:
        assert self.groups.shape == self.values.shape[:1], "every term belongs to a prompt"

    def __len__(self) -> int:
        return len(self.values)

    def mean(self, counts: Tensor | None = None) -> float:
        """The score; with `counts` [k], as if each picture had been there so many times. A picture makes no pair with itself."""
        values = self.values.double()
        weight = torch.ones(len(values), dtype=torch.float64) if counts is None else counts.double()
        if values.ndim == 2:
            weight = torch.outer(weight, weight).fill_diagonal_(0)
        total = weight.sum()
        return float((values * weight).sum() / total) if total > 0 else float("nan")

    def of(self, group: int) -> "PerSampleValues":
        """The terms of one prompt."""
        mine = self.groups == group
        values = self.values[mine] if self.values.ndim == 1 else self.values[mine][:, mine]
        return PerSampleValues(values, self.groups[mine])


class Metric(ABC):
    """One figure of a model's table."""

    name: ClassVar[str]
    """Its key in scores.json."""
    title: ClassVar[str]
    """What tables call it."""
    meaning: ClassVar[str]
    """What it tells, in a few words for the report."""
    encoder: ClassVar[EncoderName | None]
    needs: ClassVar[tuple[str, ...]]
    """The fields of EvalImages that it needs."""
    range: ClassVar[tuple[float, float]]
    better: ClassVar[Better]
    paper: ClassVar[float | None] = None
    """DreamBooth's own value, Stable Diffusion where there is one (Table 1), else Imagen with prior preservation (Table 3)."""

    def __call__(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """The terms; raises Undefined where the evidence does not suffice, RunError where an encoder's answer is not finite."""
        for field in self.needs:
            if not getattr(evidence, field):
                raise Undefined(f"there are no {MISSING[field]}.")
        terms = self.terms(evidence, encoders)
        if not bool(terms.values.isfinite().all()):
            raise RunError(
                f"{self.title} is not finite: the encoder {self.encoder} answered with NaN or infinity. Its weights are damaged, "
                f"or overflow in this precision; try --device cpu, or another folder (--{self.encoder}_encoder)."
            )
        return terms

    @abstractmethod
    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """What the score is the mean of."""


MISSING = {
    "drawn": "pictures of the subject", "photos": "photos of the subject", "class_drawn": "class images (--class_samples)",
    "class_base": "class images of the model before training",
}  # fmt: skip


def unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length one, in float64."""
    return torch.nn.functional.normalize(x.double(), dim=-1)


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """All pairs."""
    return unit(a) @ unit(b).T


def matched_cosine(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Row i of one with row i of the other, and no other."""
    assert a.shape == b.shape, "rows belong together"
    return (unit(a) * unit(b)).sum(dim=1)


def mean_cosine(drawn: Float[Tensor, "n d"], photos: Float[Tensor, "m d"]) -> Float[Tensor, "n"]:
    """For every drawn picture the *mean* over all photos, never the nearest one alone."""
    return cosines(drawn, photos).mean(dim=1)


def fidelity(encoder: EncoderName, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
    """For every drawn picture the mean cosine of its embedding by an encoder with those of all photos."""
    drawn, photos = encoders.embed(encoder, images(evidence.drawn)), encoders.embed(encoder, evidence.photos)
    return PerSampleValues(mean_cosine(drawn, photos), rows(evidence.drawn))


def images(shots: Sequence[GeneratedImage]) -> list[Image.Image]:
    """The pictures themselves."""
    return [shot.image for shot in shots]


def rows(shots: Sequence[GeneratedImage]) -> Int[Tensor, "n"]:
    """The number of each picture's prompt."""
    return torch.tensor([shot.row for shot in shots], dtype=torch.long)


def between(value: float | None, zero: float | None, one: float | None) -> float | None:
    """Where a score lies on a scale of two others, 0 at the first and 1 at the second; None where one is missing or they are equal."""
    if value is None or zero is None or one is None or one - zero < 1e-3:
        return None
    return (value - zero) / (one - zero)
