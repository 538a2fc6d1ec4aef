"""Residual noise: grain on surfaces that should be flat, the mark of a model trained too hot or with a wrong noise schedule.

Immerkaer's fast estimate (1996): the response to a mask that is blind to planes and edges, on the calmest quarter of the picture's
8 x 8 blocks, as a standard deviation in grey levels of 255. Calm blocks are found on a picture that is smoothed first, so that grain
does not hide itself. A photo from a phone has about 1 to 3.
"""

import numpy as np
import torch
from PIL import Image

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, rows

BLOCK, CALM = 8, 0.25


def grain(image: Image.Image) -> float:
    """Standard deviation of the noise on flat regions, in levels of 255; 0 for pictures smaller than 3 blocks."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    height, width = (side // BLOCK for side in grey.shape)
    if min(height, width) < 3:
        return 0.0
    grey = grey[: height * BLOCK, : width * BLOCK]
    around = np.pad(grey, 1, mode="reflect")
    second = lambda x, axis: np.diff(x, 2, axis=axis)  # noqa: E731
    response = np.abs(second(second(around, 0), 1))
    smooth = grey.reshape(height * 2, BLOCK // 2, width * 2, BLOCK // 2).mean((1, 3))
    down, across = np.gradient(smooth)
    slope = np.hypot(down, across).reshape(height, 2, width, 2).max((1, 3)).ravel()
    calm = np.argsort(slope, kind="stable")[: max(1, round(CALM * slope.size))]
    blocks = response.reshape(height, BLOCK, width, BLOCK).mean((1, 3)).ravel()[calm]
    return float(np.sqrt(np.pi / 2) / 6 * blocks.mean())


class Noise(Metric):
    """Grain of the pictures in grey levels, lower is better."""

    name, title, meaning = "noise", "Grain", "noise on flat surfaces, in levels of 255"
    encoder, needs = None, ("drawn",)
    range, better = (0.0, 255.0), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One estimate per picture."""
        return PerSampleValues(torch.tensor([grain(shot.image) for shot in evidence.drawn], dtype=torch.float64), rows(evidence.drawn))
