"""From a subject and a scene to a picture: sphere tracing, antialiased where it is needed.

One ray per pixel first; pixels that differ from a neighbour are traced four times more (adaptive supersampling), so
smooth regions cost one ray. All colours are computed in linear light (gamma 2) and stored as sRGB-like bytes.
"""

import numpy as np

from .scene import Scene
from .stage import Stage
from .styles import restyle
from .subject import Subject

CORNERS = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
"""Sub-pixel positions of the extra rays (a rotated grid), in pixels."""
CONTRAST = 0.07
"""Difference to a neighbour, in 0..1, from which a pixel is supersampled."""


def render(subject: Subject, scene: Scene, size: int = 128) -> np.ndarray:
    """The picture of a subject in a scene, uint8 [size, size, 3]. The same arguments give the same bytes."""
    return render_with_cover(subject, scene, size)[0]


def render_photos(subject: Subject, size: int = 128) -> list[np.ndarray]:
    """The subject's photos, uint8 [size, size, 3] each: what a person would bring to DreamBooth."""
    return [render(subject, scene, size) for scene in subject.photo_scenes()]


def render_with_cover(subject: Subject, scene: Scene, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The picture, and where the subject and what it wears are in it: float32 [size, size] in 0..1."""
    stage = Stage(subject, scene)
    stage.worn = len(stage.parts)
    pixels, cover = trace(stage, size)
    picture = (pixels.reshape(3, size, size).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    return restyle(picture, scene.style, cover.reshape(size, size)), cover.reshape(size, size)


def render_mask(subject: Subject, scene: Scene, size: int = 128) -> np.ndarray:
    """Where the subject is in `render(subject, scene, size)`: float32 [size, size] in 0..1, accessories not included."""
    return trace(Stage(subject, scene), size)[1].reshape(size, size)


def trace(stage: Stage, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours [3, size * size] in 0..1 and how much of each pixel the subject covers [size * size]."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    across, down = (axis.ravel() for axis in np.meshgrid(steps, steps))
    colors, cover = stage.shade(across, -down)
    edges = np.nonzero(busy(colors.reshape(3, size, size)).ravel())[0]
    total, covered = colors[:, edges], cover[edges]
    u = np.concatenate([across[edges] + dx * (2 / size) for dx, _ in CORNERS])
    v = np.concatenate([down[edges] + dy * (2 / size) for _, dy in CORNERS])
    more, more_cover = stage.shade(u, -v)
    colors[:, edges] = (total + more.reshape(3, len(CORNERS), -1).sum(1)) / (1 + len(CORNERS))
    cover[edges] = (covered + more_cover.reshape(len(CORNERS), -1).sum(0)) / (1 + len(CORNERS))
    return colors, cover


def busy(image: np.ndarray) -> np.ndarray:
    """Which pixels of [3, h, w] differ visibly from the one above, below, left or right."""
    h = np.abs(image[:, :, 1:] - image[:, :, :-1]).max(0) > CONTRAST
    v = np.abs(image[:, 1:] - image[:, :-1]).max(0) > CONTRAST
    mask = np.zeros(image.shape[1:], bool)
    mask[:, 1:] |= h
    mask[:, :-1] |= h
    mask[1:] |= v
    mask[:-1] |= v
    return mask
