"""The stage: camera, light, ground, backdrop and one object on it, asked for the colour along any ray.

The object keeps its own units, in which rays are marched (`to_object`); the world's unit is most of an object's
height.
"""

from functools import lru_cache

import numpy as np

from .animals import pink_glasses, rainbow_scarf, red_hat
from .contexts import PLACES, Look
from .fields import Array, length
from .scene import Scene
from .solids import Head, Material, Part, Solid
from .subject import ANIMALS, Subject
from .surfaces import pattern, soft

WEAR = {"red hat": red_hat, "rainbow scarf": rainbow_scarf, "pink glasses": pink_glasses}
HEIGHT, WIDTH = 1.52, 1.66
"""An object is scaled to touch one of these, in world units."""
UNIT = 1.38
"""How high an object is in the units of a subject's `cell`: a pattern is part of the object, whatever it wears."""
DISTANCE, ZOOM = 5.0, 0.200
"""Camera to object, and half the picture's width at distance one."""
WALL = -2.2
"""Where the backdrop stands (z)."""
STEPS, NEAR = 40, 0.004
"""At most so many steps a ray; closer than this is a hit."""

PALETTE = np.zeros((len(Material), 3), np.float32)
for _material, _rgb in {
    Material.DARK: (0.10, 0.10, 0.11),
    Material.WHITE: (0.96, 0.96, 0.95),
    Material.GLOW: (1.0, 0.86, 0.36),
    Material.BEAK: (0.98, 0.60, 0.12),
    Material.METAL: (0.75, 0.76, 0.78),
    Material.IRIS: (0.62, 0.84, 0.30),
    Material.ROSE: (0.90, 0.48, 0.50),
    Material.RED: (0.88, 0.10, 0.12),
    Material.PINK: (1.0, 0.40, 0.66),
}.items():
    PALETTE[_material] = _rgb
RAINBOW = np.array(
    [(0.90, 0.20, 0.20), (0.98, 0.62, 0.15), (0.98, 0.88, 0.25), (0.25, 0.70, 0.35), (0.20, 0.45, 0.90), (0.60, 0.30, 0.80)],
    np.float32,
)

LIGHT = {  # key, sky, ground bounce: linear light; tint of the surroundings
    "day": ((0.98, 0.94, 0.86), (0.58, 0.61, 0.66), (0.30, 0.28, 0.26), (1.0, 1.0, 1.0)),
    "sunset": ((1.25, 0.72, 0.38), (0.42, 0.34, 0.42), (0.20, 0.13, 0.10), (1.0, 0.66, 0.46)),
    "night": ((0.34, 0.40, 0.62), (0.14, 0.17, 0.30), (0.05, 0.06, 0.10), (0.17, 0.21, 0.38)),
}
PITCH = {"front": (9, 15), "side": (9, 15), "back": (9, 15), "above": (48, 54)}
YAW = {"front": (-32, 32), "side": (74, 100), "back": (158, 202), "above": (-32, 32)}


@lru_cache(maxsize=64)
def built(subject: Subject) -> tuple[Solid, np.ndarray, np.ndarray]:
    """The subject's solid and the two corners of its bounding box, in its own units."""
    solid = subject.solid()
    axis = np.linspace(-1.35, 1.35, 22, dtype=np.float32)
    x, y, z = (g.ravel() for g in np.meshgrid(axis, axis + 1.25, axis, indexing="ij"))
    inside = nearest(solid.parts, x, y, z) < (axis[1] - axis[0]) * 0.6
    points = np.stack([x, y, z])[:, inside]
    return solid, points.min(1), points.max(1)


def nearest(parts: list[Part] | tuple[Part, ...], x: Array, y: Array, z: Array) -> Array:
    """Distance to the nearest part."""
    distance = parts[0].field(x, y, z)
    for part in parts[1:]:
        distance = np.minimum(distance, part.field(x, y, z))
    return distance


