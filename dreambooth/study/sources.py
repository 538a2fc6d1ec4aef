"""Where a study's pictures come from: a run, a folder of runs, or an arm of a bench; recognised by what the folder holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.bench.job import Row
from dreambooth.bench.rows import find_row, is_bench, row_keys
from dreambooth.bench.sheet import restore_pictures
from dreambooth.bench.tables.arms import drawn_arms
from dreambooth.bench.tables.pictures import largest
from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import evaluate_command
from dreambooth.files.places import is_inside
from dreambooth.files.reading import TypedDict, needed_json, open_shape
from dreambooth.photos.files import scan
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.schema import nearest
from dreambooth.setup.given import read_yaml
from dreambooth.setup.record import CONFIG, unknown_photos

DRAWN = Path("samples") / "evaluation" / "tuned"
PHOTOS = Path("shared") / "photos"
"""Where a bench keeps the photos that it has rendered; those of a dataset lie where --photos says."""
Shown = tuple[str, str, int, int]
"""Subject, prompt with [V], training seed (0 for runs), seed of the picture: equal for the two pictures of a pair."""


@open_shape
class Asked(TypedDict):
    """A prompt of an evaluation."""

    prompt: str


@open_shape
class Evaluated(TypedDict, total=False):
    """What is read of a run's scores.json."""

    per_prompt: list[Asked]
    subject: dict[str, Any]


@dataclass
class Source:
    """One side of a study."""

    name: str
    pictures: dict[Shown, Path] = field(default_factory=dict)
    photos: dict[str, Path] = field(default_factory=dict)
    """Subject -> folder of its photos, where it is known."""
    toybox: bool = False


def source(text: str) -> Source:
    """The pictures that a folder holds; raises SettingError naming what is missing. An arm of a bench is written FOLDER:ARM.

    Where several plans share the folder and call different jobs alike, FOLDER:PLAN/ARM says which plan's arm it is.
    """
    path = Path(text).expanduser()
    if (path / "scores.json").is_file():
        return _runs(path.name, {"": path})
    if is_bench(path):
        names = ", ".join(dict.fromkeys(arm for arm, _ in _arms(path).values()))
        raise SettingError(text, "is a bench; which of its arms?", fix=f"Write {text}:ARM, one of {names}.")
    if path.is_dir():
        runs = {found.parent.name: found.parent for found in sorted(path.glob("*/scores.json"))}
        if runs:
            return _runs(path.name, runs)
        if (path / "run.json").is_file():
            raise SettingError(text, "has not been evaluated, so there are no pictures to show.", fix=evaluate_command(path))
        raise SettingError(text, "holds no run that was evaluated, and no bench.", fix="Name a run, a folder of runs, or BENCH:ARM.")
    for place in (place for place, letter in enumerate(text) if letter == ":"):  # folders and arms may hold colons, too
        folder = Path(text[:place]).expanduser()
        if place and is_bench(folder):
            return _arm(folder, text[place + 1 :])
    raise SettingError(text, "there is no such folder.", fix="Name a run, a folder of runs, or BENCH:ARM.")


def photo_folder(first: Source, second: Source, subject: str, given: str | None) -> Path:
    """The photos of a subject, by hand or as the sources know them; raises SettingError where nobody does."""
    if given:
        root = Path(given).expanduser()
        own = root / subject
        several = len({*first.photos, *second.photos}) > 1
        if several and not own.is_dir():
            fix = "Name a folder that holds one for each subject of the study."
            raise SettingError("--photos", f"{root} holds no folder {subject}, and there are several subjects.", fix=fix)
        found = own if subject and own.is_dir() else root
    else:
        known = first.photos.get(subject) or second.photos.get(subject)
        if known is None or not known.is_dir():
            fix = "Give --photos: the folder of the photos, or one with a folder for each subject."
            raise SettingError("--photos", f"the photos of {subject or 'the subject'} are not where they were.", fix=fix)
        found = known
    scan(found)
    return found


def _runs(name: str, runs: dict[str, Path]) -> Source:
    made = Source(name)
    for subject, run in runs.items():
        scores = _json(run / "scores.json", Evaluated, fix=f"Have it written anew: {evaluate_command(run)}")
        prompts = [entry["prompt"] for entry in scores.get("per_prompt", [])]
        for row, prompt in enumerate(prompts):
            if PLACEHOLDER in prompt:
                for path in sorted((run / DRAWN).glob(f"{row:02d}-seed*.png")):
                    if is_inside(path, run):
                        made.pictures[subject, prompt, 0, _seed(path)] = path
        folder = at(read_yaml(run / CONFIG), ("photos", "instance_data_dir")) if (run / CONFIG).is_file() else None
        if isinstance(folder, str) and Path(folder).is_dir() and not unknown_photos(run, scan(folder, needs_photo=False).photos):
            made.photos[subject] = Path(folder)
        made.toybox = made.toybox or bool(scores.get("subject", {}).get("toybox"))
    if not made.pictures:
        raise SettingError(name, f"there are no pictures in {DRAWN}.", fix="Draw them: dreambooth evaluate RUN.")
    return made


def _arm(bench: Path, arm: str) -> Source:
    arms = _arms(bench)
    if arm not in arms:
        raise SettingError(f"{bench}:{arm}", "the bench has no such arm.", fix=nearest(arm, arms) or f"It has {', '.join(arms)}.")
    name, keys = arms[arm]
    made = Source(name)
    seen = set()
    rows = [row for key, row in _rows(bench) if key in keys]
    restore_pictures(bench, rows)
    for row in rows:
        job = row.subject, row.seed
        if job in seen:
            fix = "Say which plan's: PLAN/ARM; or give one plan and its settings a bench folder of their own."
            raise SettingError(f"{bench}:{arm}", f"the bench holds two results of {job[0]}, seed {job[1]}.", fix=fix)
        seen.add(job)
        made.toybox = made.toybox or row.toybox
        made.photos[row.subject] = bench / PHOTOS / row.subject
        for prompt, names in row.pictures.items():
            for name in names if PLACEHOLDER in prompt else ():
                path = largest(bench / name)
                if path.is_file() and is_inside(path, bench):
                    made.pictures[row.subject, prompt, row.seed, _seed(path)] = path
    if not made.pictures:
        raise SettingError(f"{bench}:{arm}", "its rows have kept no pictures.")
    return made


def _seed(path: Path) -> int:
    words = path.stem.split("seed")[-1]
    return int(words) if words.isdigit() else 0


def _arms(bench: Path) -> dict[str, tuple[str, set[str]]]:
    """ARM and PLAN/ARM -> the arm's name and keys of its jobs, by the tables that were drawn: one job may be an arm of several plans.

    Rows of which no table was drawn count by what they call themselves.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    for plan, arms in sorted(drawn_arms(bench).items()):
        for arm, keys in arms.items():
            for name in (arm, f"{plan}/{arm}"):
                found.setdefault(name, (arm, set()))[1].update(keys)
    for key, row in _rows(bench) if not found else ():
        found.setdefault(row.arm, (row.arm, set()))[1].add(key)
    return found


def _rows(bench: Path) -> Iterator[tuple[str, Row]]:
    """Every row with the key that it is found by."""
    for key in row_keys(bench):
        yield key, find_row(bench, key)


def _json(path: Path, shape: Any, fix: str) -> Any:
    return needed_json(path, shape, setting="study", fix=fix)
