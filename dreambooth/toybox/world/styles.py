"""Styles: what happens to a photo when somebody draws, pixelates or paints it. uint8 [n, n, 3] in and out."""

import numpy as np
from PIL import Image, ImageFilter


def restyle(picture: np.ndarray, style: str) -> np.ndarray:
    """The picture in the given style; a photo stays as it is."""
    return STYLES[style](picture)


def sketch(picture: np.ndarray) -> np.ndarray:
    """Graphite on paper: dark lines where the tone changes, soft shading, no colour."""
    size = len(picture)
    image = Image.fromarray(picture)
    fine, wide = (np.asarray(image.filter(ImageFilter.GaussianBlur(size * r)), np.float32) / 255 for r in (0.006, 0.018))
    line = np.clip((wide - fine).max(2) * 7.0 - 0.14, 0, 1)
    tone = np.clip(1.05 - fine.mean(2), 0, 1)
    paper = 0.97 - 0.34 * tone**1.6
    ink = paper * (1 - 0.82 * line)
    return (np.stack([ink, ink * 0.995, ink * 0.97], 2) * 255 + 0.5).astype(np.uint8)


def pixels(picture: np.ndarray) -> np.ndarray:
    """A grid of 32 x 32 blocks with five tones per channel."""
    size = len(picture)
    small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    small = np.clip((small - 0.5) * 1.15 + 0.5, 0, 1)
    few = np.round(small * 5) / 5
    return np.asarray(Image.fromarray((few * 255).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST))


def painting(picture: np.ndarray) -> np.ndarray:
    """Oil on canvas: each point takes the calmest of the four quarters around it (Kuwahara 1976), in warmer colours."""
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
    paint = np.clip(grey + (paint - grey) * 1.35, 0, 1) * np.array([1.03, 0.99, 0.90], np.float32)
    return (np.clip(paint, 0, 1) * 255 + 0.5).astype(np.uint8)


def box_mean(x: np.ndarray, n: int) -> np.ndarray:
    """Mean over every n x n window of [h, w, c]."""
    total = np.pad(x.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    return ((total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]) / (n * n)).astype(np.float32)


STYLES = {"photo": lambda picture: picture, "sketch": sketch, "pixels": pixels, "painting": painting}
