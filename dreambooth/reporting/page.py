"""`report.html`: what a person would send to a colleague. It reads a run's folder and nothing else, with scores or without."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import duration, evaluate_command
from dreambooth.files.atomic import write_text
from dreambooth.files.reading import needed_json
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.metrics.networks import NETWORKS
from dreambooth.photos.photo import Photo
from dreambooth.reporting.curves import charts
from dreambooth.reporting.pictures import (
    Subject,
    best_pictures,
    class_card,
    first_pictures,
    photo_uris,
    sample_cards,
    scored_cards,
    step_prompt,
    step_series,
)
from dreambooth.reporting.shapes import SCORES
from dreambooth.reporting.table import detector_rows, is_comparable, rows
from dreambooth.reporting.templates import template
from dreambooth.setup.commands import best_words
from dreambooth.setup.journal import metric_rows
from dreambooth.setup.record import Provenance
from dreambooth.setup.states import status_of

REPORT = "report.html"
CHECKPOINT = re.compile(r"checkpoint-\d+")
GAUGES = (  # name, title, meaning, where good begins, where bad begins
    ("fidelity", "Fidelity", "of the way from the untuned model to the real photos (DINO)", 0.65, 0.45),
    ("obedience", "Follows prompts", "of what the untuned model's CLIP-T has above chance", 0.75, 0.5),
    ("diversity", "Diversity", "of the untuned model's DIV", 0.5, 0.35),
    ("kept", "Class kept", "of the way back from the subject to the untuned class (PRES)", 0.75, 0.5),
)


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
    shown = {"photos": photo_uris(config, record, photos)}
    write_text(path, template("report.html").render(_context(folder, run, record, scores, config, config_text) | shown))
    return path


def _context(
    folder: Path, run: Path, record: Mapping[str, Any], scores: Mapping[str, Any], config: Mapping[str, Any], config_text: str
) -> dict[str, Any]:
    subject, protocol = scores.get("subject", {}), scores.get("protocol", {})
    noun = subject.get("class_noun") or at(config, ("photos", "class_noun")) or ""
    named = Subject(record.get("identifier"), str(noun))
    base = (record.get("base_model") or {}).get("name") or protocol.get("base_model", "")
    verdict = scores.get("verdict")
    return {
        "networks": NETWORKS,
        "title": f"a [V] {noun}" if noun else str(protocol.get("model") or run.name),
        "is_toybox": bool(subject.get("toybox")) or base == "toybox",
        "verdict": verdict,
        "figures": _gauges((verdict or {}).get("figures", {})),
        "best": best_pictures(folder, scores) if scores else first_pictures(run, named),
        "cards": scored_cards(folder, scores) if scores else (),
        "samples": () if scores else sample_cards(run, named),
        "steps": step_series(run), "steps_prompt": step_prompt(run, named),
        "choice": record.get("choice"), "choice_words": best_words(run, record) if record.get("choice") else "",
        "classes": class_card(folder, scores),
        "rows": rows(scores), "detectors": detector_rows(scores), "comparable": is_comparable(scores),
        "charts": charts(metric_rows(run), chosen=(record.get("choice") or {}).get("step")),
        "facts": (facts := _facts(record, config, scores, base)), "brief": _brief(dict(facts)),
        "protocol": protocol, "cost": scores.get("cost", {}), "settings": config_text,
        "run": run.name, "evaluate_command": evaluate_command(run),
        "version": record.get("dreambooth") or (scores.get("made") or {}).get("dreambooth", ""),
        "ended": (scores.get("made") or {}).get("ended") or record.get("ended") or record.get("started", ""),
    }  # fmt: skip


def _gauges(figures: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """The verdict's four relative figures, as bars from 0 to 100 %: more is better in all of them."""
    collapse = figures.get("collapse")
    figures = {**figures, "kept": None if collapse is None else min(1.0, 1 - collapse)}
    found = []
    for name, title, meaning, good, bad in GAUGES:
        value = figures.get(name)
        if value is not None:
            shown = max(0.0, min(1.0, value))
            kind = "good" if shown >= good else "bad" if shown < bad else "fair"
            percent = max(0, round(100 * value))
            found.append({"title": title, "meaning": meaning, "percent": percent, "width": round(100 * shown), "kind": kind})
    return found


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
        ("Steps", str(step)), ("Learning rate", _rate(at(config, ("optimization", "learning_rate")))),
        ("Training", duration(seconds) if seconds else ""), ("Seed", str(record.get("seed", ""))), ("State", _state(record)),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _brief(facts: Mapping[str, str]) -> list[str]:
    """The same in a few words: what a reader of the verdict has to know."""
    counted = [f"{facts[name]} {name.lower()}" for name in ("Photos", "Steps") if name in facts]
    return [*(facts[name] for name in ("Base model", "Method") if name in facts), *counted]


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


def _found(path: Path, shape: Any) -> dict[str, Any]:
    """What a file of the run holds, nothing where there is none; raises SettingError for one that is damaged."""
    if not path.exists():
        return {}
    fix = "Delete it: `dreambooth evaluate` writes scores anew, a run that is resumed its record."
    return needed_json(path, shape, setting="run", fix=fix)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
