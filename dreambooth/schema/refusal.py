"""What pydantic refuses, as a sentence that names the flag."""

import math
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dreambooth.core.errors import SettingError, redacted
from dreambooth.core.wording import alternatives, nearest, shortened
from dreambooth.schema.flag import Flag

NUMBERS = {"int": "whole number", "float": "number", "finite": "number"}
BOUNDS = {
    "greater_than_equal": ("ge", "is too small; {} or more."), "greater_than": ("gt", "is too small; it has to be more than {}."),
    "less_than_equal": ("le", "is too large; {} at most."), "less_than": ("lt", "is too large; it has to be less than {}."),
}  # fmt: skip
PLACES = {"tuple": "a list", "list": "a list", "dict": "names with values", "model": "a group of settings"}


def refusal(all_flags: Mapping[str, Flag], error: ValidationError) -> SettingError:
    """The first of pydantic's findings as a sentence which names the flag."""
    first = error.errors()[0]
    path = tuple(str(p) for p in first["loc"] if not isinstance(p, int))
    flag = next((f for f in all_flags.values() if _same_place(f, path)), None)
    name = f"--{flag.name}" if flag else ".".join(path)
    if first["type"] == "extra_forbidden":
        return _unknown(all_flags, path)
    if first["type"] == "missing":
        if flag and flag.choices:
            return SettingError(name, "which one?", fix=f"One of {', '.join(flag.choices)}.")
        return SettingError(name, "is needed.", fix=flag.summary if flag else "")
    if first.get("input") is None:
        return SettingError(name, "has no value.", fix="Give one, or leave it out.")
    reason, fix = _in_words(first, flag)
    return SettingError(name, reason, fix=fix)


def _unknown(all_flags: Mapping[str, Flag], path: tuple[str, ...]) -> SettingError:
    """A setting that is not known at its place."""
    own = next((f for f in all_flags.values() if f.kinds and f.path[-1] == path[-1] and f.path[0] == path[0]), None)
    if own:
        branch = own.path[-2]
        now = f" (now: {path[-2]})" if path[-2] != branch else ""
        return SettingError(f"--{own.name}", f"it needs --{branch} {alternatives(list(own.kinds))}{now}.")
    known = all_flags.get(path[-1])
    if known:
        place_of = "".join(f"{branch}: {{" for branch in known.path[:-1]) + f"{known.path[-1]}: ..." + "}" * (len(known.path) - 1)
        return SettingError(path[-1], "it stands in another place.", fix=f"In YAML: {place_of}")
    return SettingError(path[-1], "there is no such setting.", fix=nearest(path[-1], all_flags))


def _in_words(first: ErrorDetails, flag: Flag | None) -> tuple[str, str]:
    """What is wrong with a value, and a value that would do."""
    kind, context = first["type"], first.get("ctx") or {}
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if kind == "value_error" or (flag and flag.is_secret):
        return f"{message}.", ""
    given = first["input"]
    value = shortened(redacted(repr(given)))
    what, _, how = kind.partition("_")
    if kind in BOUNDS:
        bound, words = BOUNDS[kind]
        number = context[bound]
        return f"{shortened(str(given), 40)} {words.format(f'{number:g}' if isinstance(number, float) else number)}", ""
    if what in NUMBERS and how.startswith(("parsing", "type", "from_float", "number")):
        return f"{value} is not a {NUMBERS[what]}.", f"Example: {_example(flag)}."
    if what == "bool":
        return f"{value} is neither on nor off.", "Give true or false."
    if kind == "literal_error" and flag:
        return f"{value} is none of {', '.join(flag.choices)}.", nearest(str(given), flag.choices)
    if kind == "string_type":
        return f"{value} is not a text.", "Write it in quotes."
    if what in PLACES and how in ("type", "attributes_type"):
        return f"{value} is not {PLACES[what]}.", ""
    return f"{message}, got {value}.", ""


def _example(flag: Flag | None) -> str:
    """A value that a setting takes: its default, or one within its bounds."""
    if flag is None:
        return "1"
    default = flag.default[0] if isinstance(flag.default, tuple) and flag.default else flag.default
    if isinstance(default, int | float) and not isinstance(default, bool):
        return f"{default:g}".replace("e-0", "e-") if isinstance(default, float) else str(default)
    low, high = flag.bounds
    if "number" in flag.type_name:
        middle = min(max(1.0, low), high)
        return f"{middle if low < middle < high else (low + high) / 2 if math.isfinite(low + high) else 1.0:g}"
    return str(int(min(max(100, low), high)))


def _same_place(flag: Flag, path: tuple[str, ...]) -> bool:
    """Whether a flag stands at pydantic's path, which also names union members on its way."""
    rest = iter(path)
    return bool(path) and all(step in rest for step in flag.path) and flag.path[-1] in path
