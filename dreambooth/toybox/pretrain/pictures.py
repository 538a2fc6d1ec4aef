"""The training pictures: shards of renders with what is seen in them, made once and read by every stage.

A shard holds families: four subjects of one class and the same two colour words (so that only shape, pattern and
material tell them apart: hard negatives for the instance encoder), each in three scenes.
"""

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreambooth.core.errors import SettingError

from ..world import ACCESSORIES, ANIMALS, CLASSES, COLORS, CONTEXTS, Scene, Subject, draw_training_subject
from ..world.render import render_with_cover
from ..world.scene import GROUNDS, STUDIO
from .loop import device

SIZE = 128
FAMILIES, MEMBERS, VIEWS = 80, 4, 3
"""Families in a shard, subjects in a family, pictures of a subject."""
SHARD = FAMILIES * MEMBERS * VIEWS
HARD = ("cat", "dog", "plushie")
"""Classes that are drawn one and a half times as often: they are the hardest to draw."""
SEED = 4
GRID = 16
"""Cells of a latent, a side."""


def draw_scene(subject: Subject, rng: np.random.Generator) -> Scene:
    """A random scene of the training world: mostly photos from the front by day, every other choice often enough to be learned."""
    view = str(rng.choice(["front", "side", "back", "above"], p=[0.58, 0.15, 0.11, 0.16]))
    context = STUDIO if rng.random() < 0.10 else str(rng.choice(GROUNDS if view == "above" else list(CONTEXTS)))
    wears = subject.noun in ANIMALS and rng.random() < 0.36
    return Scene(
        context=context,
        view=view,
        light=str(rng.choice(["day", "sunset", "night"], p=[0.84, 0.08, 0.08])),
        style=str(rng.choice(["photo", "sketch", "pixels", "painting"], p=[0.76, 0.08, 0.08, 0.08])),
        accessory=str(rng.choice(list(ACCESSORIES))) if wears else None,
        seed=int(rng.integers(1 << 30)),
    )


def draw_family(rng: np.random.Generator) -> list[tuple[Subject, Scene]]:
    """The subjects and scenes of one family, subject by subject."""
    odds = np.array([1.5 if noun in HARD else 1.0 for noun in CLASSES])
    noun = str(rng.choice(list(CLASSES), p=odds / odds.sum()))
    first, second = (str(word) for word in rng.choice(list(COLORS), 2, replace=False))
    subjects = [draw_training_subject(rng, noun=noun, colors=(first, second)) for _ in range(MEMBERS)]
    return [(subject, draw_scene(subject, rng)) for subject in subjects for _ in range(VIEWS)]


def render_shard(folder: Path, number: int) -> None:
    """Render shard `number` into `folder` unless it is there."""
    target = folder / f"{number:04d}.npy"
    if target.exists():
        return
    rng = np.random.default_rng([SEED, number])
    seen = [pair for _ in range(FAMILIES) for pair in draw_family(rng)]
    pictures, covers = (np.stack(column) for column in zip(*(render_with_cover(*pair, SIZE) for pair in seen), strict=True))
    cells = covers.reshape(SHARD, GRID, SIZE // GRID, GRID, SIZE // GRID).mean((2, 4))
    folder.mkdir(parents=True, exist_ok=True)
    truth = [[asdict(subject), asdict(scene)] for subject, scene in seen]
    target.with_suffix(".json").write_text(json.dumps(truth), encoding="utf-8")
    np.savez(target.with_suffix(".cover.npz"), cover=(cells * 255).round().astype(np.uint8))
    unfinished = target.with_suffix(".part.npy")
    np.save(unfinished, pictures)
    unfinished.rename(target)


class Pictures:
    """All finished shards of a folder, read as if they were one array."""

    def __init__(self, folder: Path, files: list[Path] | None = None):
        files = files or sorted(path for path in folder.glob("*.npy") if not path.name.endswith(".part.npy"))
        if not files:
            raise SettingError("--work_dir", f"{folder} holds no training pictures.", fix="Make them first: dreambooth toybox render.")
        self.shards = [np.load(path, mmap_mode="r") for path in files]
        self.files = files

    def __len__(self) -> int:
        return len(self.shards) * SHARD

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """uint8 [n, SIZE, SIZE, 3] at the given positions."""
        return np.stack([self.shards[i // SHARD][i % SHARD] for i in np.asarray(index).tolist()])

    def at(self, index: np.ndarray | Tensor) -> Tensor:
        """uint8 [n, SIZE, SIZE, 3] at the given positions, on the device: an accelerator holds them all, at 47 MB a shard."""
        if device().type == "cpu":
            return torch.from_numpy(self[np.asarray(index)])
        return self.whole[torch.as_tensor(index, device=device())]

    @cached_property
    def whole(self) -> Tensor:
        """Every picture, on the device."""
        return torch.cat([torch.from_numpy(np.array(shard)).to(device()) for shard in self.shards])

    def covers(self) -> np.ndarray:
        """How much of each latent cell the subject and what it wears cover: uint8 [n, GRID, GRID], 255 is all of it."""
        return np.concatenate([np.load(path.with_suffix(".cover.npz"))["cover"] for path in self.files])

    def truth(self) -> list[tuple[Subject, Scene]]:
        """Subject and scene of every picture, in order."""
        pairs: list[tuple[Subject, Scene]] = []
        for path in self.files:
            for subject, scene in json.loads(path.with_suffix(".json").read_text(encoding="utf-8")):
                subject["rgb"] = tuple(tuple(color) for color in subject["rgb"])
                subject["shape"], subject["colors"] = tuple(subject["shape"]), tuple(subject["colors"])
                pairs.append((Subject(**subject), Scene(**scene)))
        return pairs
