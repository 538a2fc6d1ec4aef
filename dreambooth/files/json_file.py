"""JSON files that people write or send: messages name the place of a fault, and a name that stands twice is not dropped in silence."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.text import MAX_TEXT_BYTES, read_text


def read_json_file(path: Path, setting: str, *, limit: int = MAX_TEXT_BYTES) -> Any:
    """What a JSON file holds.

    Raises SettingError that names `setting`, the file and, of what is no JSON, line and column: also for a name that stands twice in one
    object, for nesting that Python cannot follow, and for more than `limit` letters.
    """
    text, doubled = read_text(path, setting), list[_Object]()
    if len(text) > limit:
        raise SettingError(setting, f"{path} is too large: at most {size(limit)} are read.", fix="Is it the right file?")
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, doubled), parse_constant=_no_number)
        twice = next(_doubled(found), None) if doubled else None
    except json.JSONDecodeError as error:
        reason = f"{path}, line {error.lineno}, column {error.colno}: {error.msg[:1].lower()}{error.msg[1:]}."
        raise SettingError(setting, reason, fix="It should be JSON.") from None
    except RecursionError:
        raise SettingError(setting, f"{path}: it is nested too deeply.", fix="Is it the right file?") from None
    except ValueError as error:
        raise SettingError(setting, f"{path}: {error}.", fix="It should be JSON.") from None
    if twice is not None:
        raise SettingError(setting, f"{path}: {twice} stands twice.", fix="Leave out one of them.")
    return found


class _Object(dict[str, Any]):
    """An object that knows which name stands in it twice; Python would keep the last."""

    twice: str = ""


def _object(pairs: list[tuple[str, Any]], doubled: list[_Object]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    made = _Object(made)
    made.twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
    doubled.append(made)
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _doubled(found: Any, *path: str) -> Iterator[str]:
    """Where a name stands twice: "entry 2: class_prompt"."""
    if isinstance(found, _Object):
        yield ": ".join([*path, shown(found.twice)])
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _doubled(value, *path, shown(name))
    elif isinstance(found, list):
        for number, value in enumerate(found, start=1):
            yield from _doubled(value, *path, f"entry {number}")
