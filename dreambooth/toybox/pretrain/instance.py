"""The instance encoder, the stand-in for DINO: pictures of one subject lie together, all others apart.

Supervised contrastive learning (Khosla et al. 2020). A batch is whole families: subjects of one class in the same two
colours, so that only shape, pattern and material tell them apart. It is a residual network, read as DINO's ResNets are: by the mean of
its last feature map.
"""

from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel

from .encoders import Views, save_encoder
from .loop import Stage, suited
from .pictures import MEMBERS, VIEWS
from .teacher import Teacher
from .vae import autocast

FAMILY = MEMBERS * VIEWS
FAMILIES = suited(8, 32)
"""Families a process takes in a batch: FAMILIES * FAMILY pictures."""
TEMPERATURE = 0.1
TAUGHT = {"class": 1.5, "color": 0.8, "second": 0.8, "pattern": 2.0}
MEASURED = {"shape": 60.0, "rest": 20.0}
"""What the embedding is also asked for, and how much it counts: names, and the subject's own numbers (shape; colours, material, cell)."""
APART, NEAR, SPREAD = 0.2, 0.6, 10.0
"""Cosines above which subjects of other classes, and other subjects of a class, are pushed apart, and how hard. Features behind a
ReLU are never negative: without a push, all cosines lie between 0.7 and 1, and a score of two decimals says little."""
CLEAR = 0.7
"""Share of the batches that hold photos from the front alone, where all of a subject can be seen."""


class Instance(Stage):
    """Learns to tell subjects apart."""

    name, rate, average, weight_decay = "instance", 1.5e-3, 0.995, 0.05

    def __init__(self, work: Path, start: Path | None = None):
        config = ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 112, 176], depths=[1, 2, 2, 2], layer_type="basic")
        self.model = ResNetModel.from_pretrained(start, dtype=torch.float32) if start else ResNetModel(config)
        self.model = self.model.to(memory_format=torch.channels_last).train()
        self.views = Views(work)
        self.teacher = Teacher(self.model.config.hidden_sizes[-1], self.views.truth, TAUGHT, **MEASURED)
        nouns = [subject.noun for subject, _ in self.views.truth]
        clear = [scene.view == "front" and scene.style == "photo" for _, scene in self.views.truth[: self.views.train]]
        subjects = [[i for i in range(start, start + VIEWS) if clear[i]] for start in range(0, self.views.train, VIEWS)]
        families = [[s for s in subjects[start : start + MEMBERS] if len(s) > 1] for start in range(0, len(subjects), MEMBERS)]
        self.clear = [list(chain.from_iterable(family)) for family in families if len(family) > 1]
        heads = range(0, self.views.train - FAMILY + 1, FAMILY)
        self.families = {noun: [i for i in heads if nouns[i] == noun] for noun in sorted(set(nouns))}

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"instance": (self.model, 1.0), "teacher": (self.teacher, 1.0)}

    def embed(self, x: Tensor) -> Tensor:
        """Unit vectors [n, width]."""
        with autocast():
            return F.normalize(self.model(x).pooler_output.flatten(1).float(), dim=-1)

    def batch(self, draw: np.random.Generator) -> np.ndarray:
        """Positions of a batch: photos from the front by family; whole families of few or many classes; or any subjects at all."""
        if draw.random() < CLEAR:
            chosen = chain.from_iterable(self.clear[i] for i in draw.permutation(len(self.clear)))
            return np.array(list(islice(chosen, FAMILIES * FAMILY)))
        if draw.random() < 0.4:
            subjects = draw.choice(self.views.train // VIEWS, FAMILIES * MEMBERS, replace=False)
            return np.concatenate([np.arange(subject * VIEWS, (subject + 1) * VIEWS) for subject in subjects])
        count = min(int(draw.choice([1, 2, FAMILIES])), len(self.families))
        kinds = draw.choice(list(self.families), count, replace=False)
        heads = [int(draw.choice(self.families[str(kinds[i % len(kinds)])])) for i in range(FAMILIES)]
        return np.concatenate([np.arange(head, head + FAMILY) for head in heads])

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        draw = np.random.default_rng(int(torch.randint(1 << 40, (1,), generator=rng)))
        index = self.batch(draw)
        e = self.embed(self.views.augmented(index, rng))
        who = torch.from_numpy(index // VIEWS).to(e.device)
        nouns = self.teacher.nouns[torch.from_numpy(index)].to(e.device)
        same = (who[:, None] == who[None]) & ~torch.eye(len(who), dtype=torch.bool, device=e.device)
        likeness = (e @ e.T / TEMPERATURE).masked_fill(torch.eye(len(who), dtype=torch.bool, device=e.device), -1e4)
        loss = -(likeness.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
        other = torch.where(nouns[:, None] == nouns[None], NEAR, APART).to(e)
        close = ((e @ e.T - other).clamp(min=0).square() * (who[:, None] != who[None])).mean()
        taught = self.teacher(e * e.shape[1] ** 0.5, torch.from_numpy(index))
        first = same.gather(1, likeness.argmax(1, keepdim=True)).float().mean()
        figures = {"taught": taught.detach(), "close": close.detach(), "first": first}
        return loss.mean() + taught + SPREAD * close, figures, len(index)

    def export(self, folder: Path) -> dict[str, float]:
        self.model.eval()
        figures = {"held_first": self.held_first(plain=True), "held_first_vae": self.held_first(plain=False)}
        save_encoder(self.model, folder / "encoders" / "instance")
        self.model.train()
        return figures

    @torch.no_grad()
    def held_first(self, *, plain: bool) -> float:
        """How often a held-out picture's nearest other picture shows the same subject."""
        x, index = self.views.held()
        if not plain and self.views.vae is not None:
            x = torch.cat([self.views.through_vae(part) for part in x.split(32)])
        e = torch.cat([self.embed(part) for part in x.split(48)])
        who = torch.tensor(index) // VIEWS
        nearest = (e @ e.T).fill_diagonal_(-2).argmax(1).cpu()
        return (who[nearest] == who).float().mean().item()
