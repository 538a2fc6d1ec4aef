"""One run in lines of words: what it is, what it was made with, what it leaves, and what to type next."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import duration, resume_command, size
from dreambooth.files.places import is_plain_name
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.setup.commands import best_words, draw_command
from dreambooth.setup.record import CONFIG
from dreambooth.setup.runs import FoundRun
from dreambooth.setup.states import State

LEFT = {"report": "report.html", "curves": "progress.html", "contact sheet": "contact_sheet.png", "scores in full": "scores.json"}


def details(run: FoundRun) -> list[tuple[str, str]]:
    """Names and words, as far as the run's files say them."""
    record, status, scores = run.record, run.status, run.scores()
    base, seconds = record.get("base_model") or {}, record.get("seconds") or {}
    class_images = sum(int(images.get("count") or 0) for images in record.get("class_images") or ())
    lines = [
        ("run", run.name), ("folder", str(run.folder)), ("state", str(status) if status else "unknown"), ("remark", run.remark),
        ("verdict", _verdict(scores)), ("steps", _steps(record)),
        ("best", str((record.get("choice") or {}).get("why", ""))), ("base model", str(base.get("name") or "")),
        ("method", str(record.get("method") or "")), ("identifier", str(record.get("identifier") or "")),
        ("seed", str(record.get("seed", ""))), ("photos", _photos(run)), ("class images", str(class_images or "")),
        ("training", duration(seconds["training"]) if "training" in seconds else ""), ("started", str(record.get("started") or "")),
        ("ended", str(record.get("ended") or "")), ("machine", str((record.get("host") or {}).get("name") or "")),
        ("size", size(run.size())), ("checkpoints", ", ".join(_checkpoints(run.folder))), *_intervals(scores),
        *((name, str(run.folder / file)) for name, file in LEFT.items() if (run.folder / file).is_file()), ("next", _next(run)),
    ]  # fmt: skip
    return [(name, words) for name, words in lines if words]


def _verdict(scores: dict[str, Any]) -> str:
    found = scores.get("verdict")
    return ": ".join(str(found[name]) for name in ("word", "sentence") if found.get(name)) if isinstance(found, dict) else ""


def _steps(record: Any) -> str:
    step, result = record.get("step"), record.get("result_step")
    return "" if step is None else str(step) if result in (None, step) else f"{step}, the result is of step {result}"


def _photos(run: FoundRun) -> str:
    """How many were learned from, and which of them are no longer where they were."""
    names = [photo["name"] for photo in run.record.get("photos") or ()]
    try:
        folder = at(read_yaml_file(run.folder / CONFIG, "run"), ("photos", "instance_data_dir"))
    except SettingError:
        folder = None
    if not folder or not names:
        return str(len(names) or "")
    if not Path(folder).is_dir():
        return f"{len(names)}; their folder {folder} is gone"
    gone = [name for name in names if not (is_plain_name(name) and (Path(folder) / name).exists())]
    return f"{len(names)} in {folder}" + (f"; no longer there: {', '.join(gone)}" if gone else "")


def _checkpoints(folder: Path) -> list[str]:
    numbers = (path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*") if path.is_dir() and not path.is_symlink())
    return sorted((number for number in numbers if number.isdecimal()), key=int)


def _intervals(scores: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each score with its interval."""
    for name, score in scores.items():
        value, low, high = (score.get(key) for key in ("value", "low", "high")) if isinstance(score, dict) else (None, None, None)
        if isinstance(value, int | float):
            interval = f" ({low:.3f} to {high:.3f})" if isinstance(low, float) and isinstance(high, float) else ""
            yield name, f"{value:.3f}{interval}"


def _next(run: FoundRun) -> str:
    """The line that goes on with it."""
    status = run.status
    if status is None or run.remark or status.state.is_active:
        return ""
    if status.state is State.FINISHED:
        return best_words(run.folder, run.record) if run.record.get("choice") else draw_command(run.folder, run.record)
    return resume_command(run.folder)
