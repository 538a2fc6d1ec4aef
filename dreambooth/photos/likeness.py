"""How alike the photos of a set are: copies, one background, one view, one mark at one place.

Five photos teach what they have in common. When that is more than the subject (the sofa, the pose, an agency's watermark), the model
learns that, too: it overfits the input images, the third failure that the paper names (section 4.5).
"""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from dreambooth.photos.measures import luminance
from dreambooth.photos.subject import Subject, colours_of

MARK_SIDE = 192
"""Side in pixels at which edges of several photos are laid over each other."""


def perceptual_hash(image: Image.Image) -> Any:
    """64 bits: signs of the lowest 8 x 8 cosine coefficients of a 32 x 32 grey copy against their median (imagehash's `phash`)."""
    import numpy as np

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    k, n = np.arange(8)[:, None], np.arange(32)[None, :]
    cosines = 2 * np.cos(np.pi * k * (2 * n + 1) / 64)
    low = cosines @ grey @ cosines.T
    return (low > np.median(low)).ravel()


def hashes(image: Image.Image) -> tuple[Any, Any]:
    """The hashes of a photo and of its mirror image."""
    return perceptual_hash(image), perceptual_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def background(image: Image.Image, subject: Subject) -> Any:
    """The colours around the subject: a soft histogram over L*a*b*, of what lies outside its box and is not in its map."""
    lab = colours_of(image, subject.map.shape)
    h, w = subject.map.shape
    left, top, right, bottom = subject.box
    weight = 1.0 - subject.map
    weight[int(top * h) : int(bottom * h), int(left * w) : int(right * w)] *= 0.1
    return _histogram(lab, weight)


def _histogram(lab: Any, weight: Any) -> Any:
    """Soft bins (each value shared by its two neighbours) of 12 L* units and 10 a*, b* units; sums to 1."""
    import numpy as np

    place = np.stack([lab[..., 0] / 12, (lab[..., 1] + 90) / 10, (lab[..., 2] + 90) / 10], axis=-1).reshape(-1, 3)
    base = np.floor(place).astype(int)
    part, bins = place - base, np.zeros((11, 20, 20))
    for corner in range(8):
        step = np.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        share = np.where(step == 1, part, 1 - part).prod(1) * weight.ravel()
        at = np.clip(base + step, 0, np.array(bins.shape) - 1)
        np.add.at(bins, (at[:, 0], at[:, 1], at[:, 2]), share)
    return bins / max(bins.sum(), 1e-9)


def overlap(one: Any, other: Any) -> float:
    """Shared part of two histograms: 1 for the same colours, 0 for none in common."""
    import numpy as np

    return float(np.minimum(one, other).sum())


def view(image: Image.Image, subject: Subject) -> Any:
    """The subject's outline and inner edges: gradient directions in 6 x 6 cells of its box (as in HOG, Dalal & Triggs 2005)."""
    import numpy as np

    left, top, right, bottom = subject.box
    box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
    grey = luminance(np.asarray(image.resize((72, 72), Image.Resampling.BOX, box=box), dtype=np.float32))
    gy, gx = np.gradient(grey)
    size, angle = np.hypot(gx, gy), np.mod(np.arctan2(gy, gx), np.pi)
    cells = np.zeros((6, 6, 9))
    rows, columns = np.indices(grey.shape) // 12
    np.add.at(cells, (rows, columns, np.minimum((angle / np.pi * 9).astype(int), 8)), size)
    cells = np.sqrt(cells / (cells.sum(2, keepdims=True) + 12 * 12))
    cells -= cells.mean((0, 1))
    return cells.ravel() / max(float(np.linalg.norm(cells)), 1e-9)


def common_mark(images: Sequence[Image.Image]) -> tuple[float, tuple[float, float, float, float]]:
    """How much the photos share edges at one place, as a watermark, logo or date does, and where (left, top, right, bottom).

    Directions of edges at the same place of different photos agree by chance only; where nearly all agree, densely, and in
    opposite directions side by side (both sides of a stroke), something was laid over (after Dekel et al., "On the Effectiveness
    of Visible Watermarks", CVPR 2017). Needs 4 photos.
    """
    import numpy as np

    if len(images) < 4:
        return 0.0, (0.0, 0.0, 0.0, 0.0)
    edges = np.stack([_directions(image) for image in images])
    mean = edges.mean(0)
    common = mean / (np.hypot(*mean) + 1e-6)
    agreement = np.sort((edges * common).sum(1), axis=0)[int(0.2 * len(images))]
    same = agreement > 0.6
    h, w = MARK_SIDE // 16, MARK_SIDE // 6
    density = _window_mean(same.astype(np.float64), h, w)
    drift = np.hypot(_window_mean(np.where(same, common[0], 0), h, w), _window_mean(np.where(same, common[1], 0), h, w))
    score = np.maximum(density - drift, 0)
    top, left = np.unravel_index(int(np.argmax(score)), score.shape)
    box = (float(left / MARK_SIDE), float(top / MARK_SIDE), float((left + w) / MARK_SIDE), float((top + h) / MARK_SIDE))
    return float(score.max()), box


def _directions(image: Image.Image) -> Any:
    """The grey gradient with its length brought to 0..1, so that faint and strong edges count alike."""
    import numpy as np

    grey = luminance(np.asarray(image.resize((MARK_SIDE, MARK_SIDE)), dtype=np.float32))
    gy, gx = np.gradient(grey)
    return np.stack([gx, gy]) / (np.hypot(gx, gy) + 6)


def _window_mean(values: Any, height: int, width: int) -> Any:
    import numpy as np

    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    parts = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return parts / (height * width)
