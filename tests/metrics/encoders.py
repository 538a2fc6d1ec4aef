"""Eyes whose embeddings are written down beforehand, and tiny encoders of the real architectures."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth.metrics import Encoders, GeneratedImage
from dreambooth.metrics.encoders import picture_hash

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def picture(number: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A coarse random picture, the same for the same number."""
    coarse = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, colour)


class Written(Encoders):
    """`Encoders` which look embeddings up by picture; a distance is the absolute difference of the first number."""

    def __init__(self, dino: dict[int, list[float]] | None = None, clip: dict[int, list[float]] | None = None,
                 words: dict[str, list[float]] | None = None):  # fmt: skip
        self.tables = {"dino": self._by_hash(dino or {}), "clip": self._by_hash(clip or {})}
        self.sentences = words or {}

    def embed(self, name: str, images: Sequence[Image.Image]) -> Tensor:
        return torch.tensor([self.tables[name][picture_hash(image)] for image in images], dtype=torch.float32)

    def offers(self, name: str) -> bool:
        return name in self.tables

    def words(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([self.sentences[text] for text in texts], dtype=torch.float32)

    def distances(self, images: Sequence[Image.Image]) -> Tensor:
        first = self.dino(images)[:, 0]
        return (first[:, None] - first[None]).abs()

    @staticmethod
    def _by_hash(table: dict[int, list[float]]) -> dict[str, list[float]]:
        return {picture_hash(picture(number)): row for number, row in table.items()}


def shot(number: int, *, row: int = 0, prompt: str = "a sks dog", plain: str = "a dog", seed: int | None = None) -> GeneratedImage:
    return GeneratedImage(picture(number), prompt, plain, row, number if seed is None else seed)


def clip_folder(folder: Path, image_size: int = 24) -> Path:
    """A CLIP of the real architecture with random weights, its tokenizer and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    from tests import tiny

    torch.manual_seed(1)
    tokenizer = tiny.clip_tokenizer()
    text = CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, vocab_size=len(tokenizer),
        max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, image_size=image_size, patch_size=8
    )
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}).save_pretrained(folder)
    return folder


def dino_folder(folder: Path, image_size: int = 24) -> Path:
    """A ViT of the real architecture with random weights; of 224 pixels it gets DINO's published transform."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(2)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, image_size=image_size, patch_size=image_size // 3
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def lpips_states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights in the shapes of torchvision's AlexNet and of lpips' heads."""
    from dreambooth.metrics.perceptual import LAYERS, NAMES

    rng = torch.Generator().manual_seed(3)
    alexnet, heads = {}, {}
    for name, (channels, out, kernel, _, _) in zip(NAMES, LAYERS, strict=True):
        alexnet[f"{name}.weight"] = torch.randn(out, channels, kernel, kernel, generator=rng) * (2 / (channels * kernel**2)) ** 0.5
        alexnet[f"{name}.bias"] = torch.randn(out, generator=rng) * 0.1
    for number, (_, out, *_) in enumerate(LAYERS):
        heads[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=rng) / out
    return alexnet, heads


def resnet_folder(folder: Path) -> Path:
    """A small ResNet with an image processor, as the toybox's perceptual distance is kept."""
    from transformers import CLIPImageProcessorPil, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(4)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    ResNetForImageClassification(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    return folder


def dinov2_folder(folder: Path) -> Path:
    """A DINOv2 of the real architecture with random weights, which was trained on other sides than it is asked with."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(6)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=42, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    return folder


def siglip_folder(folder: Path, image_size: int = 24) -> Path:
    """A whole SigLIP, both halves, with random weights and its image processor, as it lies on the Hub."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    torch.manual_seed(7)
    half = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision, text = {**half, "image_size": image_size, "patch_size": 8}, {**half, "vocab_size": 64, "max_position_embeddings": 16}
    SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": image_size, "width": image_size}).save_pretrained(folder)
    return folder
