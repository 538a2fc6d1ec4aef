"""The judge: a small residual network that names all that a caption names. For `verify` and for referees; no score is its.

The perceptual distance is a smaller network of the same kind, used without its last layer: distances are measured between its
normalised feature maps.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification

from ..world import ACCESSORIES, CLASSES, COLORS, CONTEXTS, LIGHTS, PATTERNS, STYLES, UNSEEN_PATTERNS, VIEWS, Scene, Subject
from ..world.scene import STUDIO
from ..world.subject import TURNED
from .encoders import Views, save_encoder
from .loop import Stage, device, suited
from .vae import autocast

HEADS: dict[str, list[str]] = {
    "class": list(CLASSES),
    "context": [*CONTEXTS, STUDIO],
    "color": list(COLORS),
    "second": list(COLORS),
    "pattern": [name for name in PATTERNS if name not in UNSEEN_PATTERNS],
}
"""What the judge names: groups of answers, side by side in its last layer."""
MORE_HEADS = {"view": list(VIEWS), "light": list(LIGHTS), "style": list(STYLES), "accessory": ["none", *ACCESSORIES]}
"""What the judge names beside that, and the perceptual network too."""
BATCH = suited(64, 512)


def answers(subject: Subject, scene: Scene, heads: dict[str, list[str]]) -> list[int]:
    """The right answer of every group; -100 where a sketch has no colours to see. A bowl looks the same from front, side and back."""
    turned = subject.noun in TURNED and scene.view != "above"
    right = {
        "class": subject.noun,
        "context": scene.context,
        "color": subject.colors[0],
        "second": subject.colors[1],
        "pattern": subject.pattern,
        "view": "front" if turned else scene.view,
        "light": scene.light,
        "style": scene.style,
        "accessory": scene.accessory or "none",
    }
    grey = scene.style == "sketch"
    return [-100 if grey and head in ("color", "second") else words.index(right[head]) for head, words in heads.items()]


def build(heads: dict[str, list[str]], widths: tuple[int, ...]) -> ResNetForImageClassification:
    """The network with one output per answer; its labels read "class:dog"."""
    labels = [f"{head}:{word}" for head, words in heads.items() for word in words]
    config = ResNetConfig(
        embedding_size=widths[0], hidden_sizes=list(widths), depths=[1] * len(widths), layer_type="basic", num_labels=len(labels)
    )
    config.id2label, config.label2id = dict(enumerate(labels)), {label: number for number, label in enumerate(labels)}
    return ResNetForImageClassification(config)


@torch.no_grad()
def take(model: ResNetForImageClassification, other: ResNetForImageClassification) -> None:
    """Everything that another network of these widths has learned; answers that it does not know stay untrained."""
    model.resnet.load_state_dict(other.resnet.state_dict())
    rows = {label: number for number, label in other.config.id2label.items()}
    for number, label in model.config.id2label.items():
        if label in rows:
            for own, learned in zip(model.classifier.parameters(), other.classifier.parameters(), strict=True):
                own[number] = learned[rows[label]]


class Judge(Stage):
    """Learns to name what is seen."""

    rate, average, weight_decay = 2e-3, 0.995, 0.02

    def __init__(self, work: Path, start: Path | None = None, *, name: str = "judge"):
        self.name = name
        self.heads = HEADS | MORE_HEADS
        widths = (24, 48, 96, 160) if name == "judge" else (24, 40, 64, 96)
        self.model = build(self.heads, widths)
        if start:
            take(self.model, ResNetForImageClassification.from_pretrained(start, dtype=torch.float32))
        self.model = self.model.to(memory_format=torch.channels_last).train()
        self.views = Views(work)
        self.right = torch.tensor([answers(*pair, self.heads) for pair in self.views.truth])

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {self.name: (self.model, 1.0)}

    def groups(self, logits: Tensor) -> list[Tensor]:
        """The logits of each group."""
        return list(logits.float().split([len(words) for words in self.heads.values()], dim=1))

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        index = torch.randint(self.views.train, (BATCH,), generator=rng)
        x, right = self.views.augmented(index.numpy(), rng), self.right[index].to(device())
        with autocast():
            logits = self.model(x).logits
        losses = [F.cross_entropy(group, right[:, i]) for i, group in enumerate(self.groups(logits))]
        hits = (self.groups(logits)[0].argmax(1) == right[:, 0]).float().mean()
        return torch.stack(losses).sum(), {"class": hits}, BATCH

    def export(self, folder: Path) -> dict[str, float]:
        self.model.eval()
        figures = self.accuracy(plain=True) | self.accuracy(plain=False)
        save_encoder(self.model, folder / "encoders" / self.name)
        self.model.train()
        return figures

    @torch.no_grad()
    def accuracy(self, *, plain: bool) -> dict[str, float]:
        """Share of right answers on held-out pictures, by group; `plain`: not through the VAE."""
        x, index = self.views.held()
        if not plain and self.views.vae is None:
            return {}
        x = x if plain else torch.cat([self.views.through_vae(part) for part in x.split(32)])
        found = [group.argmax(1).cpu() for group in self.groups(self.model(x).logits)]
        figures = {}
        for i, head in enumerate(self.heads):
            right = self.right[index][:, i]
            seen = right >= 0
            figures[head if plain else f"{head}_vae"] = (found[i] == right)[seen].float().mean().item()
        return figures
