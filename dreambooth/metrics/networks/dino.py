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

LATER = {"resnet": "ResNetModel", "dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
"""Networks beside DINO's first vision transformer, by what their configurations call them: its residual network, and DINOv2."""


@dataclass
class Dino(Network):
    """A transformers ViT, a DINOv2, or a residual network."""

    preprocess: Preprocessing

    name = "dino"
    title = "DINO"
    help = "DINO: a transformers ViT (or DINOv2, ResNet) folder or Hub id; automatic: the toybox's for a toybox run, else facebook/dino-vits16. `none` leaves DINO and PRES out."  # noqa: E501
    beside = "instance"
    published = "facebook/dino-vits16"

    @classmethod
    def load(cls, where: str) -> "Dino":
        import transformers

        flag = f"--{cls.setting()}"
        kind = LATER.get(from_pretrained(transformers.AutoConfig, where, flag, has_weights=False, brought_by=cls.command(where)).model_type)
        if kind:
            model = from_pretrained(getattr(transformers, kind), where, flag)
        else:
            model = from_pretrained(transformers.ViTModel, where, flag, add_pooling_layer=False)
        preprocess = for_dino(folder_of(where), getattr(model.config, "image_size", None))
        return cls(model.eval(), f"{shown(where)} ({preprocess})", preprocess)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """Class tokens; of a residual network, which has none, the means of its last feature map."""
        seen: Tensor = self.model(pixel_values=self.preprocess(images).to(device)).last_hidden_state
        return seen[:, 0] if seen.ndim == 3 else seen.mean((2, 3))
