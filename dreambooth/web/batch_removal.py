"""One subject taken out of a batch of the server: its row, its model, its photos, and what was reported about it."""

import re
from dataclasses import dataclass
from pathlib import Path

from dreambooth.bench.batch.config import RemovalConfig
from dreambooth.bench.batch.removal import carry_out, removal
from dreambooth.bench.batch.subjects import Subjects
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.folders import is_same
from dreambooth.files.locks import held
from dreambooth.files.places import is_plain_name, remove
from dreambooth.files.table import read_table
from dreambooth.setup.states import State
from dreambooth.web import webhooks
from dreambooth.web.batches import MODELS, PHOTOS, TABLE, Batch, read_batches, standing
from dreambooth.web.studio import Conflict, Missing, Studio

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Removed:
    """What was deleted, and what stays."""

    subject: str
    photos: bool
    """Whether its photos are gone."""
    shared_with: tuple[str, ...] = ()
    """Subjects of this and other batches that learn from the same photos, so that these stay."""


def remove_subject(studio: Studio, batch: Batch, subject: str, *, photos: bool = True) -> Removed:
    """Delete a subject of a batch for good, whether it was learned yet or not.

    Raises Missing for one that is not there, Conflict while the batch is at work.
    """
    folder = studio.batches / batch.id
    with held(studio.jobs / "queue.lock"):  # it is not started meanwhile
        now = standing(studio, batch)
        if now.is_waiting and now.state != State.QUEUED:
            raise Conflict("batch", f"it is {now.state}.", fix="Wait for it, or cancel it first.")
        rows, subjects = _rows(folder), Subjects(folder / MODELS)
        row = next((row for row in rows if row["subject"] == subject), None)
        made = subjects.find(subject) if is_plain_name(subject) else None
        if row is None and made is None:
            raise Missing("subject", "there is no such subject in this batch.", fix="GET .../results lists them.")
        if is_plain_name(subject):
            place = Path(made.photos) if made else _photos(folder, row or {})
            subjects.noted(subject, place)
            shared = tuple(_shared(studio, batch, subject, place))
            goes = photos and not shared
            carry_out(removal(RemovalConfig(subject=subject, output_dir=str(folder / MODELS), photos=goes)))
            if goes:
                remove(folder / PHOTOS / subject, root=folder)  # captions and what was no photo, too
        else:
            shared, goes = (), False  # no name of a folder: nothing was ever made of it
        _write(folder, rows, [other for other in rows if other["subject"] != subject])
        webhooks.forget(folder, subject)
        _forget_words(studio.jobs / f"{batch.id}.log", subject)
        return Removed(subject, goes, shared)


def _rows(folder: Path) -> Rows:
    try:
        return [cells for _, cells in read_table(folder / TABLE, "table", needed=("subject",))]
    except SettingError:
        return []


def _write(folder: Path, before: Rows, left: Rows) -> None:
    if len(left) < len(before):
        columns = list(before[0])
        write_text(folder / TABLE, csv_text([columns, *([row[name] for name in columns] for row in left)]))


def _forget_words(log: Path, subject: str) -> None:
    """Take the lines of a batch's log away that are about a subject."""
    if log.is_file():
        about = re.compile(rf"(^|\s){re.escape(subject)}( \(second try\))?:")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_text(log, "".join(line for line in lines if not about.search(line)))


def _photos(folder: Path, row: dict[str, str]) -> Path:
    return (folder / (row.get("photos") or row["subject"])).resolve()


def _shared(studio: Studio, batch: Batch, subject: str, place: Path) -> list[str]:
    """Other rows, of this batch and of others, that name the same folder of photos."""
    found = list[str]()
    for other in read_batches(studio):
        folder = studio.batches / other.id
        for row in _rows(folder):
            is_itself = other.id == batch.id and row["subject"] == subject
            if not is_itself and is_same(_photos(folder, row), place):
                found.append(row["subject"])
    return found
