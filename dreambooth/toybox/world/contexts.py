"""The places: a ground that stretches to a backdrop, painted with few, large and soft features.

A place is two functions that give sRGB colours [3, n]: `ground(x, z, look)` on the plane y = 0 and `backdrop(u, v, look)` on the wall
behind it (u sideways, v upwards from the ground; about -1.5 to 1.5 and 0 to 1.6 are in view). One unit is most of an object's height.
`look` draws what no word names: phases and small shifts. Fine texture is left out on purpose: it eats a small model's capacity.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .fields import Array
from .surfaces import soft

Paint = Callable[[Array, Array, "Look"], Array]


@dataclass(frozen=True)
class Look:
    """Two phases (radians), a whole number and a shift in -1..1 that make two beaches differ."""

    a: float
    b: float
    number: int
    shift: float


def color(r: float, g: float, b: float) -> Array:
    """An sRGB colour that broadcasts over points."""
    return np.array([[r], [g], [b]], np.float32)


def over(base: Array, top: Array, mask: Array) -> Array:
    """`top` painted over `base` where mask is 1."""
    return base + (top - base) * mask


def ramp(low: Array, high: Array, t: Array) -> Array:
    """From one colour to another as t goes from 0 to 1."""
    return low + (high - low) * np.clip(t, 0, 1)


def waves(x: Array, y: Array, look: Look, scale: float = 1.0) -> Array:
    """Smooth uneven ground in 0..1: three sines with this picture's phases."""
    x, y = x * scale, y * scale
    two = np.sin(2.1 * x + 1.3 * y + look.a) + np.sin(-1.4 * x + 2.6 * y + look.b)
    return (two + np.sin(3.7 * x + look.a + 2 * np.sin(1.7 * y + look.b))) / 6 + 0.5


def lottery(i: Array, number: int) -> Array:
    """A fixed random value in 0..1 for each integer in i."""
    return np.mod(np.sin(i * 12.9898 + number * 0.731) * 43.7585, 1)


def sky(v: Array, low: Array, high: Array) -> Array:
    """A clear sky that deepens upwards."""
    return ramp(low, high, v / 1.6)


def disc(u: Array, v: Array, x: float | Array, y: float | Array, r: float, edge: float = 0.04) -> Array:
    """Mask of a disc."""
    return soft(r - np.hypot(u - x, v - y), edge)


def beach_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.86, 0.74, 0.52), color(0.97, 0.89, 0.70), waves(x, z, look, 1.4))


def beach_back(u: Array, v: Array, look: Look) -> Array:
    shade = sky(v, color(0.80, 0.93, 1.0), color(0.36, 0.68, 0.96))
    sea = ramp(color(0.35, 0.80, 0.82), color(0.08, 0.46, 0.72), v / 0.5)
    base = over(shade, sea, soft(0.52 + 0.06 * look.shift - v, 0.03))
    foam = soft(0.055 + 0.02 * np.sin(4 * u + look.a) - v, 0.03)
    return over(base, color(0.98, 0.99, 1.0), foam)


def snow_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.84, 0.89, 0.97), color(0.98, 0.99, 1.0), waves(x, z, look, 1.1))


def snow_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.92, 0.95, 0.98), color(0.68, 0.80, 0.94))
    s = u * 1.25 + look.a
    i = np.floor(s)
    top = 0.75 + 0.55 * lottery(i, look.number)
    across = np.abs(s - i - 0.5)
    tier = 0.62 + 0.38 * np.mod(-v * 2.6, 1)
    tree = soft((top - v) * 0.42 * tier - across, 0.05)
    green = ramp(color(0.16, 0.36, 0.32), color(0.72, 0.84, 0.88), np.mod(-v * 2.6, 1) ** 3)
    return over(base, green, tree)


def jungle_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.20, 0.30, 0.12), color(0.38, 0.46, 0.18), waves(x, z, look, 1.6))


