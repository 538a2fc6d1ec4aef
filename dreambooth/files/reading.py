"""JSON that was written here, or should have been: whole and of the shape that its reader needs, or named as damaged.

Folders travel, disks rot and people edit: a file may hold half a line, a list where a mapping was, or ten thousand brackets.
"""

import json
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from dreambooth.core.errors import SettingError, first_line

__all__ = [
    "Damaged", "Tree", "TypedDict", "is_plausible", "json_lines", "needed_json", "open_shape", "parse_json", "read_json", "readings",
    "shaped",
]  # fmt: skip

MOST_BYTES = 256 * 2**20
"""More than any JSON file that is written here; a bound on what one file can make us read."""
MOST_VALUE = 1e30
"""Numbers of a run's curves stay below this; larger ones are of no run, and no scale can be drawn for them."""
Tree = dict[str, Any]
open_shape = with_config(extra="allow")
"""Decorates a TypedDict that names what a reader counts on: whatever else stands in the file is let through."""


class Damaged(ValueError):
    """Text that is no JSON, or JSON of another shape; says what is wrong, without the file's name."""


def parse_json(text: str | bytes, shape: Any = Tree) -> Any:
    """The value of a JSON text, checked against a shape (`dict[str, Any]`, a TypedDict, a dataclass ...); raises Damaged."""
    try:
        value = json.loads(text)
    except UnicodeDecodeError:
        raise Damaged("it is no UTF-8 text") from None
    except RecursionError:
        raise Damaged("it is nested too deeply") from None
    except ValueError as error:
        raise Damaged(first_line(error)) from None
    return shaped(value, shape)


def shaped(value: Any, shape: Any) -> Any:
    """A plain value as a shape has it; raises Damaged, with the first place that is wrong."""
    try:
        return _adapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        wrong = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
        raise Damaged(f"{place}: {wrong}" if place else f"it {wrong}") from None


def read_json(path: Path, shape: Any = Tree) -> Any:
    """The value of a JSON file; raises FileNotFoundError where there is none, and Damaged for everything else that is wrong with it."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Damaged("it is no ordinary file")  # a pipe would be waited for
        if found.st_size > MOST_BYTES:
            raise Damaged(f"it has {found.st_size / 2**20:,.0f} MiB")
        return parse_json(path.read_bytes(), shape)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(error.strerror or first_line(error)) from None


def needed_json(path: Path, shape: Any = Tree, *, setting: str, fix: str) -> Any:
    """The value of a JSON file that has to be there; raises SettingError, which names file and fix, where it is missing or damaged."""
    try:
        return read_json(path, shape)
    except FileNotFoundError:
        raise SettingError(setting, f"there is no {path}.", fix=fix) from None
    except Damaged as error:
        raise SettingError(setting, f"{path} is damaged ({error}).", fix=fix) from None


def json_lines(path: Path, shape: Any = Tree) -> list[Any]:
    """The whole lines of a file of JSON lines, in order; what is half written or of another shape is left out, as is a missing file."""
    found = []
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    found.append(parse_json(line, shape))
                except Damaged:
                    continue
    except FileNotFoundError:
        return []
    return found


def readings(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl: names and numbers, `step` among them; what is no such row is left out."""
    rows = [row for row in json_lines(path, dict[str, int | float]) if isinstance(row.get("step"), int)]
    return list(filter(is_plausible, rows))


def is_plausible(row: Mapping[str, float]) -> bool:
    """Whether all numbers of a row may be those of a run."""
    return not any(abs(value) > MOST_VALUE for value in row.values())


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
