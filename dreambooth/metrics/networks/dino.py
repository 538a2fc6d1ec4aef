"""DINO: what a picture shows, down to the individual (Caron et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.files.pretrained import from_pretrained
from dreambooth.metrics.networks.base import Network, folder_of, shown
from dreambooth.metrics.preprocessing import Preprocessing, for_dino
from dreambooth.photos.load import PhotoFile


@dataclass
class Dino(Network):
    """A transformers ViT, or a residual network."""

    preprocess: Preprocessing

    name = "dino"
    title = "DINO"
    help = "DINO: a transformers ViT (or ResNet) folder or Hub id; automatic: the toybox's for a toybox run, else facebook/dino-vits16. `none` leaves DINO and PRES out."  # noqa: E501
    beside = "instance"
    published = "facebook/dino-vits16"

    @classmethod
    def load(cls, where: str) -> "Dino":
        from transformers import AutoConfig, ResNetModel, ViTModel

        flag = f"--{cls.setting()}"
        if from_pretrained(AutoConfig, where, flag, has_weights=False).model_type == "resnet":
            model = from_pretrained(ResNetModel, where, flag)
        else:
            model = from_pretrained(ViTModel, where, flag, add_pooling_layer=False)
        preprocess = for_dino(folder_of(where), getattr(model.config, "image_size", None))
        return cls(model.eval(), f"{shown(where)} ({preprocess})", preprocess)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """Class tokens; of a residual network, which has none, the means of its last feature map."""
        seen: Tensor = self.model(pixel_values=self.preprocess(images).to(device)).last_hidden_state
        return seen[:, 0] if seen.ndim == 3 else seen.mean((2, 3))
