"""A bench's rows and small pictures in two files a plan: what is committed or sent, where a bench at work keeps a file for each.

`OUT/packed/PLAN.jsonl` holds the rows that say they are that plan's, a line each, by their keys; `OUT/packed/PLAN.svg` their pictures;
`OUT/packed/arms.json` which of them are whose in the tables that were drawn.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreambooth.bench.job import Row
from dreambooth.bench.rows import PACKED, ROWS, as_row, packed_lines, read_row, row_keys, row_path
from dreambooth.bench.sheet import names_of, read_sheet, sheet, sheets
from dreambooth.bench.tables.arms import pack_arms
from dreambooth.bench.work import ROW
from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.disk import disk_errors
from dreambooth.files.locks import claimed
from dreambooth.files.places import is_inside, is_plain_name, remove
from dreambooth.files.reading import Damaged, parse_json


@dataclass(frozen=True)
class Packed:
    """What lies packed in a folder."""

    rows: int
    pictures: int
    files: tuple[Path, ...]


def pack(root: Path) -> Packed:
    """Put all rows of a bench and their small pictures into `packed`, with those that lie there already, and delete them in their places.

    Nothing is deleted before everything is written; what else lies in a job's folder (a kept model) stays. Raises SettingError for a folder
    without rows and while a bench is at work on it, RunError for a damaged row, with nothing changed.
    """
    if not row_keys(root):
        raise SettingError("--output_dir", f"{root} holds no rows of a bench.", fix="Name the output folder of a bench.")
    with claimed(root, "bench"):
        lines = _all_lines(root)
        rows = [_row(root, key, line) for key, line in sorted(lines.items())]
        pictures = _pictures(root, rows)
        plans: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            plans[row.plan].append(row)
        files = []
        for name, own in sorted(plans.items()):
            files.append(root / PACKED / f"{name}.jsonl")
            write_text(files[-1], "".join(lines[row.key].decode() + "\n" for row in own))
            if any(names_of(row) & pictures.keys() for row in own):
                files.append(root / PACKED / f"{name}.svg")
                write_text(files[-1], sheet(name, own, pictures))
        for path in (*(root / PACKED).glob("[!.]*.jsonl"), *sheets(root)):
            if path not in files:  # of a plan whose last row was made again for another one
                remove(path, root=root)
        pack_arms(root)
        _delete(root, rows)
    return Packed(len(rows), len(pictures), tuple(files))


def _all_lines(root: Path) -> dict[str, bytes]:
    """Every row as the line that it is packed in, by its key, with what another version of the code said in it."""
    lines = packed_lines(root)
    for key in row_keys(root):
        path = row_path(root, key)
        if path.is_file():
            read_row(path)  # a damaged one is named
            lines[key] = json.dumps(parse_json(path.read_bytes()), separators=(",", ":")).encode()
    return lines


def _row(root: Path, key: str, line: bytes) -> Row:
    """The row in a line; raises RunError for one that cannot be packed."""
    try:
        row = as_row(line)
    except Damaged as error:
        raise RunError(f"{root / PACKED}: the row {key} is damaged ({error}). Restore it, or delete its line.") from None
    if row.key != key:
        raise RunError(f"{row_path(root, key)} holds the row of another key, {row.key}. Delete it; its job is done anew.")
    if not is_plain_name(row.plan):
        raise RunError(f"{row_path(root, key)} says that its plan is {row.plan!r}, which no file can be called. Name the plan otherwise.")
    return row


def _pictures(root: Path, rows: Iterable[Row]) -> dict[str, bytes]:
    """The rows' pictures by their names, from their places or from earlier sheets; one that is nowhere is left out."""
    packed: dict[str, bytes] = {}
    for path in sheets(root):
        packed.update(read_sheet(path))
    found = {}
    for name in sorted(name for row in rows for name in names_of(row)):
        path = root / name
        with disk_errors(path):
            data = path.read_bytes() if path.is_file() and is_inside(path, root) else packed.get(name)
        if data is not None:
            found[name] = data
    return found


def _delete(root: Path, rows: Sequence[Row]) -> None:
    """Take away the files of rows that are packed now, and the folders that are empty without them."""
    for row in rows:
        folders = set[Path]()
        for name in names_of(row):
            if is_inside(root / name, root):
                remove(root / name, root=root)
                folders.add((root / name).parent)
        for folder in folders:
            _remove_empty(folder, root)
        job = root / "jobs" / row.key
        if job.is_dir() and {path.name for path in job.iterdir()} <= {ROW}:
            remove(job, root=root)
        remove(row_path(root, row.key), root=root)
    _remove_empty(root / ROWS, root)


def _remove_empty(folder: Path, root: Path) -> None:
    with suppress(OSError):  # one that is not empty stays, and so does what it lies in
        while folder != root:
            folder.rmdir()
            folder = folder.parent
