"""Where the subject is: a map of what stands out from the photo's border, without any network or weights.

Three cues that people use, too. What cannot be reached from the border without crossing an edge is probably an object (minimum
barrier distance, Zhang et al., "Minimum Barrier Salient Object Detection at 80 FPS", ICCV 2015). What has other colours than the
border is probably not the background (there, too). What is in focus was meant (the background of most portraits of
things is blurred). Their sum, weighted towards the middle, is thresholded into a box.
"""

from dataclasses import dataclass
from typing import Any

from PIL import Image

SIDE = 80
"""Longer side in pixels at which the map is computed: enough to place a box, small enough for a few hundredths of a second."""
SWEEPS = 3
"""Passes over the picture for the barrier distance; more change nothing that can be seen."""


@dataclass(frozen=True)
class Subject:
    """The subject's place in a photo."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, as shares of the width and height."""
    share: float
    """The box's area as a share of the photo."""
    certainty: float
    """How clearly the subject stands out, 0 to 1: the map's mean inside the box minus its mean outside; or a detector's score."""
    map: Any
    """Where it is likely to be, float32 in 0 to 1, at most `SIDE` pixels wide and high; a detector's box is likeliest in its middle."""


def find_subject(image: Image.Image) -> Subject:
    """The box around what stands out. Deterministic."""
    scale = SIDE / max(image.size)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    lab = colours_of(image, (size[1], size[0]))
    barrier = sum(_barrier(lab.transpose(2, 0, 1)))
    score = _unit(barrier) + _unit(_unlike_border(lab)) + 0.35 * _unit(_focus(image, size))
    score = _unit(_smooth(score, 1) * _towards_middle(score.shape))
    return _boxed(score)


