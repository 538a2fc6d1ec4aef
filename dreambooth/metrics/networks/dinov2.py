"""DINOv2: DINO's successor, trained on more and curated pictures (Oquab et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.files.pretrained import from_pretrained
from dreambooth.metrics.networks.base import Network, folder_of, shown
from dreambooth.metrics.preprocessing import DINO_PUBLISHED, Preprocessing, read
from dreambooth.photos.load import PhotoFile


@dataclass
class DinoV2(Network):
    """A transformers DINOv2, with or without registers."""

    preprocess: Preprocessing

    name = "dinov2"
    title = "DINOv2"
    help = "DINOv2: a transformers folder or Hub id, such as facebook/dinov2-base, for a score beside DINO's; automatic: none."
    beside = "dinov2"
    published = "facebook/dinov2-base"
    on_request = True

    @classmethod
    def load(cls, where: str) -> "DinoV2":
        import transformers

        flag = f"--{cls.setting()}"
        kind = from_pretrained(transformers.AutoConfig, where, flag, has_weights=False, brought_by=cls.command(where)).model_type
        model = from_pretrained(
            transformers.Dinov2WithRegistersModel if kind == "dinov2_with_registers" else transformers.Dinov2Model, where, flag
        )
        preprocess = read(folder_of(where)) or DINO_PUBLISHED  # its positions, of 518 pixels, are interpolated
        return cls(model.eval(), f"{shown(where)} ({preprocess})", preprocess)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """Class tokens."""
        return self.model(pixel_values=self.preprocess(images).to(device)).last_hidden_state[:, 0]
