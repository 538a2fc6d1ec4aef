"""What a model already sees in a word: how far the word moves a prompt, in the text encoders and in what the frozen model draws.

A word without a meaning leaves "a photo of a [V] dog" where "a photo of a dog" is. Both movements are given as ratios that need no
unit: of the text, over the median movement by plain adjectives (1: as much meaning as "red" or "wooden" has); of the pictures, over
the distance between two seeds (1: another picture altogether). The paper wants an identifier with a weak prior (section 3.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dreambooth.identifier.parts import Reader
from dreambooth.prompts.tokens import split

REFERENCES = ("red", "wooden", "old", "golden", "striped", "giant", "blue", "small", "black", "wet")
"""Words with a plain meaning, whose median movement is the unit."""
CONCEPTS = (
    "red", "green", "blue", "yellow", "black", "white", "pink", "golden", "silver", "gun", "rifle", "army", "soldier", "car",
    "truck", "train", "plane", "ship", "phone", "computer", "logo", "text", "letter", "book", "map", "flag", "money", "sport",
    "football", "basketball", "music", "band", "guitar", "school", "city", "street", "house", "church", "beach", "forest",
    "mountain", "snow", "fire", "water", "food", "cake", "fruit", "flower", "tree", "cat", "dog", "horse", "bird", "fish",
    "insect", "monster", "robot", "toy", "cartoon", "painting", "woman", "man", "child", "baby", "girl", "boy", "crowd", "face",
    "body", "dress", "shoe", "hat", "dead", "old", "young", "big", "small", "wooden", "metal", "glass", "plastic",
)  # fmt: skip
"""Words of which the one is named that a candidate is most like."""


@dataclass(frozen=True)
class Movement:
    """How far a word moves the text, averaged over the text encoders."""

    relative: float
    """0: not at all, 1: as far as a plain adjective."""
    nearest: str
    """The concept whose movement has the most alike direction,"""
    likeness: float
    """and the cosine of the angle between the two, -1 to 1."""


def prompt(word: str | None, noun: str) -> str:
    """The paper's label with a word in the identifier's place, or without one."""
    return f"a photo of a {word} {noun}" if word else f"a photo of a {noun}"


def text_movements(words: Sequence[str], readers: Sequence[Reader], *, noun: str) -> dict[str, Movement]:
    """The movement of each word, by all text encoders that are there."""
    own, per_reader = {word: [] for word in words}, [r for r in readers if r.encoder is not None]
    concepts: dict[str, list[Tensor]] = {}
    for reader in per_reader:
        known = _whole(reader, [c for c in CONCEPTS if c != noun])
        references = _whole(reader, [r for r in REFERENCES if r != noun])
        asked = [*words, *known, *references]
        vectors = reader.vectors([prompt(None, noun), *(prompt(word, noun) for word in asked)])
        moved = vectors[1:] - vectors[0]
        far = 1 - vectors[1:] @ vectors[0]
        unit = far[len(words) + len(known) :].median().clamp_min(1e-6)
        directions = torch.nn.functional.normalize(moved, dim=-1)
        alike = directions[: len(words)] @ directions[len(words) : len(words) + len(known)].T
        for row, word in enumerate(words):
            own[word].append(float(far[row] / unit))
            for column, concept in enumerate(known):
                if concept != word:
                    concepts.setdefault(f"{word}\0{concept}", []).append(alike[row, column])
    return {word: _movement(word, own[word], concepts) for word in words if own[word]}


def _movement(word: str, relative: list[float], concepts: Mapping[str, list[Tensor]]) -> Movement:
    alike = {key.split("\0")[1]: float(sum(v) / len(v)) for key, v in concepts.items() if key.split("\0")[0] == word}
    nearest = max(alike, key=lambda concept: alike[concept], default="")
    return Movement(sum(relative) / len(relative), nearest, alike.get(nearest, 0.0))


def _whole(reader: Reader, words: Sequence[str]) -> list[str]:
    """Those that the tokenizer takes as one token; all of them where it takes none."""
    whole = [word for word in words if len((s := split(word, reader.tokenizer)).ids) == 1 and s.known]
    return whole or list(words)


def picture_movements(pictures: Mapping[str | None, Sequence[Image.Image]]) -> dict[str, float]:
    """How far each word moves what is drawn from the same noise; `None` holds the pictures without a word, at least two."""
    plain = [_small(image) for image in pictures[None]]
    pairs = [_apart(a, b) for i, a in enumerate(plain) for b in plain[i + 1 :]]
    unit = max(sum(pairs) / max(len(pairs), 1), 1e-6)
    moved = {}
    for word, images in pictures.items():
        if word is not None:
            apart = [_apart(_small(image), other) for image, other in zip(images, plain, strict=False)]
            moved[word] = sum(apart) / len(apart) / unit
    return moved


def _small(image: Image.Image) -> Any:
    import numpy as np

    return np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX), dtype=np.float32)


def _apart(one: Any, other: Any) -> float:
    """Root mean square difference of two small pictures."""
    return float(((one - other) ** 2).mean() ** 0.5)