def from_mask(mask: Image.Image) -> Subject | None:
    """The subject where a mask (or an alpha channel) says it is; None for an empty mask."""
    import numpy as np

    scale = min(1.0, SIDE / max(mask.size))
    size = (max(1, round(mask.width * scale)), max(1, round(mask.height * scale)))
    values = np.asarray(mask.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    return _boxed(values, level=0.25) if values.max() > 0.25 else None


def from_box(box: tuple[float, float, float, float], certainty: float) -> Subject:
    """The subject where a detector's box (left, top, right, bottom, as shares) says it is."""
    import numpy as np

    left, top, right, bottom = box
    place = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    down, across = (np.clip(1 - np.abs(2 * place - a - b) / max(b - a, 1 / SIDE), 0, 1) for a, b in ((top, bottom), (left, right)))
    return Subject(box, (right - left) * (bottom - top), certainty, np.outer(down, across))


def colours_of(image: Image.Image, shape: tuple[int, int]) -> Any:
    """A small copy of so many rows and columns, in L*a*b*."""
    import numpy as np

    return _lab(np.asarray(image.convert("RGB").resize((shape[1], shape[0]), Image.Resampling.BOX), dtype=np.float32))


def _boxed(score: Any, level: float | None = None) -> Subject:
    """The box of what is above the level, small islands and the outermost 1 % on each side left out, 5 % of air added."""
    import numpy as np

    above = _without_islands(np.where(score >= (0.9 * _otsu(score) if level is None else level), score, 0))
    edges = []
    for axis in (0, 1):
        share = np.cumsum(above.sum(axis)) / max(above.sum(), 1e-9)
        low = np.searchsorted(share, 0.01) / len(share)
        high = (np.searchsorted(share, 0.99) + 1) / len(share)
        air = 0.05 * (high - low) if level is None else 0.0
        edges.append((float(max(0.0, low - air)), float(min(1.0, high + air))))
    (left, right), (top, bottom) = edges
    h, w = score.shape
    inside = np.zeros_like(score, dtype=bool)
    inside[int(top * h) : int(np.ceil(bottom * h)), int(left * w) : int(np.ceil(right * w))] = True
    outside = float(score[~inside].mean()) if (~inside).any() else 0.0
    certainty = float(score[inside].mean()) - outside
    return Subject((left, top, right, bottom), (right - left) * (bottom - top), certainty, score)


def _without_islands(values: Any) -> Any:
    """Connected parts which hold less than 3/10 of the largest part's sum are set to zero."""
    import numpy as np

    label = np.where(values > 0, np.arange(1, values.size + 1).reshape(values.shape), 0)
    while True:
        grown = label.copy()
        for to, frm in (((slice(1, None),), (slice(-1),)), ((slice(-1),), (slice(1, None),))):
            for axis in ((), (slice(None),)):
                np.maximum(grown[axis + to], label[axis + frm], out=grown[axis + to])
        grown[values <= 0] = 0
        if (grown == label).all():
            break
        label = grown
    mass = np.bincount(label.ravel(), weights=values.ravel())
    return np.where((mass >= 0.3 * mass.max())[label], values, 0)


def _barrier(channels: Any) -> Any:
    """For each pixel of channels [c, h, w], the smallest rise plus fall (max minus min) on any path from the border, by raster sweeps."""
    import numpy as np

    u = np.full(channels.shape, np.inf, dtype=np.float32)
    u[:, [0, -1]] = 0
    u[:, :, [0, -1]] = 0
    high, low = channels.copy(), channels.copy()
    views = [(lambda a: a), (lambda a: a[:, ::-1]), (lambda a: a.swapaxes(1, 2)), (lambda a: a.swapaxes(1, 2)[:, ::-1])]
    for _ in range(SWEEPS):
        for view in views:
            v, i, h, lo = (view(values).swapaxes(0, 1) for values in (u, channels, high, low))  # rows first
            for row in range(1, len(v)):
                h_new, l_new = np.maximum(h[row - 1], i[row]), np.minimum(lo[row - 1], i[row])
                cost = h_new - l_new
                better = cost < v[row]
                for kept, new in ((v, cost), (h, h_new), (lo, l_new)):
                    np.copyto(kept[row], new, where=better)
    return u


def _unlike_border(lab: Any) -> Any:
    """How far each pixel's colour is from each side's colours (Mahalanobis), the nearest three of the four sides counting."""
    import numpy as np

    h, w, _ = lab.shape
    band = max(2, round(0.08 * min(h, w)))
    flat = lab.reshape(-1, 3)
    maps = []
    for side in (lab[:band], lab[-band:], lab[:, :band], lab[:, -band:]):
        colours = side.reshape(-1, 3)
        inverse = np.linalg.inv(np.cov(colours.T) + 9.0 * np.eye(3))
        away = flat - colours.mean(0)
        distance = np.sqrt(np.maximum(((away @ inverse) * away).sum(1), 0))
        maps.append(_unit(distance.reshape(h, w)))
    return sum(maps) - np.maximum.reduce(maps)


def _focus(image: Image.Image, size: tuple[int, int]) -> Any:
    """Where fine detail is: the mean height of the finest edges, on a picture four times as large as the map."""
    import numpy as np

    w, h = size
    grey = np.asarray(image.convert("L").resize((4 * w, 4 * h), Image.Resampling.BOX), dtype=np.float32)
    fine = np.zeros_like(grey)
    fine[1:-1, 1:-1] = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    cells = np.sqrt(fine.reshape(h, 4, w, 4).mean((1, 3)))
    return _smooth(cells, 4)


def _towards_middle(shape: tuple[int, ...]) -> Any:
    """A wide bell around the middle: subjects are rarely cut by the border."""
    import numpy as np

    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    return np.exp(-0.8 * (y[:, None] ** 2 + x[None, :] ** 2))


def _smooth(values: Any, radius: int) -> Any:
    import numpy as np

    for _ in range(2):
        padded = np.pad(values, radius, mode="edge").cumsum(0).cumsum(1)
        padded = np.pad(padded, ((1, 0), (1, 0)))
        n = 2 * radius + 1
        values = (padded[n:, n:] - padded[:-n, n:] - padded[n:, :-n] + padded[:-n, :-n]) / n**2
    return values


def _unit(values: Any) -> Any:
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-6)


def _otsu(values: Any) -> float:
    """The level that parts the values best in two (Otsu 1979): largest variance between the parts."""
    import numpy as np

    counts, edges = np.histogram(values, bins=64, range=(0, 1))
    middle = (edges[:-1] + edges[1:]) / 2
    low, below = np.cumsum(counts), np.cumsum(counts * middle)
    total, whole = low[-1], below[-1]
    between = (whole * low / total - below) ** 2 / np.maximum(low * (total - low), 1)
    return float(middle[int(np.argmax(between))])


def _lab(rgb: Any) -> Any:
    """CIE L*a*b* (D65) of sRGB 0..255."""
    import numpy as np

    linear = np.where(rgb <= 10.31475, rgb / (255 * 12.92), ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32)
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089], dtype=np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1).astype(np.float32)
