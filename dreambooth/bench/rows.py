"""The rows of a bench on the disk: one small JSON file for each finished job, named by its key, whole or not there.

Rows may also be packed (`dreambooth.bench.pack`): the lines of a file for each plan. A row of its own counts more than a packed one.
"""

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

from dreambooth.bench.job import Job, Row
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import write_json
from dreambooth.files.disk import disk_errors
from dreambooth.files.places import is_plain_name
from dreambooth.files.reading import Damaged, TypedDict, open_shape, parse_json, shaped

log = logging.getLogger(__name__)

NAMES = {field.name for field in fields(Row)}
ROWS, PACKED = "rows", "packed"
"""Folders of rows with a file each, and of packed ones."""


@open_shape
class Keyed(TypedDict):
    """What is read of every packed row before it is asked for."""

    key: str


@open_shape
class Protocol(TypedDict, total=False):
    """What tables read of a row's protocol."""

    encoders: dict[str, str]
    prompts: int
    images_per_prompt: int
    class_samples: int
    seeds: list[int]
    class_seeds: list[int]


def row_path(root: Path, key: str) -> Path:
    """Where the row of a job lies."""
    return root / ROWS / f"{key}.json"


def write_row(root: Path, row: Row) -> None:
    """Put a row in its place."""
    write_json(row_path(root, row.key), row.plain())


def is_bench(root: Path) -> bool:
    """Whether a folder holds rows, in either form."""
    return (root / ROWS).is_dir() or (root / PACKED).is_dir()


def row_keys(root: Path) -> list[str]:
    """The keys of all rows, in order."""
    return sorted({path.stem for path in (root / ROWS).glob("[!.]*.json")} | packed_lines(root).keys())


def find_row(root: Path, key: str) -> Row:
    """The row of a key; raises RunError for one that is damaged, FileNotFoundError where there is none."""
    path = row_path(root, key)
    line = None if path.is_file() else packed_lines(root).get(key)
    if line is None:
        return read_row(path)
    try:
        return as_row(line)
    except Damaged as error:
        raise RunError(f"{root / PACKED}: the row {key} is damaged ({error}). Start the bench again: its job is done anew.") from None


def has_row(root: Path, key: str) -> bool:
    """Whether a job is finished; a damaged row is reported, and does not count."""
    try:
        find_row(root, key)
    except FileNotFoundError:
        return False
    except RunError as error:
        log.warning("%s", error)
        return False
    return True


def packed_lines(root: Path) -> dict[str, bytes]:
    """The packed rows as their lines, by their keys."""
    found: dict[str, bytes] = {}
    for path in sorted((root / PACKED).glob("[!.]*.jsonl")):
        if path.is_file():
            found.update(_lines(path, path.stat().st_mtime_ns, path.stat().st_size))
    return found


@lru_cache(maxsize=256)
def _lines(path: Path, written: int, size: int) -> Mapping[str, bytes]:
    """A file's lines by the keys of their rows; read again when it was written again. A line without a key is reported and left out."""
    found: dict[str, bytes] = {}
    with disk_errors(path):
        lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            found[parse_json(line, Keyed)["key"]] = line
        except Damaged as error:
            log.warning("%s: line %d is no row of a bench (%s); its job is done anew.", path, number, error)
    return found


def read_row(path: Path) -> Row:
    """A row from its file; raises RunError for one that is damaged, FileNotFoundError where there is none."""
    try:
        return as_row(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, Damaged) as error:
        raise RunError(f"{path} is no row of a bench ({error}). Start the bench again: its job is done anew.") from None


def as_row(text: str | bytes) -> Row:
    """A row from its JSON; raises Damaged. Another version of the code may have said more, which is left out."""
    values = parse_json(text)
    row: Row = shaped({name: value for name, value in values.items() if name in NAMES}, Row)
    shaped(row.protocol, Protocol)
    if not all(map(is_plain_name, (row.key, row.subject, *(part for name in row.pictured for part in name.split("/"))))):
        raise Damaged("a name in it leads out of the bench's folder")
    return row


def row_of(root: Path, job: Job) -> Row | None:
    """The row of a finished job in the plan's own words: another plan may have done the same job under another name."""
    try:
        row = find_row(root, job.key)
    except FileNotFoundError:
        return None
    return replace(row, plan=job.plan, arm=job.arm, subject=job.subject, seed=job.seed)
