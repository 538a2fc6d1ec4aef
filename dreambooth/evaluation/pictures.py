"""The pictures of an evaluation: drawn with recorded seeds, kept one by one, and never drawn twice with the same settings."""

import gc
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.families.sampling import Sampling, Smaller, draw, unread, whole_batches
from dreambooth.files.images import BROKEN, read_settings, save_png
from dreambooth.metrics import GeneratedImage
from dreambooth.setup.open import Opened
from dreambooth.training.records import Message, Progress


class Lazy:
    """A model that is loaded when the first picture has to be drawn, and let go when its last one is."""

    def __init__(self, open_it: Callable[[], Opened]):
        self.open_it, self.opened = open_it, None

    def __call__(self) -> Opened:
        self.opened = self.opened or self.open_it()
        return self.opened

    def close(self) -> None:
        """Give its memory back."""
        self.opened = None
        gc.collect()


@dataclass(frozen=True)
class Wanted:
    """One picture to have."""

    prompt: str
    plain: str
    row: int
    seed: int

    @property
    def file(self) -> str:
        """Its name on the disk."""
        return f"{self.row:02d}-seed{self.seed}.png"


@dataclass(frozen=True)
class Series:
    """Pictures of one model on one list of prompts, in a folder of their own."""

    phase: str
    folder: Path
    wanted: tuple[Wanted, ...]
    stamp: dict[str, Any]
    """What must be equal, beside prompt, seed and sampling, for an older picture to be used again."""


def have(
    series: Series,
    model: Lazy,
    *,
    sampling: Sampling,
    batch_size: int,
    precision: str,
    smaller: Callable[[Opened], Smaller | None] = lambda opened: None,
) -> Generator[Message | Progress, None, tuple[GeneratedImage, ...]]:
    """The pictures, those already there read and the others drawn; with records of progress, returned at the end.

    `smaller` says what a model makes large that draws from small pictures.
    """
    stamp = {**series.stamp, "precision": precision}
    shots: dict[Wanted, GeneratedImage] = {}
    for wanted in series.wanted:
        kept = _kept(series.folder / wanted.file, wanted, sampling, stamp)
        if kept:
            shots[wanted] = kept
    missing = [place for place, wanted in enumerate(series.wanted) if wanted not in shots]
    if missing and shots:
        yield Message(f"{len(shots)} of {len(series.wanted)} pictures are there already.")
    if missing:
        family = model().family
        todo = [series.wanted[place] for place in whole_batches(missing, batch_size) if place < len(series.wanted)]
        for prompt in dict.fromkeys(series.wanted[place].prompt for place in missing):
            for sentence in unread(family, prompt):
                yield Message(sentence, important=True)
        drawn = draw(
            family, [w.prompt for w in todo], [w.seed for w in todo], sampling=sampling, batch_size=batch_size, precision=precision,
            smaller=smaller(model()),
        )  # fmt: skip
        for wanted, picture in zip(todo, drawn, strict=True):
            if wanted in shots:
                continue  # drawn for its batch alone
            notes = {**picture.settings, **stamp} | ({} if picture.finite else {"finite": False})
            save_png(series.folder / wanted.file, picture.image, notes)
            shots[wanted] = GeneratedImage(picture.image, wanted.prompt, wanted.plain, wanted.row, wanted.seed, picture.finite)
            yield Progress(series.phase, len(shots), len(series.wanted))
    return tuple(shots[wanted] for wanted in series.wanted)


def _kept(path: Path, wanted: Wanted, sampling: Sampling, stamp: dict[str, Any]) -> GeneratedImage | None:
    """An earlier picture, when everything that decides its pixels is equal."""
    if not path.is_file():
        return None
    try:
        notes = read_settings(path)
        finite = notes.pop("finite", True)
        for name in ("sampler", "noise_level", "stage_seed", "stages"):  # what followed from all that was asked for
            notes.pop(name, None)
        asked = {"prompt": wanted.prompt, "seed": wanted.seed, **sampling.model_dump(exclude_none=True), **stamp}
        if notes != json.loads(json.dumps(asked, default=str)):
            return None
        with Image.open(path) as image:
            return GeneratedImage(image.convert("RGB"), wanted.prompt, wanted.plain, wanted.row, wanted.seed, finite)
    except BROKEN:
        return None  # a damaged file is drawn again


def suite(prompts: Sequence[tuple[str, str]], seeds: Sequence[int]) -> tuple[Wanted, ...]:
    """Every prompt (as asked, and without identifier) with every seed."""
    return tuple(Wanted(prompt, plain, row, seed) for row, (prompt, plain) in enumerate(prompts) for seed in seeds)
