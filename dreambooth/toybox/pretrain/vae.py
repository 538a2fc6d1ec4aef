"""The autoencoder: 128 px to 16 x 16 x 8 latents and back, as a plain diffusers AutoencoderKL.

Trained on crops of 64 px (cheaper, and a convolution does not mind), on whole pictures while the rate falls. L1 +
squared error + the error of the differences between neighbours keep edges sharp; a light KL term keeps the latents
tame. SD's single scaling factor cannot take a mean out of a latent channel, so mean and scale of each channel are
folded into the quantisation convolutions (`normalized`).
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from .groupnorm import quicken
from .loop import Stage, device, rng_here, suited
from .pictures import SIZE, Pictures

CHANNELS = 8
CROP = 64
BATCH = suited(8, 256)
"""Crops in a batch; whole pictures are four times as large, and a quarter of them."""
PATTERNED = 0.6
"""Share of patterned subjects in the decoder's batches: edges of patterns are where its error is."""
HELD = 240
"""Pictures at the end of the shards that no stage trains on."""


def build() -> AutoencoderKL:
    """The network, untrained, and nearly linear at the start: that learns five times as fast as diffusers' own initialisation.

    Residual branches begin at a tenth; changes of resolution begin as averages of four and as copies.
    """
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ResnetBlock2D):
                module.conv2.weight *= 0.1
            elif isinstance(module, Upsample2D | Downsample2D):
                nn.init.normal_(module.conv.weight, std=0.02)
                for i in range(module.channels):
                    if isinstance(module, Upsample2D):
                        module.conv.weight[i, i, 1, 1] += 1
                    else:
                        module.conv.weight[i, i, :2, :2] += 0.5
    return model


def pixels(batch: object) -> Tensor:
    """Pictures uint8 [n, h, w, 3] as float [n, 3, h, w] in -1..1, channels last, on the device."""
    x = torch.as_tensor(batch).to(device()).permute(0, 3, 1, 2)
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def autocast() -> torch.autocast:
    """bf16 where a stage computes."""
    return torch.autocast(device().type, torch.bfloat16)


class VAE(Stage):
    """Learns to encode and decode."""

    name, rate, average, square = "vae", 2e-3, 0.999, 2.0

    def __init__(self, pictures: Path, start: Path | None = None):
        self.pictures = Pictures(pictures)
        self.model = AutoencoderKL.from_pretrained(start, dtype=torch.float32) if start else build()
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        quicken(self.model)

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"vae": (self.model, 1.0)}

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Positions of `count` training pictures."""
        return torch.randint(len(self.pictures) - HELD, (count,), generator=rng)

    def batch(self, rng: torch.Generator, whole: bool) -> Tensor:
        """Random crops, or whole pictures; half of them mirrored."""
        count = BATCH // 4 if whole else BATCH
        index = self.draw(count, rng)
        x = self.pictures.at(index)
        if not whole:
            corner = torch.randint(SIZE - CROP + 1, (count, 2), generator=rng)[:, :, None] + torch.arange(CROP)
            i, j = corner.to(x.device).unbind(1)
            x = x[torch.arange(count, device=x.device)[:, None, None], i[:, :, None], j[:, None, :]]
        flip = torch.rand(count, generator=rng).to(x.device) < 0.5
        return pixels(torch.where(flip[:, None, None, None], x.flip(2), x))

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        x = self.batch(rng, done > 0.8)
        with autocast():
            posterior = self.model.encode(x).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=rng_here(rng), device=mean.device)
            y = self.model.decode(mean + (0.5 * logvar).exp() * noise).sample.float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        loss, square = self.difference(y, x)
        return loss + 2e-5 * kl, {"mse": square.detach(), "kl": kl.detach()}, len(x)

    def difference(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is wrong with pictures y for x, and their mean squared error alone."""
        d = y - x
        step = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
        square = d.square().mean()
        return d.abs().mean() + self.square * square + 0.5 * step, square

    def held(self) -> Tensor:
        """Up to 96 pictures that nothing trains on."""
        return pixels(self.pictures[np.arange(len(self.pictures) - min(96, HELD), len(self.pictures))])

    def export(self, folder: Path) -> dict[str, float]:
        x = self.held()
        quality = psnr(self.model, x)
        normalized(self.model, x).half().save_pretrained(folder / "pipeline" / "vae")
        return {"psnr": quality}


class Decoder(VAE):
    """Learns to decode better what `work`'s autoencoder encodes: the encoder stays, so latents and a denoiser stay good."""

    name, rate, square = "decoder", 1e-3, 8.0

    def __init__(self, work: Path):
        super().__init__(work / "pictures", work / "pipeline" / "vae")
        self.model.to(device())
        self.model.encoder.requires_grad_(False)
        self.model.quant_conv.requires_grad_(False)
        subjects = [subject for subject, _ in self.pictures.truth()[: len(self.pictures) - HELD]]
        self.patterned = torch.tensor([i for i, subject in enumerate(subjects) if subject.pattern != "plain"])

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"decoder": (self.model.decoder, 1.0), "post_quant_conv": (self.model.post_quant_conv, 1.0)}

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        any_picture = super().draw(count, rng)
        patterned = self.patterned[torch.randint(len(self.patterned), (count,), generator=rng)]
        return torch.where(torch.rand(count, generator=rng) < PATTERNED, patterned, any_picture)

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        x = self.batch(rng, done > 0.8)
        with autocast():
            with torch.no_grad():
                z = self.model.encode(x).latent_dist.sample(rng_here(rng)).float()
            y = self.model.decode(z).sample.float()
        loss, square = self.difference(y, x)
        return loss, {"mse": square.detach()}, len(x)

    def export(self, folder: Path) -> dict[str, float]:
        quality = psnr(self.model, self.held())
        copy = AutoencoderKL.from_config({name: value for name, value in self.model.config.items() if not name.startswith("_")})
        copy.load_state_dict(self.model.state_dict())
        copy.half().save_pretrained(folder / "pipeline" / "vae")
        return {"psnr": quality}


def psnr(model: AutoencoderKL, x: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB over pictures in -1..1, encoded (mode) and decoded."""
    with torch.no_grad(), autocast():
        y = model.decode(model.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
    return float((-10 * torch.log10(((y - x) / 2).square().mean((1, 2, 3)))).mean())


@torch.no_grad()
def normalized(model: AutoencoderKL, x: Tensor) -> AutoencoderKL:
    """A copy whose latents have mean 0 and deviation 1 in every channel on x: an exact change of two convolutions."""
    z = model.encode(x).latent_dist.mean.float()
    mean, scale = z.mean((0, 2, 3)), z.std((0, 2, 3))
    copy = AutoencoderKL.from_config(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(x.device)
    q, p = copy.quant_conv, copy.post_quant_conv
    q.weight[:CHANNELS] /= scale[:, None, None, None]
    q.bias[:CHANNELS] = (q.bias[:CHANNELS] - mean) / scale
    q.bias[CHANNELS:] -= 2 * scale.log()
    p.bias += p.weight[:, :, 0, 0] @ mean
    p.weight *= scale[None, :, None, None]
    return copy
