"""What a class of objects is made of: parts, each a distance field with a material, and where a hat would sit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from .fields import Field, Point


class Material(IntEnum):
    """What a part is covered with. The first three take the subject's own colours."""

    BODY = 0  # first colour, with the pattern in the second
    FIRST = 1  # first colour, plain
    SECOND = 2  # second colour, plain
    DARK = 3
    WHITE = 4
    GLOW = 5  # flame, lamps: shines by itself
    BEAK = 6
    METAL = 7
    IRIS = 8
    ROSE = 9  # noses, tongues
    RED = 10  # the hat
    RAINBOW = 11  # the scarf
    PINK = 12  # the glasses


@dataclass(frozen=True)
class Part:
    """One solid in one material."""

    material: Material
    field: Field


@dataclass(frozen=True)
class Head:
    """Where an animal wears things: the head's centre and radius, where its eyes are, the neck's centre and radius."""

    center: Point
    radius: float
    eye: Point
    neck: Point
    neck_radius: float


@dataclass(frozen=True)
class Solid:
    """An object in its own units: front towards +z, standing on y = 0. `round`: patterns run around its upright axis."""

    parts: Sequence[Part]
    round: bool = False
    head: Head | None = field(default=None)


def mix(t: float, low: float, high: float) -> float:
    """The point t in 0..1 of the way from low to high."""
    return low + (high - low) * t
