"""Where to cut a square out of a photo, so that the subject is in it and in its middle."""

from typing import Literal

from dreambooth.photos.subject import Subject

Cropping = Literal["subject", "centre", "none"]
Box = tuple[int, int, int, int]


def square(size: tuple[int, int], subject: Subject, *, resolution: int, fill: float | None = None) -> Box:
    """The square (left, top, right, bottom in pixels) around the subject: as large as the photo, or so that the subject fills it.

    With `fill` (0 to 1) the square shrinks until the longer side of the subject's box takes that share of it, but never below
    `resolution` pixels, so that nothing is enlarged that was not before.
    """
    width, height = size
    left, top, right, bottom = subject.box
    side = min(size)
    if fill:
        wanted = max((right - left) * width, (bottom - top) * height) / fill
        side = round(min(side, max(wanted, min(resolution, side))))
    x = _place(subject, side / width, axis=0)
    y = _place(subject, side / height, axis=1)
    x0 = min(max(0, round(x * width)), width - side)
    y0 = min(max(0, round(y * height)), height - side)
    return (x0, y0, x0 + side, y0 + side)


def centred(size: tuple[int, int]) -> Box:
    """The largest square in the middle."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return (left, top, left + side, top + side)


def _place(subject: Subject, share: float, *, axis: int) -> float:
    """Where a window of that share begins: the subject's box in its middle, or, if the box is longer, over most of its mass."""
    import numpy as np

    low, high = subject.box[axis], subject.box[axis + 2]
    if high - low <= share:
        return min(max(0.0, (low + high - share) / 2), 1 - share)
    mass = subject.map.sum(axis=axis)
    count = len(mass)
    window = max(1, round(share * count))
    sums = np.convolve(mass, np.ones(window), mode="valid")
    first, last = int(low * count), max(int(low * count), int(np.ceil(high * count)) - window)
    inside = sums[first : last + 1]
    if not len(inside):
        return (low + high - share) / 2
    best = np.flatnonzero(inside >= inside.max() * (1 - 1e-9))
    return (first + int(best[len(best) // 2])) / count  # of equal ones the middle
