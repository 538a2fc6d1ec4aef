"""The classes of things: backpack, boot, bowl, candle, clock, robot, teapot, vase.

Eight shape numbers in 0..1 each.
"""

import math
from collections.abc import Sequence

import numpy as np

from .fields import Array, blend, box, capsule, cut_below, cylinder, ellipsoid, lathe, mirrored, sphere, torus, union
from .solids import Material, Part, Solid, mix

Knobs = Sequence[float]


def backpack(k: Knobs) -> Solid:
    """A rucksack: flap, front pocket with a button, two straps and a loop."""
    w, h, d = mix(k[0], 0.42, 0.56), mix(k[1], 0.55, 0.70), mix(k[2], 0.24, 0.34)
    pocket = mix(k[3], 0.34, 0.46)
    straps = mirrored(capsule((w * 0.85, h * 1.65, -d * 0.6), (w + mix(k[4], 0.10, 0.22), h * 0.55, -d * 0.3), 0.075))
    flap = box((0, h * 1.66, 0.06), (w * 1.04, h * mix(k[5], 0.24, 0.36), d * 1.06), 0.16)
    front = box((0, h * 0.58, d + 0.04), (w * 0.74, h * pocket, 0.12), 0.08)
    button = sphere((0, h * (0.58 + pocket * 0.55), d + 0.16), mix(k[6], 0.06, 0.09))
    return Solid(
        [
            Part(Material.BODY, union(box((0, h, 0), (w, h, d), 0.16), flap)),
            Part(Material.SECOND, union(straps, front)),
            Part(Material.FIRST, torus((0, 2 * h + 0.02, -0.05), 0.15, 0.045, axis="z")),
            Part(Material.WHITE, union(button, box((0, h * 1.34, d * 1.12), (0.075, 0.09, 0.06), 0.03))),
        ]
    )


def boot(k: Knobs) -> Solid:
    """A rubber boot: shaft, round toe, a thick sole and a rim in the second colour."""
    h, r, toe = mix(k[0], 0.80, 1.25), mix(k[1], 0.27, 0.35), mix(k[2], 0.42, 0.60)
    cap = mix(k[3], 0.26, 0.34)
    shaft = capsule((0, 0.35, -0.22), (0, h, -0.22), r * 0.88, r * mix(k[4], 0.95, 1.15))
    shaft_cut = cut_below(lambda x, y, z: np.maximum(shaft(x, y, z), y - h), 0.05)
    foot = ellipsoid((0, cap, toe * 0.5 - 0.12), (r * 0.98, cap, toe * 0.92))
    upper = cut_below(blend(0.16, shaft_cut, foot), 0.05)
    sole = box((0, 0.07, toe * 0.42 - 0.12), (r * 1.05, 0.075, toe * 0.90 + 0.06), 0.06)
    heel = box((0, 0.10, -0.30), (r * 0.95, 0.10, mix(k[5], 0.16, 0.22)), 0.04)
    rim = r * mix(k[4], 0.95, 1.15)
    return Solid(
        [
            Part(Material.BODY, upper),
            Part(Material.SECOND, union(sole, heel, torus((0, h, -0.22), rim - 0.02, mix(k[6], 0.055, 0.085)))),
            Part(Material.DARK, cylinder((0, h + 0.01, -0.22), rim - 0.05, 0.012, 0.01)),
        ]
    )


def bowl(k: Knobs) -> Solid:
    """A bowl on a foot, its rim and inside in the second colour."""
    r, deep = mix(k[0], 0.64, 0.80), mix(k[1], 0.56, 0.80)
    top, squash, slope = deep + 0.10, deep / r, 0.6

    def shell(gap: float, thick: float):
        def distance(x: Array, y: Array, z: Array) -> Array:
            around = np.abs(np.sqrt(x * x + ((y - top) / squash) ** 2 + z * z) - (r - gap)) - thick
            return np.maximum(around * slope, y - top)

        return distance

    return Solid(
        [
            Part(Material.BODY, shell(0.0, 0.04)),
            Part(Material.SECOND, union(shell(0.055, 0.018), torus((0, top, 0), r - 0.02, mix(k[2], 0.045, 0.075)))),
            Part(Material.SECOND, cylinder((0, 0.07, 0), r * mix(k[3], 0.38, 0.60), mix(k[4], 0.07, 0.12), 0.03)),
        ],
        round=True,
    )


