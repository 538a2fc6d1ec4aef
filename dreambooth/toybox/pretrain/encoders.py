"""What the encoder stages share: batches of pictures as an encoder will meet them, and saving with an image processor.

An encoder judges pictures that came through an autoencoder, so a third of every batch is blurred or went through the
VAE, half are mirrored, and all are shifted and changed a little in brightness. Pictures that a denoiser made are never used.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor

from .groupnorm import quicken
from .loop import device
from .pictures import SIZE, Pictures
from .vae import HELD, autocast, pixels

SHIFT = 8


class Views:
    """Batches of pictures for an encoder."""

    def __init__(self, work: Path):
        self.pictures = Pictures(work / "pictures")
        self.truth = self.pictures.truth()
        self.train = len(self.pictures) - HELD
        folder = work / "pipeline" / "vae"
        self.vae = AutoencoderKL.from_pretrained(folder, dtype=torch.float32).to(device()) if folder.exists() else None
        if self.vae is not None:
            self.vae = self.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            quicken(self.vae)

    def augmented(self, index: np.ndarray, rng: torch.Generator) -> Tensor:
        """Pictures [n, 3, SIZE, SIZE] in -1..1 at `index`, augmented."""
        x = pixels(self.pictures.at(index))
        mirrored = torch.rand(len(x), 1, 1, 1, generator=rng).to(x) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
        i, j = torch.randint(2 * SHIFT + 1, (2,), generator=rng).tolist()
        x = F.pad(x, (SHIFT,) * 4, mode="replicate")[:, :, i : i + SIZE, j : j + SIZE]
        x = x * (0.9 + 0.2 * torch.rand(len(x), 1, 1, 1, generator=rng)).to(x)
        kind = torch.rand(1, generator=rng).item()
        part = len(x) // 4
        if kind < 0.25 and self.vae is not None:
            x = torch.cat([self.through_vae(x[: part // 2]), x[part // 2 :]])
        elif kind < 0.6:
            soft = F.interpolate(F.avg_pool2d(x[:part], 2), scale_factor=2, mode="bilinear")
            x = torch.cat([soft, x[part:]])
        return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def through_vae(self, x: Tensor) -> Tensor:
        """Encoded and decoded: with the blur that generated pictures have."""
        assert self.vae is not None
        with autocast():
            return self.vae.decode(self.vae.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)

    def held(self) -> tuple[Tensor, list[int]]:
        """The pictures that nothing trains on, and their positions."""
        index = list(range(self.train, len(self.pictures)))
        return pixels(self.pictures[np.array(index)]), index


def resized(x: Tensor, size: int) -> Tensor:
    """Pictures [n, 3, size, size], as an image processor would make them smaller. A transformer of 64 tokens learns sooner from these."""
    return x if x.shape[-1] == size else F.interpolate(x.contiguous(), size=size, mode="bicubic", antialias=True)


def processor(size: int) -> CLIPImageProcessor:
    """How a picture of any size becomes an encoder's input: size x size, -1..1."""
    return CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        resample=3,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_convert_rgb=True,
    )


def save_encoder(model: nn.Module, folder: Path, size: int = SIZE) -> None:
    """Write a transformers model in fp16 with its image processor for pictures of `size` pixels."""
    kept = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict={key: value.contiguous() for key, value in kept.items()})  # type: ignore[operator]
    processor(size).save_pretrained(folder)
