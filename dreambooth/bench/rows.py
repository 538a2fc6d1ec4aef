"""The rows of a bench on the disk: one small JSON file for each finished job, named by its key, whole or not there."""

import logging
from dataclasses import fields, replace
from pathlib import Path

from dreambooth.bench.job import Job, Row
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import write_json
from dreambooth.files.places import is_plain_name
from dreambooth.files.reading import Damaged, TypedDict, open_shape, parse_json, shaped

log = logging.getLogger(__name__)

NAMES = {field.name for field in fields(Row)}


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
    return root / "rows" / f"{key}.json"


def write_row(root: Path, row: Row) -> None:
    """Put a row in its place."""
    write_json(row_path(root, row.key), row.plain())


def has_row(root: Path, key: str) -> bool:
    """Whether a job is finished; a damaged row is reported, and does not count."""
    path = row_path(root, key)
    if not path.is_file():
        return False
    try:
        read_row(path)
    except RunError as error:
        log.warning("%s", error)
        return False
    return True


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
    names = [name for some in row.pictures.values() for name in some]
    if not all(map(is_plain_name, (row.key, row.subject, *(part for name in names for part in name.split("/"))))):
        raise Damaged("a name in it leads out of the bench's folder")
    return row


def row_of(root: Path, job: Job) -> Row | None:
    """The row of a finished job in the plan's own words: another plan may have done the same job under another name."""
    path = row_path(root, job.key)
    if not path.is_file():
        return None
    return replace(read_row(path), plan=job.plan, arm=job.arm, subject=job.subject, seed=job.seed)
