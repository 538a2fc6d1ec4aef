"""The truth as a teacher: what an encoder's embedding must also tell while it learns to compare.

Comparing alone (words with pictures, pictures with each other) finds places first and classes, shapes and patterns last; the world knows
all of them, so two linear layers on the embedding are asked for them. They are thrown away afterwards.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..world import CLASSES, Scene, Subject
from .judge import HEADS, MORE_HEADS, answers

HIDDEN = 0.2
"""How much the numbers of a picture count whose subject is seen from the side, from behind, from above or in a style."""
SHAPE = 8
"""Numbers that give a subject its shape; they mean another thing in each class."""


class Teacher(nn.Module):
    """Two linear layers: one names what is seen, one measures the subject (shape, exact colours, material, size of its pattern)."""

    def __init__(
        self, width: int, truth: Sequence[tuple[Subject, Scene]], weights: Mapping[str, float], *, shape: float = 0.0, rest: float = 0.0
    ):
        super().__init__()
        self.weights, self.shape, self.rest = dict(weights), shape, rest
        heads = {name: words for name, words in (HEADS | MORE_HEADS).items() if name in weights}
        self.sizes = [len(words) for words in heads.values()]
        self.right = torch.tensor([answers(subject, scene, heads) for subject, scene in truth])
        self.nouns = torch.tensor([list(CLASSES).index(subject.noun) for subject, _ in truth])
        self.shapes = torch.tensor([subject.shape for subject, _ in truth])
        self.others = torch.tensor([[*subject.rgb[0], *subject.rgb[1], float(subject.shiny), 5 * subject.cell] for subject, _ in truth])
        clear = [scene.view == "front" and scene.style == "photo" for _, scene in truth]
        self.clear = torch.tensor(clear).float() * (1 - HIDDEN) + HIDDEN
        self.names = nn.Linear(width, sum(self.sizes))
        self.numbers = nn.Linear(width, len(CLASSES) * SHAPE + self.others.shape[1])

    def forward(self, e: Tensor, index: Tensor) -> Tensor:
        """How wrong the embeddings [n, width] of the pictures at `index` are; a number."""
        right = self.right[index].to(e.device)
        groups = self.names(e).float().split(self.sizes, dim=1)
        wrong = [w * F.cross_entropy(group, right[:, i]) for i, (w, group) in enumerate(zip(self.weights.values(), groups, strict=True))]
        total = torch.stack(wrong).sum()
        if self.shape or self.rest:
            said = self.numbers(e).float()
            shapes = said[:, : len(CLASSES) * SHAPE].view(len(e), len(CLASSES), SHAPE)[torch.arange(len(e)), self.nouns[index].to(e.device)]
            off = self.shape * (shapes - self.shapes[index].to(e)).square().mean(1)
            off = off + self.rest * (said[:, -self.others.shape[1] :] - self.others[index].to(e)).square().mean(1)
            total = total + (off * self.clear[index].to(e)).mean()
        return total
