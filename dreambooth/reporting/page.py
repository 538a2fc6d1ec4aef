"""`report.html`: what a person would send to a colleague. It reads a run's folder and nothing else, with scores or without."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import duration
from dreambooth.files.atomic import write_text
from dreambooth.files.images import read_settings
from dreambooth.files.places import is_inside
from dreambooth.files.reading import needed_json
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.metrics.networks import NETWORKS
from dreambooth.photos.load import PhotoError, load, photo_hash, scan
from dreambooth.photos.photo import Photo
from dreambooth.reporting.curves import charts
from dreambooth.reporting.inline import data_uri, file_uri
from dreambooth.reporting.shapes import SCORES
from dreambooth.reporting.table import detector_rows, is_comparable, number, rows
from dreambooth.reporting.templates import template
from dreambooth.setup.commands import best_words
from dreambooth.setup.journal import metric_rows
from dreambooth.setup.record import Provenance
from dreambooth.setup.states import status_of

REPORT = "report.html"
MAX_PHOTOS = 12
CHECKPOINT = re.compile(r"checkpoint-\d+")
GAUGES = (  # name, title, meaning, where good begins, where bad begins
    ("fidelity", "Fidelity", "of the way from the untuned model to the real photos (DINO)", 0.65, 0.45),
    ("obedience", "Follows prompts", "of what the untuned model's CLIP-T has above chance", 0.75, 0.5),
    ("diversity", "Diversity", "of the untuned model's DIV", 0.5, 0.35),
    ("collapse", "Class collapse", "of the way from the untuned class to the subject (PRES)", 0.25, 0.5),
)


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


def report(run_dir: Path | str, *, run: Path | None = None, photos: Sequence[Photo] = ()) -> Path:
    """Write `report.html` into a folder with a run or with its scores (`run` then names the run itself); returns its path.

    `photos` are those of the run, where they were read already.
    Before an evaluation it shows photos, curves and samples; after one also the verdict, the table and the contact sheet.
    """
    folder = Path(run_dir)
    run = run or folder
    record, scores = _found(run / "run.json", Provenance), _found(folder / "scores.json", SCORES)
    config_text = _text(run / "config.yaml")
    if not record and not scores:
        raise SettingError("run", f"{folder} holds neither a run nor scores.", fix="Name the folder that `dreambooth train` wrote.")
    config = (read_yaml_file(run / "config.yaml", "run") if config_text else None) or {}
    if folder != run and CHECKPOINT.fullmatch(folder.name):  # scores of a checkpoint: the run went on, or came from there
        record = {**record, "step": int(folder.name.rpartition("-")[2]), "seconds": {}, "state": ""}
    path = folder / REPORT
    shown = [data_uri(image) for image in (_thumbnails(photos) if photos else _learned(config, record))]
    write_text(path, template("report.html").render(_context(folder, run, record, scores, config, config_text) | {"photos": shown}))
    return path


def _context(
    folder: Path, run: Path, record: Mapping[str, Any], scores: Mapping[str, Any], config: Mapping[str, Any], config_text: str
) -> dict[str, Any]:
    subject, protocol = scores.get("subject", {}), scores.get("protocol", {})
    noun = subject.get("class_noun") or at(config, ("photos", "class_noun")) or ""
    base = (record.get("base_model") or {}).get("name") or protocol.get("base_model", "")
    verdict = scores.get("verdict")
    return {
        "networks": NETWORKS,
        "title": f"a [V] {noun}" if noun else str(protocol.get("model") or run.name),
        "is_toybox": bool(subject.get("toybox")) or base == "toybox",
        "verdict": verdict,
        "figures": _gauges((verdict or {}).get("figures", {})),
        "cards": _scored_cards(folder, scores) if scores else (),
        "samples": () if scores else _sample_cards(run),
        "steps": _step_cards(run),
        "choice": record.get("choice"), "best": best_words(Path(run.name), record) if record.get("choice") else "",
        "classes": _class_card(folder, scores),
        "rows": rows(scores), "detectors": detector_rows(scores), "comparable": is_comparable(scores),
        "charts": charts(metric_rows(run), chosen=(record.get("choice") or {}).get("step")),
        "facts": _facts(record, config, scores, base),
        "protocol": protocol, "cost": scores.get("cost", {}), "settings": config_text,
        "run": run.name, "version": record.get("dreambooth") or (scores.get("made") or {}).get("dreambooth", ""),
        "ended": (scores.get("made") or {}).get("ended") or record.get("ended") or record.get("started", ""),
    }  # fmt: skip


def _gauges(figures: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """The verdict's four relative figures, as bars from 0 to 100 %."""
    found = []
    for name, title, meaning, good, bad in GAUGES:
        value = figures.get(name)
        if value is not None:
            shown = max(0.0, min(1.0, value))
            sign = 1 if good > bad else -1
            kind = "good" if sign * shown >= sign * good else "bad" if sign * shown < sign * bad else "fair"
            percent = max(0, round(100 * value))
            found.append({"title": title, "meaning": meaning, "percent": percent, "width": round(100 * shown), "kind": kind})
    return found


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


