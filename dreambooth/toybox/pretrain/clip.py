"""The CLIP for CLIP-I and CLIP-T, trained with the truth about every caption.

Contrastive learning on few kinds of pictures suffers from captions that fit several pictures of a batch. Here it is
known which they are: a caption names some properties, and it fits all pictures that agree in these. The target is
spread over them.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from ..world import CLASSES, CONTEXTS
from ..world.captions import caption
from .encoders import Views, resized, save_encoder
from .loop import Stage, device, suited
from .teacher import Teacher
from .unet import text_config
from .vae import autocast
from .words import LENGTH, load_or_build

BATCH = suited(96, 512)
SIZE = 64
"""Pixels that it looks at; patches of 8."""
PROPERTIES = ("color", "pattern", "place", "light")
"""What a caption may or may not name; class, view, style and accessory it always names (when unusual)."""
SAID = (0.7, 0.6, 0.6, 0.8)
"""How often it names each."""
TAUGHT = {"class": 1.0, "context": 0.3, "color": 0.7, "second": 0.4, "pattern": 0.7, "view": 0.2, "light": 0.2, "style": 0.2}
"""What the embedding is also asked for, and how much each counts."""


def build(tokenizer: object) -> CLIPModel:
    """The network, untrained."""
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=8,
        projection_dim=128,
    )
    text = text_config(tokenizer, layers=2)  # type: ignore[arg-type]
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))


class CLIP(Stage):
    """Learns which words belong to which picture."""

    name, rate, average, weight_decay, betas = "clip", 1e-3, 0.998, 0.03, (0.9, 0.98)

    def __init__(self, work: Path, start: Path | None = None):
        self.tokenizer = load_or_build(work / "pipeline" / "tokenizer")
        self.model = CLIPModel.from_pretrained(start, dtype=torch.float32) if start else build(self.tokenizer)
        if device().type == "cpu":
            self.model.set_attn_implementation("eager")
        self.views = Views(work)
        always = [(s.noun, c.view, c.style, c.accessory) for s, c in self.views.truth]
        named = [(s.colors[0], s.pattern, c.context, c.light) for s, c in self.views.truth]
        self.always = torch.from_numpy(np.unique(np.array(always, dtype=str), axis=0, return_inverse=True)[1].reshape(-1))
        columns = [np.unique([row[i] for row in named], return_inverse=True)[1] for i in range(len(PROPERTIES))]
        self.named = torch.from_numpy(np.stack(columns, 1))
        self.teacher = Teacher(self.model.config.projection_dim, self.views.truth, TAUGHT)
        self.by_place = [np.nonzero(columns[2][: self.views.train] == i)[0] for i in range(int(columns[2].max()) + 1)]

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"clip": (self.model, 1.0), "teacher": (self.teacher, 1.0)}

    def batch(self, rng: torch.Generator) -> np.ndarray:
        """Positions of a batch; half of the batches show one place only, so that class and colours must tell them apart."""
        if torch.rand(1, generator=rng) < 0.5:
            pool = self.by_place[int(torch.randint(len(self.by_place), (1,), generator=rng))]
            return pool[torch.randint(len(pool), (BATCH,), generator=rng).numpy()]
        return torch.randint(self.views.train, (BATCH,), generator=rng).numpy()

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        index = np.asarray(self.batch(rng))
        says = torch.rand(BATCH, len(PROPERTIES), generator=rng) < torch.tensor(SAID)
        texts = []
        for i, row in zip(index.tolist(), says.tolist(), strict=True):
            texts.append(caption(*self.views.truth[i], **dict(zip(PROPERTIES, row, strict=True))))
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
        agree = self.named[index][:, None] == self.named[index][None]
        fits = (agree | ~says[:, None]).all(2) & (self.always[index][:, None] == self.always[index][None])
        with autocast():
            out = self.model(input_ids=ids.to(device()), pixel_values=resized(self.views.augmented(index, rng), SIZE))
        logits, fits = out.logits_per_text.float(), fits.float().to(device())
        by_text = -(logits.log_softmax(1) * fits / fits.sum(1, keepdim=True)).sum(1).mean()
        by_image = -(logits.T.log_softmax(1) * fits.T / fits.T.sum(1, keepdim=True)).sum(1).mean()
        taught = self.teacher(out.image_embeds.float() * out.image_embeds.shape[1] ** 0.5, torch.from_numpy(index))
        compared = (by_text + by_image) / 2
        return compared + taught, {"compared": compared.detach(), "taught": taught.detach()}, BATCH

    def export(self, folder: Path) -> dict[str, float]:
        self.model.eval()
        figures = self.accuracy(plain=True) | self.accuracy(plain=False)
        save_encoder(self.model, folder / "encoders" / "clip", SIZE)
        self.tokenizer.save_pretrained(folder / "encoders" / "clip")
        self.model.train()
        return figures

    @torch.no_grad()
    def accuracy(self, *, plain: bool) -> dict[str, float]:
        """Zero-shot class among "a NOUN" and context among "a NOUN CONTEXT" (the right noun) on held-out photos."""
        x, index = self.views.held()
        if not plain and self.views.vae is None:
            return {}
        x = x if plain else torch.cat([self.views.through_vae(part) for part in x.split(32)])
        seen = self.model.get_image_features(pixel_values=resized(x, SIZE)).pooler_output
        nouns, places = list(CLASSES), list(CONTEXTS)
        by_noun = self.words([f"a {noun}" for noun in nouns])
        hits: dict[str, list[bool]] = {"class": [], "context": []}
        for row, i in zip(seen, index, strict=True):
            subject, scene = self.views.truth[i]
            if scene.style != "photo":
                continue
            hits["class"].append(nouns[int((by_noun @ row).argmax())] == subject.noun)
            if scene.context in places:
                by_place = self.words([f"a {subject.noun} {CONTEXTS[place]}" for place in places])
                hits["context"].append(places[int((by_place @ row).argmax())] == scene.context)
        return {head if plain else f"{head}_vae": sum(right) / max(len(right), 1) for head, right in hits.items()}

    def words(self, texts: list[str]) -> Tensor:
        """Unit vectors of texts."""
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
        return F.normalize(self.model.get_text_features(input_ids=ids.to(device())).pooler_output, dim=-1)