def jungle_back(u: Array, v: Array, look: Look) -> Array:
    base = ramp(color(0.07, 0.22, 0.10), color(0.14, 0.36, 0.16), v / 1.4)
    for layer, (scale, tone) in enumerate(((1.3, 0.72), (1.0, 1.0))):
        s, t = u * scale * 1.5 + look.a + 0.5 * layer, v * scale + 0.37 * layer + look.b
        i, j = np.floor(s), np.floor(t)
        angle = 0.5 + 2.1 * lottery(i + 7 * j, look.number)
        x, y = s - i - 0.5, t - j - 0.5
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        leaf = soft(0.17 * (1 - (along / 0.56) ** 2) - np.abs(across), 0.05)
        shade = ramp(color(0.16, 0.48, 0.16), color(0.50, 0.74, 0.24), lottery(j + 3 * i, look.number + 5)) * tone
        base = over(base, shade, leaf * soft(0.56 - np.abs(along), 0.02))
    return base


def cobble_ground(x: Array, z: Array, look: Look) -> Array:
    t = z * 2.6 + look.b
    j = np.floor(t)
    s = x * 2.0 + 0.5 * np.mod(j, 2) + look.a
    i = np.floor(s)
    a, b = np.abs(s - i - 0.5), np.abs(t - j - 0.5)
    stone = soft(0.46 - (a**4 + b**4) ** 0.25, 0.08)
    tone = color(0.60, 0.58, 0.57) * (0.82 + 0.30 * lottery(i + 5 * j, look.number))
    return over(color(0.30, 0.28, 0.28) + 0 * x, tone, stone)


def cobble_back(u: Array, v: Array, look: Look) -> Array:
    base = ramp(color(0.86, 0.70, 0.52), color(0.93, 0.80, 0.62), v / 1.6)
    s = u + 0.4 * look.shift
    window = soft(0.24 - np.abs(np.abs(s) - 0.95), 0.02) * soft(0.36 - np.abs(v - 0.95), 0.02)
    frame = soft(0.30 - np.abs(np.abs(s) - 0.95), 0.02) * soft(0.42 - np.abs(v - 0.95), 0.02)
    base = over(base, color(0.55, 0.33, 0.24), frame)
    base = over(base, color(0.38, 0.46, 0.52), window)
    return over(base, color(0.62, 0.50, 0.42), soft(0.20 - v, 0.03))


def fabric(x: Array, y: Array, look: Look) -> Array:
    fold = np.sin(1.9 * x + 1.1 * y + look.a + 1.2 * np.sin(1.3 * y - 0.8 * x + look.b))
    return ramp(color(0.88, 0.46, 0.62), color(1.0, 0.76, 0.84), fold * 0.5 + 0.5)


def wood_ground(x: Array, z: Array, look: Look) -> Array:
    s = x * 1.7 + look.a
    i = np.floor(s)
    board = ramp(color(0.62, 0.40, 0.20), color(0.80, 0.56, 0.32), lottery(i, look.number))
    return over(board, color(0.40, 0.24, 0.12), soft(0.03 - np.abs(np.abs(s - i - 0.5) - 0.5), 0.03))


def wood_back(u: Array, v: Array, look: Look) -> Array:
    base = ramp(color(0.90, 0.84, 0.74), color(0.96, 0.92, 0.85), v / 1.5) + 0 * u
    return over(base, color(0.99, 0.98, 0.96), soft(0.16 - v, 0.02))


def city_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.42, 0.43, 0.46), color(0.54, 0.54, 0.57), waves(x, z, look, 0.8))


def city_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.99, 0.90, 0.78), color(0.56, 0.76, 0.95))
    s = u * 1.45 + look.a
    i = np.floor(s)
    f = s - i
    top = 0.75 + 0.75 * lottery(i, look.number)
    block = ramp(color(0.36, 0.42, 0.56), color(0.66, 0.62, 0.64), lottery(i, look.number + 9))
    lit = soft(0.12 - np.abs(np.mod(f * 3, 1) - 0.5) * 0.6, 0.05) * soft(0.12 - np.abs(np.mod(v * 3.4, 1) - 0.5) * 0.6, 0.05)
    lit = lit * soft(np.minimum(f, 1 - f) - 0.06, 0.02)
    tower = soft(top - v, 0.02) * soft(0.46 - np.abs(f - 0.5), 0.02)
    return over(base, over(block, color(0.99, 0.90, 0.60), lit), tower)


def mountain_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.44, 0.54, 0.26), color(0.60, 0.66, 0.36), waves(x, z, look, 1.0))


