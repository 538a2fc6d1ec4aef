"""Colours and patterns: what a subject is painted with.

A pattern is a mask in 0..1 over the surface: 0 shows the first colour, 1 the second. Cells are a fifth of the object
and larger, so that they survive a small autoencoder. On turned things a pattern runs around the axis, a whole number
of times; on others it is projected along the axis which the surface faces most.
"""

from collections.abc import Callable

import numpy as np

from .fields import Array

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.14, 0.13),
    "orange": (0.97, 0.53, 0.10),
    "yellow": (0.98, 0.84, 0.20),
    "green": (0.22, 0.62, 0.25),
    "teal": (0.10, 0.64, 0.66),
    "blue": (0.16, 0.32, 0.85),
    "purple": (0.52, 0.22, 0.72),
    "pink": (0.97, 0.56, 0.72),
    "white": (0.94, 0.94, 0.92),
    "black": (0.15, 0.15, 0.17),
    "brown": (0.50, 0.30, 0.16),
    "grey": (0.56, 0.57, 0.60),
}
"""Colour words and what they look like (sRGB, 0..1); a subject's own colours vary a little around them."""


def soft(value: Array, width: float = 0.05) -> Array:
    """0 below zero, 1 above, a ramp of the given width between."""
    return np.clip(value * (1 / width) + 0.5, 0, 1)


def cells(u: Array, v: Array) -> tuple[Array, Array]:
    """Position inside the unit cell, from -0.5 to 0.5; every second row is shifted by half a cell."""
    row = np.floor(v)
    u = u + 0.5 * np.mod(row, 2)
    return u - np.floor(u) - 0.5, v - row - 0.5


def plain(u: Array, v: Array) -> Array:
    """One colour."""
    return np.zeros_like(u)


def striped(u: Array, v: Array) -> Array:
    """Level stripes."""
    return soft(0.25 - np.abs(v - np.floor(v) - 0.5), 0.06)


def dotted(u: Array, v: Array) -> Array:
    """Round dots in shifted rows."""
    a, b = cells(u, v)
    return soft(0.30 - np.sqrt(a * a + b * b), 0.06)


def checkered(u: Array, v: Array) -> Array:
    """A chessboard."""
    a = soft(np.abs(u - 2 * np.floor(u / 2) - 1) - 0.5)
    b = soft(np.abs(v - 2 * np.floor(v / 2) - 1) - 0.5)
    return a + b - 2 * a * b


def starry(u: Array, v: Array) -> Array:
    """Five-pointed stars in shifted rows."""
    a, b = cells(u * 0.8, v * 0.8)
    angle, radius = np.arctan2(a, b), np.sqrt(a * a + b * b)
    wedge = np.abs(np.mod(angle + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    x, y = radius * np.cos(wedge), radius * np.sin(wedge)
    tip, inner = 0.46, (0.20 * np.cos(np.pi / 5), 0.20 * np.sin(np.pi / 5))
    edge = np.hypot(tip - inner[0], inner[1])
    return soft(((tip - x) * inner[1] - y * (tip - inner[0])) / edge, 0.05)


def zigzag(u: Array, v: Array) -> Array:
    """Zigzag stripes: never in a picture that the base model learned from."""
    bend = np.abs(u - np.floor(u) - 0.5)
    return striped(u, v * 0.8 + bend)


def hearts(u: Array, v: Array) -> Array:
    """Hearts in shifted rows: never in a picture that the base model learned from."""
    a, b = cells(u * 0.75, v * 0.75)
    a = np.abs(a)
    lobe = 0.205 - np.sqrt((a - 0.155) ** 2 + (b - 0.10) ** 2)
    point = np.minimum(0.34 - a * 1.06 + np.minimum(b - 0.02, 0) * 0.95, 0.10 - b)
    return soft(np.maximum(lobe, point), 0.05)


PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checkered": checkered,
    "starry": starry,
    "zigzag": zigzag,
    "hearts": hearts,
}
UNSEEN_PATTERNS = ("zigzag", "hearts")
"""Patterns of held-out subjects only."""


def pattern(name: str, cell: float, phase: float, *, point: Array, normal: Array, around: bool) -> Array:
    """The mask of a pattern with cells of size `cell` at points [3, n] with normals [3, n] (object's own axes)."""
    x, y, z = point
    if name == "plain":
        return np.zeros_like(x)
    if around:
        times = max(2, 2 * round(np.pi * 0.42 / cell))
        u, v = np.arctan2(x, z) * (times / (2 * np.pi)), y / cell
    else:
        nx, ny, nz = np.abs(normal)
        top, side = (ny > nx) & (ny > nz), nx > nz
        u = np.where(side & ~top, z, x) / cell
        v = np.where(top, z, y) / cell
    return PATTERNS[name](u + phase, v + phase).astype(np.float32)
