"""Flows over the latents of Qwen-Image's VAE, which was made for videos: a picture is a video of one frame."""

from abc import ABC
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import Flow


class VideoLatents(Flow, ABC):
    """The axis of frames is there in the VAE alone; a token is a patch of 2 x 2 latents."""

    vae_classes = ("AutoencoderKLQwenImage",)
    packing = 2
    channel_multiple = 4

    @classmethod
    def vae_factor_of(cls, vae: Mapping[str, Any]) -> int | None:
        halvings = vae.get("temperal_downsample")
        return 2 ** len(halvings) if isinstance(halvings, list | tuple) else None

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return (self.pipe.vae.config.z_dim, height // self.vae_factor, width // self.vae_factor)

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        posterior = self.pipe.vae.encode(pixels.unsqueeze(2)).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1).squeeze(2)

    def pixels(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return self.pipe.vae.decode(latents.unsqueeze(2)).sample.squeeze(2)

    def normalization(self) -> tuple[Tensor, Tensor]:
        """By channel. What the pipelines call `latents_std` is 1 over the configuration's."""
        config = self.pipe.vae.config
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean, 1 / std
