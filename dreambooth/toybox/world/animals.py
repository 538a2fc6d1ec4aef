"""The classes that can wear things: dog, cat, plushie, duck.

Eight shape numbers in 0..1 make one of them this one.
"""

from collections.abc import Sequence

from .fields import blend, box, capsule, cylinder, ellipsoid, mirrored, sphere, torus, union
from .solids import Head, Material, Part, Solid, mix

Knobs = Sequence[float]


def eyes(at: tuple[float, float, float], r: float) -> list[Part]:
    """Two dark button eyes with a white glint."""
    x, y, z = at
    glint = mirrored(sphere((x - r * 0.25, y + r * 0.4, z + r * 0.75), r * 0.36))
    return [Part(Material.DARK, mirrored(sphere(at, r))), Part(Material.WHITE, glint)]


def dog(k: Knobs) -> Solid:
    """A sitting dog: floppy or pricked ears and the muzzle in the second colour, a wagging tail."""
    chest, plump, hr = mix(k[0], 0.48, 0.58), mix(k[1], 0.29, 0.38), mix(k[2], 0.40, 0.47)
    snout, ear = mix(k[3], 0.20, 0.40), mix(k[4], 0.22, 0.42)
    hy, hz = chest + 0.22 + hr, 0.16
    trunk = capsule((0, 0.32, -0.20), (0, chest + 0.06, 0.08), plump, plump * 0.80)
    neck = capsule((0, chest, 0.10), (0, hy, hz), 0.25, 0.22)
    haunch = mirrored(ellipsoid((plump * 0.85, 0.26, -0.12), (0.20, 0.26, 0.30)))
    fore = mirrored(capsule((0.17, chest, 0.20), (0.17, 0.1, 0.34), 0.115, 0.10))
    paws = mirrored(ellipsoid((0.18, 0.08, 0.42), (0.12, 0.085, 0.17)))
    hind = mirrored(ellipsoid((plump + 0.08, 0.08, 0.22), (0.12, 0.085, 0.2)))
    skull = ellipsoid((0, hy, hz), (hr * 1.02, hr * 0.95, hr))
    nose_z = hz + hr * 0.75 + snout
    muzzle = capsule((0, hy - hr * 0.32, hz + hr * 0.5), (0, hy - hr * 0.40, nose_z - 0.06), hr * 0.50, hr * 0.40)
    if k[5] > 0.4:  # floppy
        ears = mirrored(ellipsoid((hr * 1.05, hy - ear * 0.35, hz - 0.02), (0.085, ear, 0.17)))
    else:
        ears = mirrored(capsule((hr * 0.62, hy + hr * 0.6, hz - 0.05), (hr * 0.86, hy + hr * 0.8 + ear * 0.55, hz - 0.05), 0.18, 0.05))
    tail = capsule((0, 0.16, -0.42), (mix(k[6], -0.35, 0.35), 0.55, -0.75), 0.085, 0.05)
    eye = (hr * 0.42, hy + hr * 0.16, hz + hr * 0.86)
    body = blend(0.10, trunk, neck, skull, haunch, fore, tail)
    return Solid(
        [
            Part(Material.BODY, body),
            Part(Material.SECOND, blend(0.04, muzzle, paws, hind)),
            Part(Material.SECOND, ears),
            Part(Material.DARK, ellipsoid((0, hy - hr * 0.22, nose_z + hr * 0.24), (0.12, 0.09, 0.08))),
            *eyes(eye, mix(k[7], 0.085, 0.110)),
        ],
        head=Head((0, hy, hz), hr, eye, (0, chest + 0.16, 0.12), 0.27),
    )


def cat(k: Knobs) -> Solid:
    """A sitting cat: upright body, pointed ears, green slit eyes, a tail that curls to the side."""
    wide, tall, hr = mix(k[0], 0.30, 0.40), mix(k[1], 0.50, 0.66), mix(k[2], 0.38, 0.45)
    ear, hy = mix(k[3], 0.20, 0.34), tall * 1.35 + hr * 0.70
    trunk = ellipsoid((0, tall * 0.78, -0.02), (wide, tall * 0.80, wide))
    skull = ellipsoid((0, hy, 0.10), (hr * 1.12, hr * 0.92, hr * 0.95))
    fore = mirrored(capsule((0.13, tall * 0.8, 0.24), (0.13, 0.09, 0.32), 0.095))
    haunch = mirrored(ellipsoid((wide * 0.85, 0.22, 0.05), (0.17, 0.22, 0.28)))
    ears = mirrored(capsule((hr * 0.66, hy + hr * 0.55, 0.08), (hr * 0.92, hy + hr * 0.62 + ear, 0.08), 0.15, 0.02))
    side = 1.0 if k[4] > 0.5 else -1.0
    reach, lift = mix(k[5], 0.62, 0.80), mix(k[6], 0.25, 0.75)
    tail = union(
        capsule((side * 0.2, 0.10, -0.25), (side * reach, 0.12, -0.05), 0.085),
        capsule((side * reach, 0.12, -0.05), (side * (reach + 0.08), lift, 0.02), 0.085, 0.06),
    )
    eye = (hr * 0.45, hy + 0.05, 0.10 + hr * 0.80)
    pupil = (eye[0], eye[1], eye[2] + 0.055)
    muzzle = mirrored(ellipsoid((0.08, hy - hr * 0.36, 0.10 + hr * 0.86), (0.125, 0.10, 0.09)))
    return Solid(
        [
            Part(Material.BODY, blend(0.08, trunk, skull, haunch, fore)),
            Part(Material.SECOND, union(ears, tail)),
            Part(Material.IRIS, mirrored(ellipsoid(eye, (0.115, 0.125, 0.06)))),
            Part(Material.DARK, mirrored(ellipsoid(pupil, (mix(k[7], 0.038, 0.062), 0.104, 0.03)))),
            Part(Material.WHITE, muzzle),
            Part(Material.ROSE, ellipsoid((0, hy - hr * 0.16, 0.14 + hr * 0.95), (0.075, 0.055, 0.055))),
        ],
        head=Head((0, hy, 0.10), hr, eye, (0, hy - hr * 0.98, 0.02), 0.25),
    )


