"""Signed distance fields: a solid is a function of (x, y, z) arrays that says how far each point is from its surface.

Negative inside, positive outside, never more than the true distance, so that a ray may safely step by it (Hart 1996,
"Sphere tracing"). Solids are closures over their numbers and combine by minimum; `blend` melts two into one,
`mirrored` costs one for two.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Field = Callable[[Array, Array, Array], Array]
Point = tuple[float, float, float]


def length(*axes: Array) -> Array:
    """Euclidean length over the given components."""
    total = axes[0] * axes[0]
    for axis in axes[1:]:
        total = total + axis * axis
    return np.sqrt(total)


def sphere(c: Point, r: float) -> Field:
    """A ball of radius r around c."""
    return lambda x, y, z: length(x - c[0], y - c[1], z - c[2]) - r


def ellipsoid(c: Point, r: Point) -> Field:
    """A ball stretched to the half-axes r (Quilez' first-order distance)."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v, w = (x - c[0]) / r[0], (y - c[1]) / r[1], (z - c[2]) / r[2]
        near = length(u, v, w)
        return near * (near - 1) / (length(u / r[0], v / r[1], w / r[2]) + 1e-6)

    return distance


def capsule(a: Point, b: Point, r: float, end: float | None = None) -> Field:
    """A rod with round ends from a to b; its radius goes from r to `end`."""
    ax, ay, az = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    square = ax * ax + ay * ay + az * az
    grow = 0.0 if end is None else end - r

    def distance(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x - a[0], y - a[1], z - a[2]
        h = np.clip((x * ax + y * ay + z * az) / square, 0, 1)
        return length(x - ax * h, y - ay * h, z - az * h) - (r + grow * h)

    return distance


def box(c: Point, half: Point, edge: float) -> Field:
    """A box of the given half-sizes whose edges are rounded with radius `edge`."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        u = np.abs(x - c[0]) - (half[0] - edge)
        v = np.abs(y - c[1]) - (half[1] - edge)
        w = np.abs(z - c[2]) - (half[2] - edge)
        outside = length(np.maximum(u, 0), np.maximum(v, 0), np.maximum(w, 0))
        return outside + np.minimum(np.maximum(u, np.maximum(v, w)), 0) - edge

    return distance


def turn(axis: str, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """The coordinates with `axis` put second: what stands upright then lies along that axis."""
    return (y, x, z) if axis == "x" else (x, z, y) if axis == "z" else (x, y, z)


def cylinder(c: Point, r: float, half: float, edge: float = 0.03, axis: str = "y") -> Field:
    """A can of radius r and half-height `half` along `axis`, with rounded rims."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v, w = turn(axis, x - c[0], y - c[1], z - c[2])
        a, b = length(u, w) - (r - edge), np.abs(v) - (half - edge)
        return length(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - edge

    return distance


def torus(c: Point, ring: float, r: float, axis: str = "y", stretch: float = 1.0) -> Field:
    """A ring of radius `ring` and thickness r around `axis`; `stretch` > 1 makes it taller."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v, w = turn(axis, x - c[0], (y - c[1]) / stretch, z - c[2])
        return length(length(u, w) - ring, v) - r

    return distance


def lathe(radius: Callable[[Array], Array], height: float, slope: float) -> Field:
    """A turned solid: `radius(t)` for t = y / height in 0..1. `slope` in (0, 1] shortens steps for steep profiles."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        around = (length(x, z) - radius(np.clip(y / height, 0, 1))) * slope
        return np.maximum(around, np.abs(y - height / 2) - height / 2)

    return distance


def union(*fields: Field) -> Field:
    """All of them."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        nearest = fields[0](x, y, z)
        for field in fields[1:]:
            nearest = np.minimum(nearest, field(x, y, z))
        return nearest

    return distance


def blend(k: float, *fields: Field) -> Field:
    """All of them, melted together where they are closer than about k (polynomial smooth minimum)."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        nearest = fields[0](x, y, z)
        for field in fields[1:]:
            other = field(x, y, z)
            overlap = np.maximum(k - np.abs(nearest - other), 0)
            nearest = np.minimum(nearest, other) - overlap * overlap * (0.25 / k)
        return nearest

    return distance


def mirrored(field: Field) -> Field:
    """The field and its image on the other side of the plane x = 0."""
    return lambda x, y, z: field(np.abs(x), y, z)


def cut_below(field: Field, floor: float) -> Field:
    """The field without what lies under y = floor."""
    return lambda x, y, z: np.maximum(field(x, y, z), floor - y)
