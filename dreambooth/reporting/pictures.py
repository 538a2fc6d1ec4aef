"""The pictures of a run's pages, embedded: its photos, what an evaluation drew, what the training drew at its end and on its way."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.files.images import read_settings
from dreambooth.files.places import is_inside
from dreambooth.photos.load import PhotoError, load, photo_hash, scan
from dreambooth.photos.photo import Photo
from dreambooth.prompts.placeholder import generalized
from dreambooth.reporting.inline import SIDE, data_uri, file_uri
from dreambooth.reporting.ranking import ranked, weakest
from dreambooth.reporting.table import number

MAX_PHOTOS, BEST, MAX_STEPS = 12, 4, 8
LARGE = 512
"""Longest side of the photos and of the best pictures, which enlarge; the others are as small as other pages' are."""


@dataclass(frozen=True)
class Series:
    """Pictures side by side, with their seeds."""

    label: str
    pictures: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Card:
    """One prompt with its pictures."""

    prompt: str
    chips: tuple[str, ...]
    series: tuple[Series, ...]
    weak: str = ""
    """Why it is the weakest of all, where it is."""


@dataclass(frozen=True)
class Subject:
    """What a run's prompts call its subject."""

    identifier: str | None
    noun: str

    def general(self, prompt: str) -> str:
        """A prompt with [V] for the identifier."""
        return generalized(prompt, self.identifier, self.noun)

    def prompt(self, picture: Path) -> str:
        """What a picture shows."""
        return self.general(str(read_settings(picture).get("prompt", "")))


def photo_uris(config: Mapping[str, Any], record: Mapping[str, Any], photos: Sequence[Photo] = ()) -> list[str]:
    """The photos that were learned from: `photos` where they were read already, else those that are still in their place."""
    return [data_uri(image, LARGE) for image in (_thumbnails(photos) if photos else _learned(config, record))]


def _thumbnails(photos: Sequence[Photo]) -> Iterator[Image.Image]:
    """The first photos that were learned from, small already, or read again where no small one was kept."""
    for photo in photos[:MAX_PHOTOS]:
        with suppress(PhotoError):
            yield photo.thumbnail or photo.read()


def _learned(config: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Image.Image]:
    """The photos that were learned from, by their bytes: a run that somebody has sent may name any folder of this machine."""
    folder, learned = at(config, ("photos", "instance_data_dir")), {photo["sha256"] for photo in record.get("photos", ())}
    if not folder:
        return
    try:
        paths = scan(folder).photos
    except (SettingError, OSError):
        return  # the photos have moved; everything else is still worth a report
    count = 0
    for path in paths:
        with suppress(PhotoError):
            if photo_hash(path) in learned:
                yield load(path)
                count += 1
        if count == MAX_PHOTOS:
            return


