"""Scores while a run goes on: few held-out prompts, few sampler steps, fixed seeds, and a bound on the time they take.

The pictures are drawn under generators of their own, so a run with and without them gives the same weights. Step 0 is the untuned
model: a method changes nothing before its first update.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from dreambooth.evaluation.protocol import Prompt, without_identifier
from dreambooth.evaluation.scoring import measure
from dreambooth.evaluation.selection import Choice, Signals, choose, should_stop
from dreambooth.families import Family
from dreambooth.families.sampling import Sampling, draw
from dreambooth.metrics import EXTRAS, Encoders, EvalImages, GeneratedImage, Undefined
from dreambooth.metrics.real import real_row
from dreambooth.photos.load import PhotoFile
from dreambooth.prompts.placeholder import fill
from dreambooth.setup.journal import metric_rows

CURVES = ("dino", "clip_t", "pres", "div", "copying", "clip_t_chance")
SEED = 1000
"""Seeds of these pictures count up from here, apart from those of previews and of reports."""


@dataclass(frozen=True)
class LiveScored:
    """One evaluation pass: the curves' values at a step, and the seconds that it took."""

    step: int
    values: dict[str, float]
    pictures: tuple[Image.Image, ...]
    prompts: tuple[str, ...]

    @property
    def signals(self) -> Signals:
        """What `choose` reads."""
        return signals_of(self.values)


@dataclass
class LiveScores:
    """Evaluates a model under training. `is_due` keeps their share of the time below `max_share`."""

    family: Family
    encoders: Encoders
    prompts: Sequence[Prompt]
    identifier: str | None
    class_prompt: str
    photos: Sequence[Image.Image | PhotoFile]
    sampling: Sampling
    num_images: int = 2
    class_samples: int = 8
    batch_size: int = 4
    precision: str = "no"
    max_share: float = 0.25
    curve: dict[int, Signals] = field(default_factory=dict)
    replaced: str | None = None
    """The class noun, where [V] stands for it too."""

    def __post_init__(self) -> None:
        self.began, self.spent = time.perf_counter(), 0.0
        self.real_dino: float | None = None
        with torch.random.fork_rng(), suppress(Undefined):
            self.real_dino = real_row(self.encoders.dino(list(self.photos)), self_pairs=False).mean()

    def is_due(self, step: int, every: int) -> bool:
        """Whether to evaluate after this update: every so many, unless evaluation has already taken more than its share."""
        return step % every == 0 and self.spent <= self.max_share * (time.perf_counter() - self.began)

    def evaluate(self, step: int, inference_mode: Callable[[], AbstractContextManager[object]]) -> LiveScored:
        """Draw and score, in the block that `inference_mode()` opens (`Trainer.inference_mode`)."""
        clock = time.perf_counter()
        asked = [(fill(p.text, self.identifier, replaced=self.replaced), without_identifier(p.text, self.identifier)) for p in self.prompts]
        with torch.random.fork_rng():  # also around the encoders: a network that is loaded draws its first weights
            with inference_mode():
                drawn = self._draw([(text, plain, row) for row, (text, plain) in enumerate(asked)], self.num_images)
                alone = self._draw([(self.class_prompt, self.class_prompt, 0)], self.class_samples)
            measured = measure(EvalImages(drawn, tuple(self.photos), alone), self.encoders, (*CURVES, *(metric.name for metric in EXTRAS)))
        values = {name: terms.mean() for name, terms in measured.items() if not isinstance(terms, str)}
        self.curve[step] = signals_of(values)
        seconds = time.perf_counter() - clock
        self.spent += seconds
        return LiveScored(step, values | {"evaluation_seconds": seconds}, tuple(s.image for s in drawn), tuple(s.prompt for s in drawn))

    def should_stop(self) -> bool:
        """Whether the passes so far give no hope of a better checkpoint."""
        after = {step: signals for step, signals in self.curve.items() if step > 0}
        return 0 in self.curve and should_stop(after, self.curve[0], real_dino=self.real_dino)

    def choose(self, steps: Sequence[int]) -> Choice | None:
        """The checkpoint to keep among those at these steps; None when none of them was evaluated."""
        seen = {step: self.curve[step] for step in steps if step in self.curve and step > 0}
        return choose(seen, self.curve[0], real_dino=self.real_dino) if seen and 0 in self.curve else None

    def _draw(self, prompts: Sequence[tuple[str, str, int]], count: int) -> tuple[GeneratedImage, ...]:
        wanted = [(text, plain, row, SEED + i) for text, plain, row in prompts for i in range(count)]
        drawn = draw(
            self.family, [text for text, *_ in wanted], [seed for *_, seed in wanted], sampling=self.sampling,
            batch_size=self.batch_size, precision=self.precision,
        )  # fmt: skip
        return tuple(
            GeneratedImage(p.image, p.prompt, plain, row, seed, p.finite) for p, (_, plain, row, seed) in zip(drawn, wanted, strict=True)
        )


def signals_of(values: Mapping[str, float]) -> Signals:
    """What selection needs of a pass's values."""
    return Signals(values["dino"], values.get("clip_t"), values.get("pres"), values.get("copying"), values.get("clip_t_chance"))


def read_curve(run: Path) -> dict[int, Signals]:
    """The evaluation passes of a run, by step: what it goes on with when it is resumed."""
    return {int(row["step"]): signals_of(row) for row in metric_rows(run) if "dino" in row}