def fitting_scale(low: np.ndarray, high: np.ndarray) -> float:
    """World units per unit of an object with these corners, so that it is HEIGHT high or WIDTH wide."""
    spread = max(high[0] - low[0], (high[2] - low[2]) * 0.85)
    return float(min(HEIGHT / high[1], WIDTH / spread))


class Stage:
    """One subject in one scene, ready to be looked at."""

    def __init__(self, subject: Subject, scene: Scene):
        rng = np.random.default_rng([scene.seed, 20])
        self.subject, self.scene = subject, scene
        solid, low, high = built(subject)
        self.solid, self.parts = solid, list(solid.parts)
        self.worn = len(self.parts)  # parts from here on are worn and no part of the subject's mask
        bare = fitting_scale(low, high)
        self.cell = subject.cell * HEIGHT / (UNIT * bare)
        if scene.accessory and subject.noun in ANIMALS:
            assert isinstance(solid.head, Head)
            extra = WEAR[scene.accessory](solid.head)
            self.parts += extra
            high = high + np.array([0, 0.32 if scene.accessory == "red hat" else 0, 0])
        self.scale = fitting_scale(low, high)
        self.middle = ((low + high) / 2).astype(np.float32)
        room = 0.15 if len(self.parts) > self.worn else 0.0
        self.materials = np.array([part.material for part in self.parts])
        self.top = float(high[1])
        self.low, self.high = (low - room).astype(np.float32), (high + room).astype(np.float32)
        yaw = rng.uniform(*YAW[scene.view]) * (rng.choice([-1, 1]) if scene.view == "side" else 1)
        self.turn = np.float32(np.cos(np.deg2rad(yaw))), np.float32(np.sin(np.deg2rad(yaw)))
        self.sink = 0.09 if scene.context == "water" else 0.03 if scene.context == "snow" else 0.0
        self.place_camera(rng)
        self.look = Look(rng.uniform(0, 6.28), rng.uniform(0, 6.28), int(rng.integers(1000)), rng.uniform(-1, 1))
        side = rng.choice([-1, 1]) * rng.uniform(0.35, 0.75)
        sun = np.array([side, 1.0, rng.uniform(0.45, 0.75)], np.float32)
        self.sun = sun / np.linalg.norm(sun)
        self.shadow = self.cast_shadow()

    def place_camera(self, rng: np.random.Generator) -> None:
        """Look at the object's middle from this scene's angle, a little off centre, a little nearer or farther."""
        tilt = np.deg2rad(rng.uniform(*PITCH[self.scene.view]))
        self.forward = np.array([0, -np.sin(tilt), -np.cos(tilt)], np.float32)
        self.up = np.array([0, np.cos(tilt), -np.sin(tilt)], np.float32)
        height = self.top * self.scale * 0.5 - self.sink
        target = np.array([rng.uniform(-0.10, 0.10), height + rng.uniform(-0.06, 0.06), 0], np.float32)
        self.eye = (target - self.forward * DISTANCE * rng.uniform(0.95, 1.08)).astype(np.float32)

    def to_object(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """World points in the object's own units and axes."""
        c, s = self.turn
        k = 1 / self.scale
        return (c * x - s * z) * k + self.middle[0], (y + self.sink) * k, (s * x + c * z) * k + self.middle[2]

    def turned(self, d: Array) -> Array:
        """World directions [3, n] in the object's axes."""
        c, s = self.turn
        return np.stack([c * d[0] - s * d[2], d[1], s * d[0] + c * d[2]])

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the object, all in its own units."""
        return nearest(self.parts, x, y, z)

    def cast_shadow(self) -> np.ndarray:
        """Light on the ground, 0..1 on a grid of 40 x 40 over [-1.7, 1.7] squared: sun's shadow times contact shadow."""
        axis = np.linspace(-1.7, 1.7, 40, dtype=np.float32)
        gx, gz = (g.ravel() for g in np.meshgrid(axis, axis, indexing="ij"))
        light = np.ones_like(gx)
        t = np.full_like(gx, 0.05)
        for _ in range(9):
            p = self.to_object(gx + self.sun[0] * t, self.sun[1] * t, gz + self.sun[2] * t)
            d = self.distance(*p) * self.scale
            light = np.minimum(light, 4.0 * d / t + 0.12)
            t = t + np.clip(d, 0.05, 0.35)
        contact = self.distance(*self.to_object(gx, np.full_like(gx, 0.04), gz)) * self.scale
        light = np.clip(light, 0, 1)
        return ((1 - 0.62 * (1 - light)) * (1 - 0.5 * np.clip(1 - contact / 0.22, 0, 1) ** 2)).reshape(40, 40)

    def shade(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Colours [3, n] in 0..1 seen through the screen points (u, v) in -1..1, and whether the subject is there [n]."""
        u, v = u * ZOOM, v * ZOOM
        d = np.stack([u, self.forward[1] + v * self.up[1], self.forward[2] + v * self.up[2]])
        d /= length(*d)
        colors = self.surroundings(d)
        cover = np.zeros(len(u), np.float32)
        rays, t = self.march(d)
        if len(rays):
            colors[:, rays], parts = self.surface(d[:, rays], t)
            cover[rays] = parts < self.worn
        return np.sqrt(np.clip(colors, 0, 1)), cover

    def surroundings(self, d: Array) -> Array:
        """Ground and backdrop, in linear light."""
        ground, backdrop = PLACES[self.scene.context]
        tint = np.array(LIGHT[self.scene.light][3], np.float32)[:, None]
        down = self.eye[1] / np.maximum(-d[1], 1e-4)
        wall = (self.eye[2] - WALL) / np.maximum(-d[2], 1e-4)
        low = (down < wall) & (d[1] < 0)
        colors = np.empty_like(d)
        x, z = self.eye[0] + d[0, low] * down[low], self.eye[2] + d[2, low] * down[low]
        colors[:, low] = ground(x, z, self.look) ** 2 * self.light_on_ground(x, z)
        far = ~low
        seen = backdrop(self.eye[0] + d[0, far] * wall[far], self.eye[1] + d[1, far] * wall[far], self.look)
        colors[:, far] = np.clip(seen, 0, 1) ** 2
        return colors * tint

    def light_on_ground(self, x: Array, z: Array) -> Array:
        """The shadow grid, read between its points."""
        gx, gz = np.clip((x + 1.7) * (39 / 3.4), 0, 38.999), np.clip((z + 1.7) * (39 / 3.4), 0, 38.999)
        i, j = gx.astype(np.int32), gz.astype(np.int32)
        a, b = gx - i, gz - j
        s = self.shadow
        return (s[i, j] * (1 - a) + s[i + 1, j] * a) * (1 - b) + (s[i, j + 1] * (1 - a) + s[i + 1, j + 1] * a) * b

    def march(self, d: Array) -> tuple[Array, Array]:
        """Which rays hit the object, and after what way (object's units)."""
        eye = np.array(self.to_object(*self.eye), np.float32)
        way = self.turned(d)
        pad = 0.03
        with np.errstate(divide="ignore", over="ignore"):
            one = 1 / np.where(np.abs(way) < 1e-6, 1e-6, way)
        a, b = (self.low - pad - eye)[:, None] * one, (self.high + pad - eye)[:, None] * one
        enter, leave = np.minimum(a, b).max(0), np.maximum(a, b).min(0)
        ground = np.where(d[1] < 0, self.eye[1] / np.maximum(-d[1], 1e-6), 1e9) / self.scale
        leave = np.minimum(leave, ground)
        rays = np.nonzero(enter < leave)[0]
        t, leave, way = enter[rays], leave[rays], way[:, rays]
        found, ways = [], []
        for _ in range(STEPS):
            gap = self.distance(eye[0] + way[0] * t, eye[1] + way[1] * t, eye[2] + way[2] * t)
            hit = gap < NEAR
            found.append(rays[hit])
            ways.append(t[hit])
            t = t + gap
            keep = ~hit & (t < leave)
            rays, t, leave, way = rays[keep], t[keep], leave[keep], way[:, keep]
            if not len(rays):
                break
        return np.concatenate(found), np.concatenate(ways)

    def surface(self, d: Array, t: Array) -> tuple[Array, Array]:
        """Lit colours [3, n] in linear light at the hits, and the part hit [n]."""
        eye = np.array(self.to_object(*self.eye), np.float32)
        way = self.turned(d)
        p = eye[:, None] + way * t
        gaps = np.stack([part.field(*p) for part in self.parts])
        part, gap = gaps.argmin(0), gaps.min(0)
        steps = np.eye(3, dtype=np.float32)[:, :, None] * 0.01
        n = np.stack([self.distance(*(p + step)) for step in steps]) - gap
        n /= length(*n) + 1e-8
        material = self.materials[part]
        return self.lit(self.albedo(p, n, material), p, n, way, material), part

    def albedo(self, p: Array, n: Array, material: Array) -> Array:
        """Colour of the material at each point, linear [3, n]."""
        first, second = (np.array(rgb, np.float32) for rgb in self.subject.rgb)
        palette = PALETTE.copy()
        palette[Material.BODY], palette[Material.FIRST], palette[Material.SECOND] = first, first, second
        colors = palette[material].T.copy()
        body = np.nonzero(material == Material.BODY)[0]
        q = p[:, body] - np.array([self.middle[0], 0, self.middle[2]], np.float32)[:, None]
        mask = pattern(self.subject.pattern, self.cell, self.subject.phase, point=q, normal=n[:, body], around=self.solid.round)
        mask = mask * (1 - self.face(p[:, body]))
        colors[:, body] += (second - first)[:, None] * mask
        scarf = np.nonzero(material == Material.RAINBOW)[0]
        turn = np.arctan2(p[0, scarf], p[2, scarf]) * (12 / np.pi) + p[1, scarf] * 6
        colors[:, scarf] = RAINBOW[np.mod(np.floor(turn), 6).astype(np.int32)].T
        return colors * colors

    def face(self, p: Array) -> Array:
        """1 on the front of an animal's head, which no pattern covers: a face is small, and dots would be its eyes."""
        if self.solid.head is None:
            return np.zeros(p.shape[1], np.float32)
        x, y, z = p - np.array(self.solid.head.center, np.float32)[:, None]
        r = self.solid.head.radius
        return soft(z / r - 0.1, 0.12) * soft(1.25 - length(x, y, z) / r, 0.1)

    def lit(self, albedo: Array, p: Array, n: Array, way: Array, material: Array) -> Array:
        """Key light with a soft terminator, sky, bounce from the ground, occlusion, highlights, sky mirrored in shiny things."""
        key, sky, bounce, _ = (np.array(rgb, np.float32)[:, None] for rgb in LIGHT[self.scene.light])
        sun = self.turned(self.sun)
        facing = sun @ n
        blocked = self.distance(*(p + n * 0.03 + sun[:, None] * 0.22)) / 0.22
        open_sky = np.clip(self.distance(*(p + n * 0.16)) / 0.16, 0.25, 1) * np.clip(0.55 + p[1] * 0.9, 0.55, 1)
        direct = np.clip(facing * 0.85 + 0.15, 0, 1) * np.clip(0.35 + blocked * 0.8, 0.35, 1)
        up = n[1] * 0.5 + 0.5
        color = albedo * (key * direct + sky * up * open_sky + bounce * (1 - up) * open_sky)
        half = sun[:, None] - way
        half /= length(*half)
        glance = np.clip((half * n).sum(0), 0, 1)
        rim = (1 - np.clip(-(way * n).sum(0), 0, 1)) ** 3
        gloss = self.subject.shiny * (material <= Material.SECOND)
        mirror = np.clip((way[1] - 2 * (way * n).sum(0) * n[1]) * 3 + 0.4, 0, 1)
        color = (
            color
            + key * (0.10 * glance**14 * (1 - gloss) + 1.1 * glance**60 * gloss)
            + sky * (0.10 * rim + 0.34 * mirror * gloss * (0.35 + rim)) * open_sky
        )
        return np.where(material == Material.GLOW, albedo, color)
