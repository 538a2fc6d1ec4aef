"""The toybox's models, loaded for measuring: the pipeline that draws, and the encoders that judge what it drew."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PACKAGE = Path(__file__).parent
SIZE = 128
"""Pixels of a picture, a side."""


class Weights:
    """The pipeline and the encoders of a folder, on the accelerator where there is one."""

    def __init__(self, folder: Path = PACKAGE):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        import diffusers
        import transformers
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPModel, CLIPTokenizer, ResNetForImageClassification, ResNetModel

        diffusers.utils.logging.disable_progress_bar()
        transformers.logging.disable_progress_bar()
        self.device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or torch.device("cpu")
        self.pipeline = StableDiffusionPipeline.from_pretrained(folder / "pipeline", dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.to(self.device)
        encoders = folder / "encoders"
        self.judge = ResNetForImageClassification.from_pretrained(encoders / "judge", dtype=torch.float32).to(self.device).eval()
        self.clip = CLIPModel.from_pretrained(encoders / "clip", dtype=torch.float32).to(self.device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(encoders / "clip")
        self.instance = ResNetModel.from_pretrained(encoders / "instance", dtype=torch.float32)
        self.instance.to(self.device).eval()

    @torch.no_grad()
    def draw(self, prompts: list[str], *, seed: int, guidance: float, steps: int = 15) -> np.ndarray:
        """Pictures uint8 [n, SIZE, SIZE, 3], each from a seed of its own."""
        pictures = []
        for start in range(0, len(prompts), 24):
            part = prompts[start : start + 24]
            rngs = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
            with torch.autocast(self.device.type, torch.bfloat16):
                out: Any = self.pipeline(part, guidance_scale=guidance, num_inference_steps=steps, generator=rngs, output_type="np")
            pictures.append((out.images.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8))
        return np.concatenate(pictures)

    def pixels(self, pictures: np.ndarray) -> Tensor:
        """[n, 3, SIZE, SIZE] in -1..1."""
        return torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1

    def smaller(self, pictures: np.ndarray, size: int) -> Iterator[Tensor]:
        """Batches of pictures of the size that an encoder looks at."""
        for part in self.pixels(pictures).split(64):
            yield part if size == SIZE else F.interpolate(part, size=size, mode="bicubic", antialias=True)

    @torch.no_grad()
    def through_vae(self, pictures: np.ndarray) -> np.ndarray:
        """Encoded and decoded."""
        parts = []
        for part in self.pixels(pictures).split(32):
            y = self.pipeline.vae.decode(self.pipeline.vae.encode(part).latent_dist.mean).sample
            parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def named(self, pictures: np.ndarray) -> dict[str, Tensor]:
        """The judge's probabilities [n, answers] for class, context, color, second, pattern."""
        logits = torch.cat([self.judge(part).logits for part in self.pixels(pictures).split(64)]).cpu()
        columns: dict[str, list[int]] = {}
        for number, label in self.judge.config.id2label.items():
            columns.setdefault(label.split(":")[0], []).append(int(number))
        return {head: logits[:, numbers].softmax(1) for head, numbers in columns.items()}

    def words(self, head: str) -> list[str]:
        """The judge's answers of one kind, in order."""
        return [label.split(":")[1] for label in self.judge.config.id2label.values() if label.startswith(f"{head}:")]

    @torch.no_grad()
    def who(self, pictures: np.ndarray) -> Tensor:
        """Instance embeddings, unit vectors [n, width]."""
        parts = [self.instance(part).pooler_output.flatten(1) for part in self.pixels(pictures).split(64)]
        return F.normalize(torch.cat(parts), dim=-1).cpu()

    @torch.no_grad()
    def seen(self, pictures: np.ndarray) -> Tensor:
        """CLIP embeddings of pictures, unit vectors."""
        parts = [
            self.clip.get_image_features(pixel_values=part).pooler_output
            for part in self.smaller(pictures, self.clip.config.vision_config.image_size)
        ]
        return F.normalize(torch.cat(parts), dim=-1).cpu()

    @torch.no_grad()
    def read(self, texts: list[str]) -> Tensor:
        """CLIP embeddings of texts, unit vectors."""
        ids = self.tokenizer(texts, padding=True, return_tensors="pt").input_ids.to(self.device)
        return F.normalize(self.clip.get_text_features(input_ids=ids).pooler_output, dim=-1).cpu()