def plushie(k: Knobs) -> Solid:
    """A stuffed bear: round ears, stubby limbs spread out, muzzle, belly and soles in the second colour."""
    fat, hr, ear = mix(k[0], 0.40, 0.50), mix(k[1], 0.36, 0.45), mix(k[2], 0.14, 0.21)
    by, hy = fat * 0.98, fat * 1.62 + hr * 0.72
    belly = ellipsoid((0, by, 0.02), (fat, fat * 1.02, fat * 0.85))
    skull = ellipsoid((0, hy, 0.06), (hr * 1.08, hr, hr * 0.95))
    swing = mix(k[3], -0.15, 0.30)
    arms = mirrored(capsule((fat * 0.75, by + fat * 0.5, 0.02), (fat + 0.24, by - 0.05 + swing, 0.22), 0.145, 0.125))
    legs = mirrored(capsule((fat * 0.55, 0.18, 0.12), (fat * 0.62 + mix(k[4], 0, 0.15), 0.17, 0.52), 0.175))
    soles = mirrored(ellipsoid((fat * 0.63 + mix(k[4], 0, 0.15), 0.18, 0.66), (0.12, 0.13, 0.06)))
    ears = mirrored(sphere((hr * 0.82, hy + hr * 0.74, 0.04), ear))
    inner = mirrored(sphere((hr * 0.82, hy + hr * 0.74, 0.04 + ear * 0.62), ear * 0.62))
    snout = ellipsoid((0, hy - hr * 0.30, hr * 0.92), (hr * mix(k[5], 0.42, 0.55), hr * 0.36, 0.18))
    patch = ellipsoid((0, by - 0.02, fat * 0.42), (fat * mix(k[6], 0.5, 0.72), fat * 0.72, fat * 0.5))
    eye = (hr * 0.42, hy + hr * 0.12, hr * 0.93)
    return Solid(
        [
            Part(Material.BODY, blend(0.06, belly, skull, arms, legs, ears)),
            Part(Material.SECOND, union(snout, inner, soles, patch)),
            Part(Material.DARK, ellipsoid((0, hy - hr * 0.18, hr * 0.92 + 0.16), (0.105, 0.08, 0.07))),
            *eyes(eye, mix(k[7], 0.080, 0.105)),
        ],
        head=Head((0, hy, 0.06), hr, eye, (0, hy - hr * 0.98, 0.03), 0.30),
    )


def duck(k: Knobs) -> Solid:
    """A bath duck: big head, orange bill, wings in the second colour, a turned-up tail."""
    bw, bh, bl = mix(k[0], 0.46, 0.58), mix(k[1], 0.36, 0.46), mix(k[2], 0.58, 0.72)
    hr, hz = mix(k[3], 0.34, 0.44), bl * 0.42
    hy = bh * 1.7 + hr * 0.80
    rump = capsule((0, bh * 1.2, -bl * 0.65), (0, bh * 1.2 + mix(k[4], 0.22, 0.42), -bl * 1.12), 0.22, 0.05)
    body = blend(0.14, ellipsoid((0, bh, 0), (bw, bh, bl)), sphere((0, hy, hz), hr), rump)
    bill = ellipsoid((0, hy - hr * 0.16, hz + hr + 0.06), (mix(k[5], 0.15, 0.22), 0.075, 0.22))
    wing = mirrored(ellipsoid((bw * 0.90, bh * 1.12, -0.08), (0.13, mix(k[6], 0.20, 0.28), 0.38)))
    eye = (hr * 0.48, hy + hr * 0.28, hz + hr * 0.80)
    return Solid(
        [
            Part(Material.BODY, body),
            Part(Material.SECOND, wing),
            Part(Material.BEAK, bill),
            *eyes(eye, mix(k[7], 0.078, 0.100)),
        ],
        head=Head((0, hy, hz), hr, eye, (0, hy - hr * 0.95, hz - 0.03), 0.30),
    )


def red_hat(head: Head) -> list[Part]:
    """A round red hat with a brim."""
    x, y, z = head.center
    top = y + head.radius * 0.72
    crown = cylinder((x, top + 0.20, z), head.radius * 0.72, 0.21, 0.07)
    return [Part(Material.RED, union(crown, cylinder((x, top, z), head.radius * 1.15, 0.055, 0.05)))]


def rainbow_scarf(head: Head) -> list[Part]:
    """A striped scarf around the neck with one end hanging down in front."""
    x, y, z = head.neck
    r = head.neck_radius
    end = box((r * 0.55, y - 0.22, z + r + 0.11), (0.13, 0.24, 0.06), 0.05)
    return [Part(Material.RAINBOW, union(torus((x, y, z), r, 0.145), end))]


def pink_glasses(head: Head) -> list[Part]:
    """Two big pink rings before the eyes, a bridge and the side bars."""
    x, y, z = head.eye
    at, r = z + 0.07, min(max(x * 0.92, 0.15), 0.19)
    rims = mirrored(torus((x, y, at), r, 0.048, axis="z"))
    bars = mirrored(capsule((x + r, y, at), (head.radius * 1.0, y + 0.02, head.center[2]), 0.042))
    return [Part(Material.PINK, union(rims, bars, box((0, y, at), (x - r + 0.02, 0.036, 0.036), 0.02)))]