def candle(k: Knobs) -> Solid:
    """A burning candle on a saucer with a ring to hold it."""
    r, h, dish = mix(k[0], 0.24, 0.38), mix(k[1], 0.70, 1.15), mix(k[2], 0.55, 0.75)
    flame = blend(0.06, sphere((0, h + 0.28, 0), 0.11), capsule((0, h + 0.28, 0), (0, h + mix(k[4], 0.46, 0.56), 0), 0.09, 0.01))
    return Solid(
        [
            Part(Material.BODY, cylinder((0, h / 2 + 0.06, 0), r, h / 2, 0.05)),
            Part(Material.SECOND, cylinder((0, 0.06, 0), dish, 0.06, 0.05)),
            Part(Material.SECOND, torus((0, 0.10, 0), dish - 0.03, 0.05)),
            Part(Material.SECOND, torus((dish + mix(k[3], 0.06, 0.12), 0.17, 0), mix(k[3], 0.11, 0.16), 0.05, axis="z")),
            Part(Material.DARK, capsule((0, h, 0), (0, h + 0.18, 0), 0.03)),
            Part(Material.GLOW, flame),
        ],
        round=True,
    )


def clock(k: Knobs) -> Solid:
    """An alarm clock: two bells, feet, a white face with hands at the subject's own hour."""
    r, thick = mix(k[0], 0.54, 0.64), mix(k[1], 0.17, 0.28)
    cy, face = r + 0.15, thick + 0.045
    hour, minute = k[2] * 2 * math.pi, round(k[3] * 12) / 12 * 2 * math.pi
    bell = mix(k[4], 0.16, 0.23)

    def hand(angle: float, reach: float, r_hand: float):
        return capsule((0, cy, face), (reach * math.sin(angle), cy + reach * math.cos(angle), face), r_hand)

    feet = mirrored(capsule((r * 0.45, cy - r * 0.75, 0), (r * 0.75, 0.06, 0), 0.075))
    bells = mirrored(sphere((r * 0.58, cy + r * 0.90, 0), bell))
    arch = torus((0, cy + r * 1.12, 0), mix(k[5], 0.13, 0.2), 0.045, axis="z")
    return Solid(
        [
            Part(Material.BODY, cylinder((0, cy, 0), r, thick, 0.07, axis="z")),
            Part(Material.SECOND, union(bells, feet, torus((0, cy, thick), r * 0.56, mix(k[6], 0.04, 0.06), axis="z"))),
            Part(Material.FIRST, arch),
            Part(Material.WHITE, cylinder((0, cy, thick), r * 0.54, 0.03, 0.01, axis="z")),
            Part(Material.DARK, union(hand(hour, r * 0.25, 0.055), hand(minute, r * 0.40, 0.045), sphere((0, cy, face), 0.07))),
        ]
    )


