"""A request becomes a batch: its rows a table, its uploads folders of photos, its settings words of `dreambooth batch`.

What the command refuses is refused here: as a whole, or row by row. What only a server refuses (code, uploads to others, files outside the
root) refuses the whole request, so that no later start of the command can do it.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from dreambooth.bench.batch.config import BatchConfig
from dreambooth.bench.batch.index import FAILED, Entry, write_index
from dreambooth.bench.batch.jobs import Request, job_of
from dreambooth.bench.batch.products import OWN, REFUSED, BadRow, Product, read_products
from dreambooth.bench.expand import FACTOR
from dreambooth.bench.plan import BY_HAND
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.files.atomic import whole_folder, write_json, write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.locks import held
from dreambooth.files.places import is_plain_name
from dreambooth.files.table import read_table
from dreambooth.photos.files import PhotoError
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import config_type, from_arguments
from dreambooth.web import jobs, planning, uploads
from dreambooth.web.batches import BATCH, LOCK, MODELS, PHOTOS, TABLE, Batch, enqueue, read_batch, standing
from dreambooth.web.confine import confine, refuse_unsaid
from dreambooth.web.studio import Conflict, Missing, Studio

OPTIONS = ("accept", "retry", "evaluate", "prompts", "num_prompts", "num_images", "class_samples", "keep")
"""Settings of `dreambooth batch` that a request may name; where and on what machines it is done is the server's."""
MOST_ROWS = 10_000
Cells = Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """A batch that is asked for."""

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `dreambooth train` and `dreambooth batch`, by flag."""
    rows: Sequence[Cells] = ()
    table: bytes | None = None
    """A CSV in the place of rows."""
    photos: Sequence[tuple[str, str, IO[bytes]]] = ()
    """Subject, name of the file and its bytes."""
    priority: int = 0
    webhook: str = ""
    """Digest of the address."""

    def digest(self) -> str:
        """What tells this request from another: everything in it, the bytes of photos included."""
        sums = []
        for subject, name, source in self.photos:
            sums.append((subject, name, hashlib.file_digest(source, "sha256").hexdigest()))  # type: ignore[arg-type]
            source.seek(0)
        table = hashlib.sha256(self.table or b"").hexdigest()
        said = [self.name, self.settings, self.rows, table, sorted(sums), self.priority, self.webhook]
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Submitted:
    """What became of a request."""

    batch: Batch | None
    """None where it was only checked."""
    rows: int
    refused: tuple[Entry, ...]
    """Rows that cannot be done."""
    is_new: bool = True


def submit(studio: Studio, asked: Asked, *, key: str = "", only_check: bool = False) -> Submitted:
    """Check a request, keep it as a folder and put it into the queue.

    With a `key` the same request sent again is the same batch; Conflict is raised for another one. Raises SettingError for what cannot be
    done at all; a row that cannot be done is that row's trouble alone.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:12] if key and not only_check else secrets.token_hex(6)
    body = asked.digest()
    with held(studio.own / LOCK):  # one after the other: a second request with the same key finds the first one's batch
        if (studio.batches / name / BATCH).is_file():
            return _same(studio, name, body)
        refuse_unwritable(studio.root, "root")
        training, own = _parted(asked.settings, studio)
        made: Submitted | None = None
        with _checked(studio.batches / name, is_kept=not only_check) as folder:
            rows = _rows(asked, folder)
            _confine_rows(rows, training, studio)
            _write(rows, asked.photos, folder, studio)
            config = BatchConfig.parse({**own, "table": str(folder / TABLE), "output_dir": str(folder / MODELS)})
            entries = _entries(Request(config, training), folder)
            write_index(folder / MODELS, entries, title=asked.name or name)
            words = _words(f"{studio.batches.name}/{name}", own, training)
            jobs.refuse_words(words)
            device = planning.device_name(planning.pick_device(training.get("device")))
            batch = Batch(name, asked.name, time.time(), tuple(words), device, asked.priority, asked.webhook, body)
            write_json(folder / BATCH, {one: value for one, value in asdict(batch).items() if one != "id"})
            made = Submitted(None if only_check else batch, len(rows), tuple(one for one in entries if one.status == FAILED))
        assert made
        if made.batch:
            enqueue(studio, made.batch)
        return made