def _scored_cards(folder: Path, scores: Mapping[str, Any]) -> list[Card]:
    place = "samples/evaluation"
    cards = []
    for number_, entry in enumerate(scores.get("per_prompt", [])):
        chips = []
        for name, title in (("dino", "DINO"), ("clip_t", "CLIP-T"), ("div", "DIV")):
            value = (entry["scores"].get(name) or {}).get("value")
            if value is not None:
                chips.append(f"{title} {number(name, value)}")
        found = {label: sorted(_own(folder, f"{place}/{label}/{number_:02d}-seed*.png"), key=_seed) for label in _models(scores)}
        series = [Series(label, _pictures(paths, scores)) for label, paths in found.items()]
        cards.append(Card(entry["prompt"], tuple(chips), tuple(s for s in series if s.pictures)))
    return cards


def _models(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose pictures there are; those of an earlier evaluation beside them do not count."""
    return ("tuned", "untuned") if scores.get("untuned") else ("tuned",)


def _class_card(folder: Path, scores: Mapping[str, Any]) -> Card | None:
    """The class alone, tuned and untuned at equal seeds: what prior preservation is for."""
    place = "samples/evaluation"
    count = min(8, (scores.get("protocol") or {}).get("class_samples", 0))
    series = []
    for label in _models(scores):
        name = {"tuned": "class", "untuned": "class_untuned"}[label]
        paths = sorted(_own(folder, f"{place}/{name}/00-seed*.png"), key=_seed)[:count]
        series.append(Series(label, tuple((uri, _seed(path)) for path in paths if (uri := file_uri(path)))))
    prompt = (scores.get("subject") or {}).get("class_prompt")
    kept = tuple(s for s in series if s.pictures)
    return Card(prompt, (), kept) if scores and prompt and kept else None


def _sample_cards(run: Path) -> list[Card]:
    """The pictures that the training drew at its end, by prompt."""
    paths = sorted(_own(run, "samples/final/*.png"))
    found = []
    for row, group in groupby(paths, key=lambda path: path.name.split("-")[0]):
        some = sorted(group, key=_seed)
        prompt = str(read_settings(some[0]).get("prompt", row))
        found.append(Card(prompt, (), (Series("", tuple((uri, _seed(path)) for path in some if (uri := file_uri(path)))),)))
    return found


def _own(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds under a pattern, without links that lead out of it: a report may be sent on."""
    return [path for path in folder.glob(pattern) if is_inside(path, folder)]


def _step_cards(run: Path) -> list[Series]:
    """The previews of the training, one row a step, at most eight of them."""
    folders = sorted(_own(run, "samples/step-*"))
    if len(folders) > 8:
        folders = [folders[round(i * (len(folders) - 1) / 7)] for i in range(8)]
    found = []
    for folder in folders:
        paths = sorted(_own(folder, "*.png"), key=_seed)[:8]
        pictures = tuple((uri, _seed(path)) for path in paths if (uri := file_uri(path)))
        if pictures:
            found.append(Series(f"step {folder.name.removeprefix('step-').lstrip('0') or 0}", pictures))
    return found


def _pictures(paths: list[Path], scores: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The pictures of one prompt with the evaluation's seeds, not older ones that lie beside them."""
    first, last = scores["protocol"]["seeds"]
    kept = [path for path in paths if first <= _seed(path) <= last]
    return tuple((uri, _seed(path)) for path in kept if (uri := file_uri(path)))


def _facts(record: Mapping[str, Any], config: Mapping[str, Any], scores: Mapping[str, Any], base: str) -> list[tuple[str, str]]:
    seconds = (record.get("seconds") or {}).get("training")
    photos = record.get("photos") or (scores.get("subject") or {}).get("photos") or []
    class_images = sum(images.get("count", 0) for images in record.get("class_images", []))
    step, result = record.get("step", ""), record.get("result_step")
    if record.get("state") and result not in (None, step):
        step = f"{step}, the result is of step {result}"
    facts = [
        ("Base model", _short(base)), ("Method", str(record.get("method", ""))), ("Identifier", str(record.get("identifier") or "")),
        ("Photos", str(len(photos) or "")), ("Class images", str(class_images or "none" if record else "")),
        ("Updates", str(step)), ("Learning rate", _rate(at(config, ("optimization", "learning_rate")))),
        ("Training", duration(seconds) if seconds else ""), ("Seed", str(record.get("seed", ""))), ("State", _state(record)),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _rate(text: str | None) -> str:
    with suppress(TypeError, ValueError):
        return f"{float(text or ''):g}"
    return str(text or "")


def _short(name: str) -> str:
    """A Hub id as it is; of a path on somebody's disk the last two parts."""
    parts = Path(name).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else name


def _state(record: Mapping[str, Any]) -> str:
    """How a run ended; nothing while it is at work: this page is written by the run itself, as its last deed."""
    status = status_of(record)
    return "" if status.state.is_active or not record.get("state") else str(status)


def _seed(path: Path) -> int:
    try:
        return int(path.stem.split("seed")[-1])
    except ValueError:
        return -1


def _found(path: Path, shape: Any) -> dict[str, Any]:
    """What a file of the run holds, nothing where there is none; raises SettingError for one that is damaged."""
    if not path.exists():
        return {}
    fix = "Delete it: `dreambooth evaluate` writes scores anew, a run that is resumed its record."
    return needed_json(path, shape, setting="run", fix=fix)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