def mountain_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.84, 0.93, 0.99), color(0.42, 0.68, 0.95))
    for shift, height, rock in ((0.35, 1.25, color(0.56, 0.62, 0.74)), (0.0, 0.80, color(0.42, 0.47, 0.56))):
        s = u * 0.62 + look.shift * 0.4 + shift
        f = s - np.floor(s) - 0.5
        ridge = height * (1 - 1.7 * np.abs(f)) + 0.04 * np.sin(9 * u + look.a)
        face = ramp(rock * 1.08, rock * 0.84, f / 0.06 + 0.5)
        snow = soft(v - height * 0.68 - 0.05 * np.sin(14 * u + look.b), 0.03)
        base = over(base, over(face, color(0.97, 0.98, 1.0), snow), soft(ridge - v, 0.02))
    return base


def lawn(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.34, 0.60, 0.24), color(0.50, 0.74, 0.32), waves(x, z, look, 1.2))


def house_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.90, 0.95, 0.98), color(0.62, 0.82, 0.97))
    s = u + 0.35 * look.shift
    wall = soft(1.25 - np.abs(s), 0.02) * soft(1.12 - v, 0.02)
    base = over(base, color(0.26, 0.50, 0.86), wall)
    roof = soft(1.12 + (1.42 - np.abs(s)) * 0.42 - v, 0.02) * soft(v - 1.12, 0.02)
    base = over(base, color(0.50, 0.26, 0.24), roof)
    for width, tone in ((0.27, color(0.98, 0.98, 0.97)), (0.20, color(0.72, 0.86, 0.94))):
        base = over(base, tone, soft(width - np.abs(np.abs(s) - 0.78), 0.02) * soft(width - np.abs(v - 0.72), 0.02))
    return over(base, color(0.98, 0.97, 0.94), soft(0.20 - np.abs(s), 0.02) * soft(0.86 - v, 0.02))


def rug_ground(x: Array, z: Array, look: Look) -> Array:
    base = ramp(color(0.30, 0.26, 0.16), color(0.42, 0.36, 0.20), waves(x, z, look, 1.8))
    far = np.hypot(x - 0.1 * look.shift, z * 1.1)
    base = over(base, color(0.86, 0.72, 0.92), soft(1.50 - far, 0.03))
    return over(base, color(0.52, 0.24, 0.66), soft(1.38 - far, 0.03))


def forest_back(u: Array, v: Array, look: Look) -> Array:
    base = ramp(color(0.30, 0.42, 0.22), color(0.62, 0.76, 0.50), v / 1.5) + 0 * u
    s = u * 1.6 + look.a
    i = np.floor(s)
    middle = 0.3 + 0.4 * lottery(i, look.number)
    trunk = soft(0.15 - np.abs(s - i - middle) - 0.02 * v, 0.03)
    base = over(base, ramp(color(0.30, 0.20, 0.13), color(0.46, 0.33, 0.22), lottery(i, look.number + 3)), trunk)
    crown = soft(v - 1.25 - 0.10 * np.sin(5 * u + look.a) - 0.06 * np.sin(11 * u + look.b), 0.05)
    return over(base, color(0.18, 0.38, 0.16), crown)


def wheat_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.70, 0.54, 0.24), color(0.86, 0.70, 0.36), waves(x, z, look, 1.5))


def wheat_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.94, 0.93, 0.84), color(0.50, 0.75, 0.96))
    ear = np.sin(u * 17 + look.a) * 0.5 + 0.5
    stalk = ramp(color(0.78, 0.58, 0.18), color(0.97, 0.82, 0.40), ear * 0.7 + v * 0.4)
    return over(base, stalk, soft(0.66 + 0.07 * ear + 0.05 * np.sin(2 * u + look.b) - v, 0.04))


def autumn_ground(x: Array, z: Array, look: Look) -> Array:
    return ramp(color(0.62, 0.32, 0.12), color(0.90, 0.56, 0.20), waves(x, z, look, 2.4))


