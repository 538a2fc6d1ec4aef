"""The metrics, one file each. A new one is its file and its name here; the contract tests then run over it untouched."""

from dreambooth.metrics.base import Encoders, EvalImages, GeneratedImage, Metric, PerSampleValues, Undefined, between
from dreambooth.metrics.broken import Broken
from dreambooth.metrics.clip_i import ClipI
from dreambooth.metrics.clip_t import ClipT, ClipTChance, ClipTWithIdentifier
from dreambooth.metrics.copying import Copying, NearestGap
from dreambooth.metrics.dino import Dino
from dreambooth.metrics.dinov2 import DinoV2
from dreambooth.metrics.div import Div, DivClass
from dreambooth.metrics.drift import Drift
from dreambooth.metrics.entanglement import Entanglement
from dreambooth.metrics.noise import Noise
from dreambooth.metrics.pres import Pres
from dreambooth.metrics.siglip_i import SigLipI

SCORES: tuple[Metric, ...] = (Dino(), ClipI(), ClipT(), ClipTWithIdentifier(), Pres(), Div(), DivClass())
"""The table: the paper's five, CLIP-T's second column, and the class's diversity."""
EXTRAS: tuple[Metric, ...] = (DinoV2(), SigLipI())
"""Scores beside the paper's, by encoders that are used where they are asked for."""
DETECTORS: tuple[Metric, ...] = (Copying(), NearestGap(), Drift(), Entanglement(), Noise(), Broken())
"""What the report's warnings stand on."""
SCALES: tuple[Metric, ...] = (ClipTChance(),)
"""What other figures are read on."""
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*SCORES, *EXTRAS, *DETECTORS, *SCALES)}

__all__ = [
    "DETECTORS",
    "EXTRAS",
    "METRICS",
    "SCORES",
    "Encoders",
    "EvalImages",
    "GeneratedImage",
    "Metric",
    "PerSampleValues",
    "Undefined",
    "between",
]
