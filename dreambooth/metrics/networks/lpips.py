"""A perceptual distance (`dreambooth.metrics.perceptual`) as a network: the squared distance between two embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.metrics.networks.base import NONE, Network
from dreambooth.metrics.perceptual import load_perceptual
from dreambooth.photos.load import PhotoFile


@dataclass
class Lpips(Network):
    """LPIPS, or the toybox's stand-in for it."""

    name = "lpips"
    title = "Perceptual distance"
    help = "Perceptual distance for DIV: an LPIPS folder; automatic: the toybox's, else that of `dreambooth encoders get lpips`."
    beside = "perceptual"
    published = NONE

    @classmethod
    def load(cls, where: str) -> "Lpips":
        model = load_perceptual(Path(where).expanduser(), f"--{cls.setting()}")
        return cls(model, model.name)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """phi of each picture."""
        return self.model.embed(self.model.preprocess(images).to(device))
