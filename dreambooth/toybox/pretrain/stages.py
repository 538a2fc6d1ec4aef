"""The recipe: which stages there are, how long each takes, and where its pictures and weights lie."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from .clip import CLIP
from .instance import Instance
from .judge import Judge
from .latents import encode
from .loop import Budget, Progress, Stage, train
from .pictures import render_shard
from .superresolution import FOLDER, SuperResolution
from .unet import Denoiser
from .vae import VAE, Decoder

PACKAGE = Path(__file__).parents[1]
"""Where the shipped weights lie: pipeline/ and encoders/."""
BUDGETS = {
    "render": Budget(),
    "vae": Budget(minutes=25),
    "decoder": Budget(minutes=25),
    "latents": Budget(),
    "clip": Budget(minutes=15),
    "instance": Budget(minutes=10),
    "judge": Budget(minutes=6),
    "perceptual": Budget(minutes=4),
    "unet": Budget(minutes=70, save_seconds=120, export_every=10),
    "sr": Budget(minutes=120, save_seconds=240, export_every=5),
}
"""Every stage with the budget of a first start on two CPU cores, in order; encoders and `sr` may come any time after `render`.
The shipped weights took longer, in several starts (RECIPE.md)."""


def make(stage: str, work: Path, going: bool) -> Stage:
    """The stage, fresh or `going` on from the weights that lie in `work`."""
    pipeline, encoder = (work / "pipeline", work / "encoders" / stage) if going else (None, None)
    if stage == "vae":
        return VAE(work / "pictures", pipeline / "vae" if pipeline else None)
    if stage == "decoder":
        return Decoder(work)
    if stage == "unet":
        return Denoiser(work, pipeline)
    if stage == "sr":
        return SuperResolution(work, work / FOLDER if going else None)
    if stage == "clip":
        return CLIP(work, encoder)
    if stage == "instance":
        return Instance(work, encoder)
    if stage in ("judge", "perceptual"):
        return Judge(work, encoder, name=stage)
    raise ValueError(f"stage={stage!r}: the recipe has {', '.join(BUDGETS)}.")


def pretrain(
    stage: str, work: Path, *, budget: Budget | None = None, shards: int = 34, from_shipped: bool = False
) -> Iterator[Progress | str]:
    """Run one stage in `work`; yields what it did. Started again, it continues where it stopped.

    `from_shipped` begins with the package's own weights where `work` has none yet.
    """
    budget = budget or BUDGETS[stage]
    if from_shipped:
        _bring_shipped(work)
    if stage == "render":
        yield from render(work / "pictures", shards, budget.processes)
    elif stage == "latents":
        yield from encode(work, budget.processes)
    else:
        yield from train(partial(make, stage, work, from_shipped), work, budget)


def _bring_shipped(work: Path) -> None:
    """The pipeline as a whole, since a denoiser is of use with its own autoencoder only; encoders one by one."""
    if not (work / "pipeline" / "vae").exists():
        shutil.copytree(PACKAGE / "pipeline", work / "pipeline", dirs_exist_ok=True)
    if (PACKAGE / FOLDER).exists() and not (work / FOLDER).exists():
        shutil.copytree(PACKAGE / FOLDER, work / FOLDER)
    for encoder in (PACKAGE / "encoders").iterdir():
        if not (work / "encoders" / encoder.name).exists():
            shutil.copytree(encoder, work / "encoders" / encoder.name)


def render(folder: Path, shards: int, processes: int) -> Iterator[str]:
    """Render the training pictures in several processes."""
    with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, _ in enumerate(pool.imap(partial(render_shard, folder), range(shards)), 1):
            yield f"render shard {number} of {shards}"