def _same(studio: Studio, name: str, body: str) -> Submitted:
    """The batch that the same request has made; raises Conflict for another request."""
    batch = read_batch(studio, name)
    if batch.body != body:
        raise Conflict("Idempotency-Key", "another request was sent with this key.", fix="Choose a key for each request.")
    enqueue(studio, batch)
    entries = standing(studio, batch).entries
    return Submitted(batch, len(entries), tuple(one for one in entries if one.status == FAILED), is_new=False)


class _OnlyChecked(Exception):
    """What was written to be checked is not kept."""


@contextmanager
def _checked(place: Path, *, is_kept: bool) -> Iterator[Path]:
    """A folder in the making, which takes its place when the block ends; refusals name no file of it."""
    folder: Path | None = None
    try:
        with whole_folder(place) as folder:
            yield folder
            if not is_kept:
                raise _OnlyChecked
    except _OnlyChecked:
        pass
    except SettingError as error:
        kind = type(error) if isinstance(error, Missing | Conflict) else SettingError
        raise kind(error.setting, error.reason.replace(f"{folder}/", ""), fix=error.fix) from None


def _parted(settings: Mapping[str, Any], studio: Studio) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of trainings, and of the batch; raises SettingError for those that are not for a request to decide."""
    given = {name: value for name, value in settings.items() if value is not None}
    own = {name: value for name, value in given.items() if name in OPTIONS}
    training = {name: value for name, value in given.items() if name not in own}
    known = flags(BatchConfig)
    for name in training:
        if name in known and name not in flags(TrainConfig):
            raise SettingError(name, "that is for the server to decide.", fix=f"A request may name {', '.join(OPTIONS)}.")
    _refuse_names(training)
    config: BatchConfig = from_arguments(BatchConfig, {**own, "table": TABLE})
    config.refuse_contradictions()
    confine(config, studio)
    confine(_configured(training), studio)
    request = Request(config, training)
    _refuse_names(request.retry)
    confine(_configured({**training, **request.retry}), studio)
    assert request.rule is None or request.rule.text
    if own.get("prompts"):
        own["prompts"] = str(studio.root / str(own["prompts"]))
    return training, own


def _refuse_names(names: Mapping[str, Any]) -> None:
    """Raise SettingError for settings that the batch itself decides, and for those that belong to the command line."""
    refuse_unsaid(names)
    for name in sorted(names.keys() & REFUSED):
        raise SettingError(f"--{name}", "it is set for every row by the batch itself.", fix="Leave it out.")
    for name in sorted(names.keys() & set(BY_HAND)):
        raise SettingError(f"--{name}", "that is asked for on the command line alone.", fix="Leave it out.")


def _configured(training: Mapping[str, Any]) -> TrainConfig:
    """Settings as a training takes them, multiples of others (x0.5) left out; raises SettingError for what is none."""
    plain = {name: value for name, value in training.items() if not (isinstance(value, str) and FACTOR.fullmatch(value))}
    return from_arguments(config_type(plain.get("method"), may_import=False), plain)


def _rows(asked: Asked, folder: Path) -> list[dict[str, str]]:
    """The rows by column; raises SettingError for a table that cannot be read."""
    if asked.table is None:
        columns = dict.fromkeys([*OWN, *(name for row in asked.rows for name in row)])
        rows = [{name: str(row.get(name, "")) for name in columns} for row in asked.rows]
    else:
        (folder / TABLE).write_bytes(asked.table)
        found = read_table(folder / TABLE, "table", needed=OWN[:2])
        rows = [{name.replace("-", "_"): cell for name, cell in cells.items()} for _, cells in found]
    if not rows or len(rows) > MOST_ROWS:
        raise SettingError("rows", f"there are {len(rows)} rows; a batch has 1 to {MOST_ROWS}.", fix="Send several batches.")
    return [{**dict.fromkeys(OWN, ""), **row} for row in rows]


def _confine_rows(rows: Sequence[Cells], training: Mapping[str, Any], studio: Studio) -> None:
    """Raise SettingError for a column or a cell that is not for a request to decide: the table is done by the command, which trusts it."""
    _refuse_names({name: "" for name in rows[0] if name not in OWN})
    seen = set[tuple[tuple[str, str], ...]]()
    for number, row in enumerate(rows, start=1):
        own = tuple((name, cell) for name, cell in row.items() if name not in OWN and cell)
        if not own or own in seen:
            continue
        seen.add(own)
        try:
            config = _configured({**training, **dict(own)})
        except SettingError:
            continue  # no training takes it, now or later: that is the row's trouble alone
        try:
            confine(config, studio)
        except SettingError as error:
            raise SettingError(error.setting, f"row {number}: {error.reason}", fix=error.fix) from None


def _write(rows: list[dict[str, str]], photos: Sequence[tuple[str, str, IO[bytes]]], folder: Path, studio: Studio) -> None:
    """The table as the command reads it, and the photos that came with it; raises SettingError for photos outside the root."""
    sent = {subject for subject, _, _ in photos}
    named = {row["subject"] for row in rows}
    for subject, name, source in photos:
        if subject not in named or not is_plain_name(subject):
            raise SettingError("photos", f"{subject or name}: no row has this subject.", fix="Name each file SUBJECT/FILE.")
        try:
            uploads.take(studio.inside(*(folder / PHOTOS / subject).relative_to(studio.root).parts), name, source)
        except PhotoError as error:
            raise SettingError("photos", f"{subject}/{name} {error.reason}", fix=error.fix) from None
    for row in rows:
        if row["subject"] in sent:
            row["photos"] = f"{PHOTOS}/{row['subject']}"
            continue
        path = row["photos"].rstrip("/") or row["subject"]
        try:
            studio.inside(*path.split("/"))
        except Missing as error:
            if row["photos"]:
                raise SettingError("photos", error.reason, fix="Name folders as seen from the root, or send the photos.") from None
            continue  # the command looks for them beside the table, where there are none
        row["photos"] = f"../../{path}"
    columns = list(rows[0])
    write_text(folder / TABLE, csv_text([columns, *([row[name] for name in columns] for row in rows)]))


def _entries(request: Request, folder: Path) -> list[Entry]:
    """The rows as the index has them before the first start: those that cannot be done say why, as `--dry_run` does."""
    entries = []
    for row in read_products(request.table, request.training):
        entry = Entry(row.subject)
        try:
            if isinstance(row, BadRow):
                raise SettingError("", row.reason)
            if _is_here(request, row):
                job_of(request, row)
        except DreamboothError as error:
            reason = f"line {row.line}: {error}".replace(f"{folder}/", "")
            entry = replace(entry, status=FAILED, reason=" ".join(reason.split()))
        entries.append(entry)
    return entries


def _is_here(request: Request, row: Product) -> bool:
    """Whether a row's base model is on this machine: a check downloads nothing."""
    given = {**request.training, **row.settings}
    name = {flag: value for flag, value in given.items() if flag == "pretrained_model_name_or_path"}
    return bool(from_arguments(TrainConfig, name).model.is_here)


def _words(folder: str, own: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """The command's words; each value in one word, so that none can be taken for a flag."""
    words = ["batch", f"--table={folder}/{TABLE}", f"--output_dir={folder}/{MODELS}"]
    for name, value in (*own.items(), *training.items()):
        for one in value if isinstance(value, list | tuple) else (value,):
            words.append(f"--{name}={str(one).lower() if isinstance(one, bool) else one}")
    return words