def robot(k: Knobs) -> Solid:
    """A tin robot: lamp eyes, a grille, an antenna, arms and feet in the second colour."""
    w, h, leg = mix(k[0], 0.36, 0.48), mix(k[1], 0.32, 0.42), mix(k[2], 0.20, 0.32)
    hw, hh = mix(k[3], 0.30, 0.42), mix(k[4], 0.22, 0.30)
    cy = leg + h
    hy, tip = cy + h + hh + 0.07, cy + h + 2 * hh + mix(k[5], 0.18, 0.30)
    arms = mirrored(capsule((w + 0.10, cy + h * 0.65, 0), (w + mix(k[6], 0.14, 0.28), cy - h * 0.6, 0.12), 0.095))
    hands = mirrored(sphere((w + mix(k[6], 0.14, 0.28), cy - h * 0.75, 0.13), 0.125))
    feet = mirrored(box((w * 0.55, leg * 0.5, 0.06), (0.155, leg * 0.5 + 0.02, 0.22), 0.05))
    aerial = union(capsule((0, hy + hh, 0), (0, tip, 0), 0.035), sphere((0, tip, 0), 0.09))
    ears = mirrored(cylinder((hw + 0.03, hy, 0), 0.10, 0.05, 0.02, axis="x"))
    return Solid(
        [
            Part(Material.BODY, box((0, cy, 0), (w, h, 0.28), 0.07)),
            Part(Material.FIRST, box((0, hy, 0), (hw, hh, 0.26), 0.08)),
            Part(Material.SECOND, union(arms, hands, feet, aerial, ears)),
            Part(
                Material.GLOW,
                mirrored(cylinder((hw * 0.46, hy + hh * 0.18, 0.26), mix(k[7], 0.085, 0.12), 0.035, 0.02, axis="z")),
            ),
            Part(Material.DARK, box((0, hy - hh * 0.52, 0.26), (hw * 0.52, 0.045, 0.03), 0.02)),
        ]
    )


def teapot(k: Knobs) -> Solid:
    """A teapot in profile: spout to the right, handle to the left; lid and handle in the second colour."""
    r, h = mix(k[0], 0.50, 0.62), mix(k[1], 0.42, 0.56)
    cy = h + 0.05
    rise, reach = mix(k[2], 0.25, 0.75), mix(k[3], 0.30, 0.44)
    spout = capsule((r * 0.72, cy * 0.75, 0), (r + reach, cy + h * rise, 0), 0.15, 0.065)
    lid = ellipsoid((0, cy + h * 0.86, 0), (r * 0.56, mix(k[4], 0.12, 0.20), r * 0.56))
    knob = sphere((0, cy + h * 0.86 + mix(k[4], 0.17, 0.25), 0), mix(k[5], 0.085, 0.125))
    handle = torus((-r - 0.06, cy + 0.05, 0), mix(k[6], 0.23, 0.30), 0.062, axis="z", stretch=mix(k[7], 1.0, 1.3))
    return Solid(
        [
            Part(Material.BODY, blend(0.10, ellipsoid((0, cy, 0), (r, h, r)), spout)),
            Part(Material.SECOND, union(lid, knob, handle, cylinder((0, 0.06, 0), r * 0.58, 0.06, 0.03))),
        ],
        round=True,
    )


def vase(k: Knobs) -> Solid:
    """A turned vase with a flared mouth, some with two handles; foot and lip in the second colour."""
    h, foot, belly = mix(k[0], 1.20, 1.55), mix(k[1], 0.22, 0.34), mix(k[2], 0.20, 0.40)
    peak, neck, flare = mix(k[3], 0.28, 0.55), mix(k[4], 0.15, 0.25), mix(k[5], 0.5, 1.4)

    def radius(t: Array) -> Array:
        swell = belly * np.exp(-(((t - peak) / 0.22) ** 2))
        return foot * (1 - t) + neck * t + swell + np.maximum(t - 0.85, 0) * flare

    mouth = float(radius(np.array(1.0)))
    rims = union(torus((0, h, 0), mouth - 0.01, 0.055), cylinder((0, 0.05, 0), foot + 0.10, 0.05, 0.03))
    if k[6] > 0.55:
        rims = union(rims, mirrored(torus((neck + 0.14, h * 0.70, 0), 0.17, 0.05, axis="z", stretch=1.25)))
    return Solid(
        [
            Part(Material.BODY, lathe(radius, h, 0.6)),
            Part(Material.SECOND, rims),
            Part(Material.DARK, cylinder((0, h + 0.01, 0), max(mouth - 0.06, 0.05), 0.012, 0.01)),
        ],
        round=True,
    )
