"""SigLIP: pictures and words in one space, by a sigmoid for each pair instead of CLIP's softmax over many (Zhai et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.files.pretrained import from_pretrained
from dreambooth.metrics.networks.base import Network, folder_of, shown
from dreambooth.metrics.preprocessing import Preprocessing, read
from dreambooth.photos.load import PhotoFile

HALF = (0.5, 0.5, 0.5)


@dataclass
class SigLip(Network):
    """The picture half of a transformers SigLIP. Its pictures are made square by scaling, not by cutting, as it was trained."""

    preprocess: Preprocessing

    name = "siglip"
    title = "SigLIP"
    help = "SigLIP: a transformers folder or Hub id, such as google/siglip-base-patch16-224, for a score beside CLIP-I; automatic: none."
    beside = "siglip"
    published = "google/siglip-base-patch16-224"
    on_request = True

    @classmethod
    def load(cls, where: str) -> "SigLip":
        from transformers import SiglipVisionModel

        model = from_pretrained(SiglipVisionModel, where, f"--{cls.setting()}", brought_by=cls.command(where))
        side = model.config.image_size
        preprocess = replace(read(folder_of(where)) or Preprocessing(side, side, HALF, HALF), is_cut=False)
        return cls(model.eval(), f"{shown(where)} ({preprocess})", preprocess)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """What its attention makes of all patches."""
        return self.model(pixel_values=self.preprocess(images).to(device)).pooler_output
