"""CLIP: pictures and words in one space (Radford et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.files.pretrained import check_tokenizer, from_pretrained
from dreambooth.metrics.networks.base import Network, folder_of, shown
from dreambooth.metrics.preprocessing import Preprocessing, for_clip
from dreambooth.photos.load import PhotoFile


@dataclass
class Clip(Network):
    """A transformers CLIP with its tokenizer."""

    preprocess: Preprocessing
    tokenizer: Any

    name = "clip"
    title = "CLIP"
    help = "CLIP: a transformers CLIP folder or Hub id; automatic: the toybox's, else openai/clip-vit-base-patch32. `none` leaves CLIP-I and CLIP-T out."  # noqa: E501
    beside = "clip"
    published = "openai/clip-vit-base-patch32"

    @classmethod
    def load(cls, where: str) -> "Clip":
        from transformers import CLIPModel, CLIPTokenizer

        flag = f"--{cls.setting()}"
        model = from_pretrained(CLIPModel, where, flag, brought_by=cls.command(where))
        tokenizer = from_pretrained(CLIPTokenizer, where, flag, has_weights=False, brought_by=cls.command(where))
        check_tokenizer(tokenizer, f"the tokenizer of {where}", flag)
        preprocess = for_clip(folder_of(where), model.config.vision_config.image_size)
        return cls(model.eval(), f"{shown(where)} ({preprocess})", preprocess, tokenizer)

    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """Projected embeddings of pictures."""
        return self.model.get_image_features(pixel_values=self.preprocess(images).to(device)).pooler_output

    def embed_words(self, texts: Sequence[str], device: torch.device) -> Float[Tensor, "n d"]:
        """Projected embeddings of texts, each cut at what the network can read."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt").to(device)
        return self.model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
