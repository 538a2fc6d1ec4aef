"""The rows of the two studies: a file each while they are made, one line each in `rows.jsonl` when they are committed.

python -m benchmarks.selection.rows benchmarks/selection/rows      # packs the rows of a folder
"""

import json
import sys
from pathlib import Path
from typing import Any

from dreambooth.files.atomic import write_text

PACKED = "rows.jsonl"


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder by name, whichever way they lie there; one that has a file counts more than a packed one."""
    return [row for _, row in sorted(_by_name(folder).items())]


def row_named(folder: Path, name: str) -> dict[str, Any] | None:
    """One row, or None where it is missing."""
    return _by_name(folder).get(name)


def pack(folder: Path) -> int:
    """Put all rows into one file, and delete theirs; returns how many there are."""
    rows = _by_name(folder)
    write_text(folder / PACKED, "".join(json.dumps({"name": name, "row": rows[name]}) + "\n" for name in sorted(rows)))
    for path in folder.glob("*.json"):
        path.unlink()
    return len(rows)


def _by_name(folder: Path) -> dict[str, dict[str, Any]]:
    packed = folder / PACKED
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    found = {line["name"]: line["row"] for line in map(json.loads, lines)}
    return found | {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


if __name__ == "__main__":
    print(f"{pack(Path(sys.argv[1]))} rows are packed.")
