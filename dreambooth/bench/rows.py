"""The rows of a bench on the disk: one small JSON file for each finished job, named by its key, whole or not there."""

import json
from dataclasses import fields, replace
from pathlib import Path

from dreambooth.bench.job import Job, Row
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import write_json

NAMES = {field.name for field in fields(Row)}


def row_path(root: Path, key: str) -> Path:
    """Where the row of a job lies."""
    return root / "rows" / f"{key}.json"


def write_row(root: Path, row: Row) -> None:
    """Put a row in its place."""
    write_json(row_path(root, row.key), row.plain())


def has_row(root: Path, key: str) -> bool:
    """Whether a job is finished."""
    return row_path(root, key).is_file()


def read_row(path: Path) -> Row:
    """A row from its file; raises RunError for one that is damaged."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Row(**{name: value for name, value in told.items() if name in NAMES})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is no row of a bench ({error}). Delete it; its job is then done again.") from None


def row_of(root: Path, job: Job) -> Row | None:
    """The row of a finished job in the plan's own words: another plan may have done the same job under another name."""
    if not has_row(root, job.key):
        return None
    return replace(read_row(row_path(root, job.key)), plan=job.plan, arm=job.arm, subject=job.subject, seed=job.seed)
