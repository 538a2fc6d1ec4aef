"""Where a study's pictures come from: a run, a folder of runs, or an arm of a bench; told apart by what the folder holds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.bench.tables import ARMS
from dreambooth.bench.tables.pictures import largest
from dreambooth.core.errors import SettingError
from dreambooth.opened import read_config
from dreambooth.photos.files import scan
from dreambooth.prompts import PLACEHOLDER
from dreambooth.schema import nearest

EVALUATED = Path("samples") / "evaluation" / "tuned"
PHOTOS = Path("shared") / "photos"
"""Where a bench keeps the photos that it has rendered; those of a dataset lie where --photos says."""
Shown = tuple[str, str, int, int]
"""Subject, prompt with [V], training seed (0 for runs), seed of the picture: equal for the two pictures of a pair."""


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
    if (path / "rows").is_dir():
        names = ", ".join(dict.fromkeys(arm for arm, _ in _arms(path).values()))
        raise SettingError(text, "is a bench; which of its arms?", fix=f"Write {text}:ARM, one of {names}.")
    if path.is_dir():
        runs = {found.parent.name: found.parent for found in sorted(path.glob("*/scores.json"))}
        if runs:
            return _runs(path.name, runs)
        if (path / "run.json").is_file():
            raise SettingError(text, "has not been evaluated, so there are no pictures to show.", fix=f"dreambooth evaluate {text}")
        raise SettingError(text, "holds no run that was evaluated, and no bench.", fix="Name a run, a folder of runs, or BENCH:ARM.")
    for place in (place for place, letter in enumerate(text) if letter == ":"):  # folders and arms may hold colons, too
        folder = Path(text[:place]).expanduser()
        if place and (folder / "rows").is_dir():
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
        scores = _json(run / "scores.json")
        prompts = [entry["prompt"] for entry in scores.get("per_prompt", [])]
        for row, prompt in enumerate(prompts):
            if PLACEHOLDER in prompt:
                for path in sorted((run / EVALUATED).glob(f"{row:02d}-seed*.png")):
                    made.pictures[subject, prompt, 0, int(path.stem.split("seed")[1])] = path
        config = read_config(run) if (run / "config.yaml").is_file() else None
        if config and config.photos.instance_data_dir:
            made.photos[subject] = Path(config.photos.instance_data_dir)
        made.toybox = made.toybox or bool(scores.get("subject", {}).get("toybox"))
    if not made.pictures:
        raise SettingError(name, f"there are no pictures in {EVALUATED}.", fix="Draw them: dreambooth evaluate RUN.")
    return made


def _arm(bench: Path, arm: str) -> Source:
    arms = _arms(bench)
    if arm not in arms:
        raise SettingError(f"{bench}:{arm}", "the bench has no such arm.", fix=nearest(arm, arms) or f"It has {', '.join(arms)}.")
    name, keys = arms[arm]
    made = Source(name)
    seen = set()
    for row in (row for row in _rows(bench) if row["key"] in keys):
        job = row["subject"], row["seed"]
        if job in seen:
            fix = "Say which plan's: PLAN/ARM; or give one plan and its settings a bench folder of their own."
            raise SettingError(f"{bench}:{arm}", f"the bench holds two results of {job[0]}, seed {job[1]}.", fix=fix)
        seen.add(job)
        made.toybox = made.toybox or row["toybox"]
        made.photos[row["subject"]] = bench / PHOTOS / row["subject"]
        for prompt, names in row["pictures"].items():
            for name in names if PLACEHOLDER in prompt else ():
                path = largest(bench / name)
                if path.is_file():
                    made.pictures[row["subject"], prompt, row["seed"], _seed(path)] = path
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
    for path in sorted((bench / "tables").glob(f"*/{ARMS}")):
        for arm, keys in _json(path).items():
            for name in (arm, f"{path.parent.name}/{arm}"):
                found.setdefault(name, (arm, set()))[1].update(keys)
    for row in _rows(bench) if not found else ():
        found.setdefault(row["arm"], (row["arm"], set()))[1].add(row["key"])
    return found


def _rows(bench: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((bench / "rows").glob("[!.]*.json")):
        row = {**_json(path), "key": path.stem}
        if {"arm", "subject", "seed", "pictures", "toybox"} <= row.keys():
            yield row


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(str(path), f"cannot be read ({error}).") from None
