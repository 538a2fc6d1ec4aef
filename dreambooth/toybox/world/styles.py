"""Styles: what happens to a photo when somebody draws, pixelates or paints it. uint8 [n, n, 3] in and out.

Who draws knows what is the thing and what its surroundings: `cover` [n, n] in 0..1 says where the object (and what it wears) is.
"""

import numpy as np
from PIL import Image, ImageFilter


def restyle(picture: np.ndarray, style: str, cover: np.ndarray) -> np.ndarray:
    """The picture in the given style; a photo stays as it is."""
    return STYLES[style](picture, cover)


def sketch(picture: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Graphite on paper: a bold outline, dark lines where the tone changes, soft shading, faint surroundings, no colour."""
    fine, wide = (blurred(picture, r) for r in (0.008, 0.022))
    line = np.clip((wide - fine).max(2) * 7.0 - 0.16, 0, 1) * (0.25 + 0.75 * cover)
    tone = np.clip(1.05 - fine.mean(2), 0, 1)
    paper = 0.98 - tone**1.6 * (0.10 + 0.34 * cover)
    ink = paper * (1 - 0.82 * np.maximum(line, outline(cover, 0.012)))
    return (np.stack([ink, ink * 0.995, ink * 0.97], 2) * 255 + 0.5).astype(np.uint8)


def pixels(picture: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """A grid of 32 x 32 blocks with five tones per channel; the object has a dark rim, the surroundings are paler."""
    size = len(picture)
    small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    inside = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    solid = np.pad(inside > 0.5, 1)
    near = solid[:-2, 1:-1] | solid[2:, 1:-1] | solid[1:-1, :-2] | solid[1:-1, 2:]
    small = np.where((inside > 0.5)[..., None], (small - 0.5) * 1.15 + 0.5, small * 0.8 + 0.16)
    few = np.round(np.clip(small, 0, 1) * 5) / 5
    few[near & (inside <= 0.5)] = (0.1, 0.08, 0.14)
    return np.asarray(Image.fromarray((few * 255).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST))


def painting(picture: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Oil on canvas: each point takes the calmest of the four quarters around it (Kuwahara 1976), in warmer, fuller colours."""
    size = len(picture)
    r = max(2, round(size * 0.030))
    x = np.asarray(picture, np.float32) / 255
    padded = np.pad(x, ((r, r), (r, r), (0, 0)), mode="edge")
    mean, square = box_mean(padded, r + 1), box_mean(padded * padded, r + 1)
    spread = (square - mean * mean).sum(2)
    quarters = [(slice(i, i + size), slice(j, j + size)) for i in (0, r) for j in (0, r)]
    choice = np.stack([spread[q] for q in quarters]).argmin(0)
    calm = np.stack([mean[q] for q in quarters])
    paint = np.take_along_axis(calm, choice[None, :, :, None], 0)[0]
    grey = paint.mean(2, keepdims=True)
    paint = np.clip(grey + (paint - grey) * 1.5, 0, 1) * np.array([1.04, 0.98, 0.84], np.float32)
    return (np.clip(paint, 0, 1) * 255 + 0.5).astype(np.uint8)


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    """The picture in 0..1 through a Gaussian whose radius is a part of its width."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) * radius)), np.float32) / 255


def outline(cover: np.ndarray, width: float) -> np.ndarray:
    """A line in 0..1 along the object's edge, as wide as the given part of the picture."""
    edge = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(len(cover) * width)), np.float32)
    return np.clip(1.25 - np.abs(edge / 255 - 0.5) * 3.6, 0, 1)


def box_mean(x: np.ndarray, n: int) -> np.ndarray:
    """Mean over every n x n window of [h, w, c]."""
    total = np.pad(x.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    return ((total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]) / (n * n)).astype(np.float32)


STYLES = {"photo": lambda picture, cover: picture, "sketch": sketch, "pixels": pixels, "painting": painting}