def best_pictures(folder: Path, scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(picture, prompt) of the prompts that came out best, each with its first seed; with fewer prompts the next seeds, too."""
    order = [prompt.row for prompt in ranked(scores)]
    paths = [_drawn(folder, scores, "tuned", row) for row in order]
    turns = [(row, some[turn]) for turn in range(BEST) for row, some in zip(order, paths, strict=True) if turn < len(some)]
    return [(uri, scores["per_prompt"][row]["prompt"]) for row, path in turns[:BEST] if (uri := file_uri(path, LARGE))]


def first_pictures(run: Path, subject: Subject) -> list[tuple[str, str]]:
    """The same of a run without scores: the first picture of each of its first prompts."""
    firsts = [next(some) for _, some in groupby(sorted(_own(run, "samples/final/*.png")), key=_row)]
    return [(uri, subject.prompt(path)) for path in firsts[:BEST] if (uri := file_uri(path, LARGE))]


def scored_cards(folder: Path, scores: Mapping[str, Any]) -> list[Card]:
    """Every prompt of an evaluation with its scores, the tuned model's pictures and the untuned one's."""
    cards, (worst, why) = [], weakest(scores) or (-1, "")
    for number_, entry in enumerate(scores.get("per_prompt", [])):
        chips = []
        for name, title in (("dino", "DINO"), ("clip_t", "CLIP-T"), ("div", "DIV")):
            value = (entry["scores"].get(name) or {}).get("value")
            if value is not None:
                chips.append(f"{title} {number(name, value)}")
        series = [Series(label, _pictures(_drawn(folder, scores, label, number_))) for label in _models(scores)]
        kept = tuple(s for s in series if s.pictures)
        cards.append(Card(entry["prompt"], tuple(chips), kept, why if number_ == worst else ""))
    return cards


def _models(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose pictures there are; those of an earlier evaluation beside them do not count."""
    return ("tuned", "untuned") if scores.get("untuned") else ("tuned",)


def class_card(folder: Path, scores: Mapping[str, Any]) -> Card | None:
    """The class alone, tuned and untuned at equal seeds: what prior preservation is for."""
    place = "samples/evaluation"
    count = min(8, (scores.get("protocol") or {}).get("class_samples", 0))
    series = []
    for label in _models(scores):
        name = {"tuned": "class", "untuned": "class_untuned"}[label]
        paths = sorted(_own(folder, f"{place}/{name}/00-seed*.png"), key=_seed)[:count]
        series.append(Series(label, _pictures(paths)))
    prompt = (scores.get("subject") or {}).get("class_prompt")
    kept = tuple(s for s in series if s.pictures)
    return Card(prompt, (), kept) if scores and prompt and kept else None


def sample_cards(run: Path, subject: Subject) -> list[Card]:
    """The pictures that the training drew at its end, by prompt."""
    found = [sorted(some, key=_seed) for _, some in groupby(sorted(_own(run, "samples/final/*.png")), key=_row)]
    return [Card(subject.prompt(some[0]), (), (Series("", _pictures(some)),)) for some in found]


def _own(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds under a pattern, without links that lead out of it: a report may be sent on."""
    return [path for path in folder.glob(pattern) if is_inside(path, folder)]


def step_series(run: Path, *, side: int = SIDE, seeds: int = 8) -> list[Series]:
    """The previews of the training, a row for each step and the untuned model first; at most eight steps, the first and last among them."""
    folders = sorted(_own(run, "samples/step-*"))
    if len(folders) > MAX_STEPS:
        folders = [folders[round(i * (len(folders) - 1) / (MAX_STEPS - 1))] for i in range(MAX_STEPS)]
    found = []
    for folder in folders:
        step = folder.name.removeprefix("step-").lstrip("0")
        pictures = _pictures(sorted(_own(folder, "*.png"), key=_seed)[:seeds], side)
        found.append(Series(f"step {step}" if step else "step 0, untuned", pictures))
    return [series for series in found if series.pictures]


def step_prompt(run: Path, subject: Subject) -> str:
    """What the previews show; nothing where there is none."""
    first = next(iter(sorted(_own(run, "samples/step-*/*.png"))), None)
    return subject.prompt(first) if first else ""


def _drawn(folder: Path, scores: Mapping[str, Any], label: str, row: int) -> list[Path]:
    """The pictures of one prompt with the evaluation's seeds, not older ones that lie beside them."""
    first, last = scores["protocol"]["seeds"]
    paths = sorted(_own(folder, f"samples/evaluation/{label}/{row:02d}-seed*.png"), key=_seed)
    return [path for path in paths if first <= _seed(path) <= last]


def _pictures(paths: Sequence[Path], side: int = SIDE) -> tuple[tuple[str, int], ...]:
    return tuple((uri, _seed(path)) for path in paths if (uri := file_uri(path, side)))


def _row(path: Path) -> str:
    """The row that a picture stands in, by its name."""
    return path.name.split("-")[0]


def _seed(path: Path) -> int:
    try:
        return int(path.stem.split("seed")[-1])
    except ValueError:
        return -1