def autumn_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.96, 0.92, 0.82), color(0.74, 0.86, 0.94))
    s = u - 0.75 * (1 if look.shift > 0 else -1)
    base = over(base, color(0.78, 0.48, 0.20), soft(0.22 + 0.04 * np.sin(6 * u + look.a) - v, 0.04))
    base = over(base, color(0.36, 0.22, 0.14), soft(0.13 + 0.10 * np.maximum(0.35 - v, 0) - np.abs(s), 0.03))
    for k in range(7):
        x, y = 0.62 * np.sin(k * 2.4 + look.a), 1.22 + 0.34 * np.cos(k * 1.7 + look.b)
        tone = ramp(color(0.84, 0.26, 0.10), color(0.98, 0.66, 0.16), np.float32((k * 0.37 + look.a) % 1))
        base = over(base, tone, disc(s, v, x, y, 0.36, 0.05))
    return base


def water_ground(x: Array, z: Array, look: Look) -> Array:
    crest = np.sin(5.5 * z + 1.6 * np.sin(1.5 * x + look.a) + look.b)
    return ramp(color(0.12, 0.46, 0.72), color(0.46, 0.78, 0.92), crest * 0.4 + 0.45)


def water_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.90, 0.96, 0.98), color(0.48, 0.77, 0.96))
    sea = ramp(color(0.30, 0.64, 0.84), color(0.14, 0.44, 0.70), v / 0.5)
    base = over(base, color(0.99, 0.99, 1.0), 0.8 * soft(0.16 - np.hypot((u - look.shift) * 0.45, v - 1.15), 0.16))
    return over(base, sea, soft(0.45 - v, 0.02))


def sunflower_ground(x: Array, z: Array, look: Look) -> Array:
    base = ramp(color(0.28, 0.56, 0.20), color(0.42, 0.68, 0.26), waves(x, z, look, 1.2))
    s, t = x * 1.15 + 0.2 * look.shift, z * 1.15
    i, j = np.floor(s + 0.5), np.floor(t + 0.5)
    far = np.hypot(s - i - 0.24 * (lottery(i + 3 * j, look.number) - 0.5), t - j)
    around = (np.hypot(i, j) > 0.9).astype(np.float32)
    base = over(base, color(0.99, 0.82, 0.14), soft(0.27 - far, 0.04) * around)
    return over(base, color(0.42, 0.25, 0.12), soft(0.12 - far, 0.04) * around)


def sunflower_back(u: Array, v: Array, look: Look) -> Array:
    base = sky(v, color(0.86, 0.94, 0.98), color(0.46, 0.74, 0.96))
    base = over(base, ramp(color(0.28, 0.54, 0.20), color(0.36, 0.62, 0.24), v * 2), soft(0.40 - v, 0.03))
    s = u * 1.55 + look.a
    i = np.floor(s)
    x, y = s - i - 0.5, 0.62 + 0.40 * lottery(i, look.number)
    base = over(base, color(0.24, 0.48, 0.18), soft(0.06 - np.abs(x), 0.03) * soft(y - v, 0.02))
    far, angle = np.hypot(x, (v - y) * 1.55), np.arctan2(x, v - y)
    base = over(base, color(0.99, 0.82, 0.14), soft(0.40 + 0.05 * np.sin(angle * 10) - far, 0.04))
    return over(base, color(0.42, 0.25, 0.12), soft(0.19 - far, 0.04))


def studio(x: Array, y: Array, look: Look) -> Array:
    tints = (color(0.90, 0.90, 0.90), color(0.92, 0.88, 0.82), color(0.82, 0.88, 0.92), color(0.86, 0.90, 0.84))
    return tints[look.number % 4] + 0.03 * np.sin(x * 0.8 + look.a) + 0 * y


PLACES: dict[str, tuple[Paint, Paint]] = {
    "beach": (beach_ground, beach_back),
    "snow": (snow_ground, snow_back),
    "jungle": (jungle_ground, jungle_back),
    "cobblestone": (cobble_ground, cobble_back),
    "pink fabric": (fabric, fabric),
    "wooden floor": (wood_ground, wood_back),
    "city": (city_ground, city_back),
    "mountain": (mountain_ground, mountain_back),
    "blue house": (lawn, house_back),
    "purple rug": (rug_ground, forest_back),
    "wheat field": (wheat_ground, wheat_back),
    "autumn": (autumn_ground, autumn_back),
    "water": (water_ground, water_back),
    "sunflowers": (sunflower_ground, sunflower_back),
    "studio": (studio, studio),
}
"""Ground and backdrop of every context."""
