"""Which jobs are whose: the arms of every table that was drawn in a bench's folder, beside each table or packed into one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dreambooth.bench.rows import PACKED
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import write_json
from dreambooth.files.places import remove
from dreambooth.files.reading import Damaged, read_json

ARMS = "arms.json"
Arms = dict[str, list[str]]
"""Arm -> keys of its jobs."""


def write_arms(folder: Path, arms: Mapping[str, Sequence[str]]) -> Path:
    """Beside a table, the keys of the jobs that it was drawn from."""
    write_json(folder / ARMS, arms)
    return folder / ARMS


def drawn_arms(root: Path) -> dict[str, Arms]:
    """Plan -> its table's arms; one beside its table counts more than a packed one. Raises RunError for a damaged file."""
    packed = root / PACKED / ARMS
    found: dict[str, Arms] = _read(packed, dict[str, Arms]) if packed.is_file() else {}
    return found | {path.parent.name: _read(path, Arms) for path in sorted((root / "tables").glob(f"*/{ARMS}"))}


def pack_arms(root: Path) -> None:
    """Put those of all tables into one file."""
    found = drawn_arms(root)
    if found:
        write_json(root / PACKED / ARMS, found)
    for path in (root / "tables").glob(f"*/{ARMS}"):
        remove(path, root=root)


def _read(path: Path, shape: object) -> dict:
    try:
        return read_json(path, shape)
    except Damaged as error:
        raise RunError(f"{path} is damaged ({error}). Draw the tables again: dreambooth bench PLAN --tables_only.") from None
