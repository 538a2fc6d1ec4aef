"""The runs below a folder, by their own files. Links are not followed, and a run that cannot be read is listed with the reason."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import nearest, shell_words, shown
from dreambooth.files.reading import Damaged, read_json, shaped
from dreambooth.setup.record import CONFIG, RECORD, Provenance
from dreambooth.setup.states import State, Status, status_of

SHEETS = ("contact_sheet.png", "evaluation.png")
"""A run's own pictures, the one that shows most first; before there is one, the newest preview stands for the run."""

NEAR, LISTED = 2, 6
"""Levels below the working folder in which runs are looked for that a user may have meant, and how many of them are named."""


@dataclass(frozen=True)
class FoundRun:
    """A run's folder with its record, as far as it could be read."""

    folder: Path
    name: str
    """Its path below the root, in one line: what the list shows, and what a command takes."""
    record: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
    """Why its record is not understood, or not in full."""

    @property
    def status(self) -> Status | None:
        """Its state; None where the record does not say it in words that this version knows."""
        known = not self.remark or self.record.get("state") in tuple(State)
        return status_of(self.record) if self.record and known else None

    def scores(self) -> dict[str, Any]:
        """What its last evaluation wrote; empty where there was none, or where that cannot be read."""
        try:
            return read_json(self.folder / "scores.json")
        except (FileNotFoundError, Damaged):
            return {}

    def verdict(self) -> str:
        """The word of its last evaluation; empty where it was not evaluated."""
        found = self.scores().get("verdict")
        return str(found.get("word", "")) if isinstance(found, dict) else ""

    def picture(self) -> Path | None:
        """A picture that shows what was learned."""
        previews = sorted((self.folder / "samples").glob("step-*/*.png"), key=lambda path: (path.parent.name, path.name))
        wanted = (*(self.folder / name for name in SHEETS), *previews[-1:])
        return next((path for path in wanted if path.is_file() and not path.is_symlink()), None)

    def size(self) -> int:
        """Bytes of all its files; what links lead to is not counted."""
        return folder_size(self.folder)

    def plain(self) -> dict[str, Any]:
        """Everything that a list shows, for `--json`."""
        status, picture = self.status, self.picture()
        seconds = self.record.get("seconds") or {}
        return {
            "name": self.name, "folder": str(self.folder), "state": str(status.state) if status else "unknown",
            "phase": status.phase if status else "", "cause": status.cause if status else "", "verdict": self.verdict(),
            "steps": self.record.get("step"), "bytes": self.size(), "training_seconds": seconds.get("training"),
            "started": self.record.get("started"), "picture": str(picture) if picture else None, "remark": self.remark,
        }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What lies below a root."""

    runs: list[FoundRun]
    """The one that was started last first."""
    unreadable: list[Path]
    """Folders that may not be read: there may be runs in them."""


def find_runs(root: Path, *, depth: int) -> Found:
    """All runs in a folder and in those below it, `depth` levels down. Hidden folders, links and the insides of runs are left out.

    Raises SettingError for a root that is no folder or may not be read.
    """
    if not root.is_dir():
        raise SettingError("--root", f"{shown(root)} is no folder.", fix="Name the folder in which your runs lie.")
    runs, unreadable, level = list[FoundRun](), list[Path](), [root]
    for _ in range(depth + 1):
        below = list[Path]()
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                unreadable.append(folder)
                continue
            run = run_of(folder, root) if any(entry.name == RECORD for entry in entries) else None
            if run:
                runs.append(run)
            else:
                below += (Path(one.path) for one in entries if one.is_dir(follow_symlinks=False) and not one.name.startswith("."))
        level = below
    if root in unreadable:
        raise SettingError("--root", f"{shown(root)} may not be read.", fix="Give yourself the right, or name another folder.")
    runs.sort(key=lambda run: str(run.record.get("started") or ""), reverse=True)
    return Found(runs, unreadable)


def find_run(name: str, root: Path) -> FoundRun:
    """The run that a name of the list or a path means; raises SettingError, with the nearest name, for a folder that is no run."""
    for path in (root / Path(name).expanduser(), Path(name).expanduser()):
        if path.is_symlink():
            reason = f"{shown(path)} is a link; a run is named by its own folder."
            raise SettingError("run", reason, fix=f"Name {shown(path.resolve())}.")
        found = run_of(path, root) if (path / RECORD).is_file() else None
        if found:
            return found
    there = {run.name: run for run in find_runs(root, depth=4).runs} if root.is_dir() else {}
    if name in there:  # written as the list shows it: with a newline, or another letter that cannot be typed
        return there[name]
    if (root / name).exists() or Path(name).exists():
        raise SettingError("run", f"{shown(name)} is no run.", fix=_choice(name, list(there), root))
    raise absent(name, root, list(there))


def absent(name: str, root: Path, there: Sequence[str] | None = None, *, others: Iterable[str] = ()) -> SettingError:
    """What is said of a run that is not there: the one that may have been meant (or another model, of `others`), else those that are."""
    there = [run.name for run in find_runs(root, depth=NEAR).runs] if there is None else there
    where = "here" if root.resolve() == Path.cwd() else f"in {shown(root)}"
    return SettingError("run", f"there is no run {shown(name)} {where}.", fix=_choice(name, there, root, others))


def _choice(name: str, there: Sequence[str], root: Path, others: Iterable[str] = ()) -> str:
    """The nearest name, else the runs that there are; the one that was started last comes first."""
    if found := nearest(name, [*there, *others]):
        return found
    if not there:
        return "There is none yet; name a run's folder, or any model by its folder or its Hub id (owner/name)."
    more = f" and {len(there) - LISTED} more (dreambooth runs list --root {shell_words(root)})" if len(there) > LISTED else ""
    return f"Runs here: {', '.join(there[:LISTED])}{more}."


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder, those that may be read; links count for nothing."""
    total, todo = 0, [str(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif not entry.is_symlink():
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # it may not be read, or a run at work has just deleted it
            continue
    return total


def run_of(folder: Path, root: Path) -> FoundRun | None:
    """The run in a folder with a run.json; None where that is another program's, or none is there."""
    name = shown(folder.relative_to(root)) if folder.is_relative_to(root) and folder != root else shown(folder.resolve().name)
    try:
        tree = read_json(folder / RECORD)
    except FileNotFoundError:
        return None
    except Damaged as error:
        is_ours = (folder / CONFIG).is_file()
        return FoundRun(folder, name, remark=f"its {RECORD} is damaged ({error})") if is_ours else None
    written_by = tree.get("dreambooth")
    if not isinstance(written_by, str):
        return None
    newer = f"it was written by dreambooth {shown(written_by)}, which is newer than this one ({dreambooth.__version__})"
    remark = newer if _numbers(written_by) > _numbers(dreambooth.__version__) else ""
    try:
        return FoundRun(folder, name, shaped(tree, Provenance), remark)
    except Damaged as error:
        return FoundRun(folder, name, remark=remark or f"its {RECORD} is damaged ({error})")


def among(runs: Sequence[FoundRun], **wanted: str) -> Iterator[FoundRun]:
    """The runs that were trained on a base model (`base`), or with the class images of a folder (`class_images`)."""
    for run in runs:
        base = (run.record.get("base_model") or {}).get("name")
        folders = {images.get("folder") for images in run.record.get("class_images") or ()}
        if wanted.get("base", base) == base and ("class_images" not in wanted or wanted["class_images"] in folders):
            yield run


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
