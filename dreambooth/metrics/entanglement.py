"""Entanglement: does the subject take its colours from the place it stands in? (DreamBooth, section 4.5, "context-appearance".)

From place to place the margin of a picture should change, and the middle, where the subject is, should not. The figure is how far
the mean colour of the middle moves between prompts, measured by how far that of the margin moves: near 0 a subject with its own
colours, near 1 one that changes as much as its surroundings. Prompts that ask for another colour or shape are left out. The rule is
ours; it needs no mask and no encoder, and takes the subject to be in the middle, so it is a hint and no verdict.
"""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, Undefined, rows

SIDE = 64
MIDDLE = 0.36
"""Share of the side that counts as the middle; the margin is the outer sixth all around."""
MARGIN = 1 / 6
SRGB_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])


def colours(image: Image.Image) -> tuple[Tensor, Tensor]:
    """Mean Lab colour of a picture's middle and of its margin, each [3]."""
    small = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    low, high, edge = round(SIDE * (0.5 - MIDDLE / 2)), round(SIDE * (0.5 + MIDDLE / 2)), round(SIDE * MARGIN)
    outside = np.ones((SIDE, SIDE), dtype=bool)
    outside[edge:-edge, edge:-edge] = False
    picture = lab(small)
    return torch.from_numpy(picture[low:high, low:high].mean((0, 1))), torch.from_numpy(picture[outside].mean(0))


def lab(srgb: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) of sRGB values in 0..1, [..., 3]: distances in it are about those that people see."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ SRGB_TO_XYZ.T / SRGB_TO_XYZ.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def spread(points: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Root mean square distance of points from their middle."""
    return (points - points.mean(dim=0)).square().sum(dim=1).mean().sqrt()


class Entanglement(Metric):
    """How much the subject's colours follow the surroundings, lower is better."""

    name, title, meaning = "entanglement", "Entanglement", "the subject takes the colours of its surroundings"
    encoder, needs = None, ("drawn",)
    range, better = (0.0, float("inf")), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One ratio for each series of pictures of equal place in the order of their prompts (the n-th picture of every prompt)."""
        shots = [shot for shot in evidence.drawn if not asks_for_another_look(shot.plain)]
        prompts = rows(shots)
        if len(prompts.unique()) < 3:
            raise Undefined("fewer than three prompts name a place.")
        middles, margins = (torch.stack(part) for part in zip(*(colours(shot.image) for shot in shots), strict=True))
        series: dict[int, list[int]] = {}
        for prompt in prompts.unique().tolist():
            for number, index in enumerate((prompts == prompt).nonzero().flatten().tolist()):
                series.setdefault(number, []).append(index)
        ratios = [spread(middles[i]) / spread(margins[i]).clamp(min=1.0) for i in series.values() if len(i) > 2]
        return PerSampleValues(torch.stack(ratios), torch.zeros(len(ratios), dtype=torch.long))


APPEARANCE = ("red", "purple", "shiny", "wet", "cube", "blue", "green", "yellow", "transparent", "stone", "statue", "painting")


def asks_for_another_look(prompt: str) -> bool:
    """Whether a prompt wants the subject itself to look otherwise, and is no test of its colours."""
    words = prompt.lower().replace(",", " ").split()[:4]
    return any(word in APPEARANCE for word in words)
