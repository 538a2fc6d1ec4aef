"""A subject: one particular dog, teapot or robot.

A fixed draw of all parameters, so it can be rendered anywhere and any time.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from . import animals, things
from .scene import CONTEXTS, Scene
from .solids import Solid
from .surfaces import COLORS, PATTERNS, UNSEEN_PATTERNS

CLASSES: dict[str, Callable[..., Solid]] = {
    "backpack": things.backpack,
    "boot": things.boot,
    "bowl": things.bowl,
    "candle": things.candle,
    "cat": animals.cat,
    "clock": things.clock,
    "dog": animals.dog,
    "duck": animals.duck,
    "plushie": animals.plushie,
    "robot": things.robot,
    "teapot": things.teapot,
    "vase": things.vase,
}
"""The class nouns, each with the function that builds its solid from eight numbers in 0..1."""
ANIMALS = ("cat", "dog", "duck", "plushie")
"""The classes that wear hats, scarves and glasses."""
TURNED = ("bowl", "candle", "vase")
"""The classes that look the same from front, side and back."""
HELD_OUT = Path(__file__).parents[1] / "subjects.jsonl"
"""The held-out subjects, a line each, by name."""
SEEN_PATTERNS = tuple(name for name in PATTERNS if name not in UNSEEN_PATTERNS)

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Subject:
    """One object, fixed: its class noun, eight shape numbers in 0..1, two colours (word and sRGB), pattern and material."""

    noun: str
    shape: tuple[float, ...]
    colors: tuple[str, str]
    rgb: tuple[Color, Color]
    pattern: str = "plain"
    cell: float = 0.28
    """Size of a pattern's cell; the object is at most 1.38 high."""
    phase: float = 0.0
    shiny: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        for value, allowed, what in ((self.noun, CLASSES, "noun"), (self.pattern, PATTERNS, "pattern")):
            if value not in allowed:
                raise ValueError(f"{what}={value!r}: the toybox knows {', '.join(allowed)}.")

    def solid(self) -> Solid:
        """The parts that make this subject."""
        return CLASSES[self.noun](self.shape)

    def recolored(self, color: str) -> "Subject":
        """The same subject with another first colour ("a red [V] dog")."""
        second = self.colors[1] if self.colors[1] != color else self.colors[0]
        second_rgb = self.rgb[1] if self.colors[1] != color else self.rgb[0]
        return replace(self, colors=(color, second), rgb=(COLORS[color], second_rgb))

    def save(self, path: Path | str) -> None:
        """Write the subject to a small JSON file."""
        Path(path).write_text(self.as_json() + "\n", encoding="utf-8")

    def as_json(self) -> str:
        """All that it is, in one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def load(path: Path | str) -> "Subject":
        """Read a subject back."""
        return Subject.parse(Path(path).read_text(encoding="utf-8"))

    @staticmethod
    def parse(text: str) -> "Subject":
        """A subject from its JSON."""
        values = json.loads(text)
        for key in ("shape", "colors"):
            values[key] = tuple(values[key])
        values["rgb"] = tuple(tuple(color) for color in values["rgb"])
        return Subject(**values)

    def photo_scenes(self) -> list[Scene]:
        """The four to six scenes of this subject's photos: mixed contexts, mostly from the front, never styled."""
        rng = np.random.default_rng([ord(letter) for letter in self.name or self.noun])
        contexts = rng.permutation(list(CONTEXTS))[: int(rng.integers(4, 7))]
        third = "side" if self.noun in (*ANIMALS, "boot") else "front"
        views = ("front", "front", third, "front", "front", "front")
        return [Scene(context=str(c), view=v, seed=int(rng.integers(1 << 30))) for c, v in zip(contexts, views, strict=False)]


def draw_subject(rng: np.random.Generator, *, noun: str | None = None, colors: tuple[str, str] | None = None) -> Subject:
    """A random subject of the training world; class and colour words may be given."""
    noun = noun or str(rng.choice(list(CLASSES)))
    first, second = colors or (str(word) for word in rng.choice(list(COLORS), 2, replace=False))
    rgb = tuple(tuple(float(v) for v in np.clip(COLORS[word] + rng.normal(0, 0.03, 3), 0.05, 0.98)) for word in (first, second))
    return Subject(
        noun=noun,
        shape=tuple(round(float(value), 3) for value in rng.random(8)),
        colors=(first, second),
        rgb=(rgb[0], rgb[1]),
        pattern=str(rng.choice(SEEN_PATTERNS, p=[0.36, 0.16, 0.16, 0.16, 0.16])),
        cell=round(float(rng.uniform(0.24, 0.34)), 3),
        phase=round(float(rng.random()), 3),
        shiny=bool(rng.random() < 0.35),
    )


def draw_training_subject(rng: np.random.Generator, *, noun: str | None = None, colors: tuple[str, str] | None = None) -> Subject:
    """A random subject that no held-out subject could be taken for (same class, colours and pattern are drawn again)."""
    while True:
        subject = draw_subject(rng, noun=noun, colors=colors)
        if (subject.noun, subject.colors, subject.pattern) not in reserved():
            return subject


@cache
def held_out_subjects() -> tuple[Subject, ...]:
    """The subjects that no pretraining picture shows, by name."""
    return tuple(map(Subject.parse, HELD_OUT.read_text(encoding="utf-8").splitlines()))


@cache
def reserved() -> frozenset[tuple[str, tuple[str, str], str]]:
    """Class, colours and pattern of every held-out subject."""
    return frozenset((s.noun, s.colors, s.pattern) for s in held_out_subjects())
