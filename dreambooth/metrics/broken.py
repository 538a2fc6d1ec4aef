"""Broken frames: pictures that are blank, not finite, or equal to another of the same prompt to the last pixel."""

import hashlib

import numpy as np
import torch
from PIL import Image

from dreambooth.metrics.base import Encoders, EvalImages, GeneratedImage, Metric, PerSampleValues, rows

BLANK = 2.0
"""Standard deviation, in levels of 255, below which a picture shows nothing."""


def is_blank(image: Image.Image) -> bool:
    """Whether every channel is one flat colour."""
    return bool(np.asarray(image.convert("RGB"), dtype=np.float64).reshape(-1, 3).std(axis=0).max() < BLANK)


def broken(shots: tuple[GeneratedImage, ...]) -> list[bool]:
    """Which pictures nobody would keep; of two equal ones, the later."""
    seen: set[tuple[str, str]] = set()
    found = []
    for shot in shots:
        key = (shot.prompt, hashlib.sha256(shot.image.convert("RGB").tobytes()).hexdigest())
        found.append(not shot.finite or is_blank(shot.image) or key in seen)
        seen.add(key)
    return found


class Broken(Metric):
    """Share of blank, non-finite or repeated frames, lower is better."""

    name, title, meaning = "broken", "Broken frames", "share of blank or repeated pictures"
    encoder, needs = None, ("drawn",)
    range, better = (0.0, 1.0), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """1 for a broken picture, else 0."""
        return PerSampleValues(torch.tensor(broken(evidence.drawn), dtype=torch.float64), rows(evidence.drawn))
