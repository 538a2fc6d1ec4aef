"""The pictures as the denoiser sees them: latents by the finished autoencoder, and several tokenised captions each.

Made once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from dreambooth.core.errors import SettingError

from ..world.captions import training_caption
from .groupnorm import quicken
from .pictures import SHARD, Pictures
from .vae import autocast, device, pixels
from .words import LENGTH, load_or_build, rare_tokens

CAPTIONS = 8
"""Captions drawn for every picture."""


def encode_shard(work: Path, file: Path) -> None:
    """Latents fp16 [SHARD, 8, 16, 16] and captions int16 [SHARD, CAPTIONS, LENGTH] of one shard, beside its pictures."""
    target = work / "latents" / f"{file.stem}.npz"
    if target.exists():
        return
    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(work / "pipeline" / "vae", dtype=torch.float32).to(device())
    vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quicken(vae)
    one = Pictures(file.parent, [file])
    latents = []
    for start in range(0, SHARD, 32):
        with torch.no_grad(), autocast():
            latents.append(vae.encode(pixels(one[np.arange(start, start + 32)])).latent_dist.mean.half().cpu())
    ids = captions(work, one, int(file.stem))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part.npz")
    np.savez(unfinished, latents=torch.cat(latents).numpy(), captions=ids)
    unfinished.rename(target)


def captions(work: Path, pictures: Pictures, number: int) -> np.ndarray:
    """Token ids int16 [SHARD, CAPTIONS, LENGTH] of a shard's captions."""
    tokenizer, rare = load_or_build(work / "pipeline" / "tokenizer"), rare_tokens()
    rng = np.random.default_rng([9, number])
    texts = [training_caption(*pair, rng, rare) for pair in pictures.truth() for _ in range(CAPTIONS)]
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np").input_ids
    return ids.reshape(SHARD, CAPTIONS, LENGTH).astype(np.int16)


def encode(work: Path, processes: int) -> Iterator[str]:
    """Encode every shard that has no latents yet."""
    load_or_build(work / "pipeline" / "tokenizer")
    files = Pictures(work / "pictures").files
    with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, _ in enumerate(pool.imap(partial(encode_shard, work), files), 1):
            yield f"latents shard {number} of {len(files)}"


PATTERNED = 0.8
"""How often patterned subjects are drawn, compared with plain ones."""


@dataclass(frozen=True)
class Latents:
    """All that a denoiser learns from, picture by picture."""

    latents: torch.Tensor
    """fp16 [n, 8, 16, 16]"""
    captions: torch.Tensor
    """int16 [n, CAPTIONS, LENGTH]"""
    covers: torch.Tensor
    """uint8 [n, 16, 16]: how much of the cell the subject covers"""
    odds: torch.Tensor
    """How often each picture is drawn [n]."""

    def to(self, place: torch.device) -> "Latents":
        """The same on another device."""
        return Latents(self.latents.to(place), self.captions.to(place), self.covers.to(place), self.odds.to(place))


def load(work: Path) -> Latents:
    """The latents of all encoded shards."""
    files = sorted(path for path in (work / "latents").glob("*.npz") if not path.name.endswith(".part.npz"))
    if not files:
        raise SettingError(
            "--work_dir", f"{work / 'latents'} holds no latents.", fix="Make them first: dreambooth toybox pretrain latents."
        )
    parts = [np.load(path) for path in files]
    pictures = Pictures(work / "pictures", [work / "pictures" / f"{path.stem}.npy" for path in files])
    odds = torch.tensor([1.0 if subject.pattern == "plain" else PATTERNED for subject, _ in pictures.truth()])
    latents, captions = (torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in ("latents", "captions"))
    return Latents(latents, captions, torch.from_numpy(pictures.covers()), odds)
