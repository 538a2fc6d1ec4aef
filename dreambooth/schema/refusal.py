"""What pydantic refuses, as a sentence that names the flag."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from dreambooth.core.errors import SettingError, redacted
from dreambooth.core.wording import nearest, shortened
from dreambooth.schema.flag import Flag


def refusal(all_flags: Mapping[str, Flag], positional: Sequence[str], error: ValidationError) -> SettingError:
    """The first of pydantic's findings as a sentence which names the flag."""
    first = error.errors()[0]
    path = tuple(str(p) for p in first["loc"] if not isinstance(p, int))
    matching = [f for f in all_flags.values() if _same_place(f, path)]
    name = f"--{matching[0].name}" if matching else ".".join(path)
    kind, given = first["type"], first.get("input")
    if kind == "extra_forbidden":
        own = [f for f in all_flags.values() if f.kinds and f.path[-1] == path[-1] and f.path[0] == path[0]]
        if own:
            holders = " or ".join(f"--{own[0].path[-2]} {k}" for k in own[0].kinds)
            return SettingError(f"--{own[0].name}", f"has no effect here; it belongs to {holders}.", fix=f"Add {holders}, or leave it out.")
        known = all_flags.get(path[-1])
        if known:
            place_of = "".join(f"{branch}: {{" for branch in known.path[:-1]) + f"{known.path[-1]}: ..." + "}" * (len(known.path) - 1)
            return SettingError(path[-1], "it stands in another place.", fix=f"In YAML: {place_of}")
        return SettingError(path[-1], "there is no such setting.", fix=nearest(path[-1], all_flags))
    if kind == "missing":
        return SettingError(name, "is needed.", fix=matching[0].help.split("\n")[0] if matching else "")
    if given is None:
        return SettingError(name, "has no value.", fix="Give one, or leave it out.")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    is_plain = kind != "value_error" and not any(flag.is_secret for flag in matching)
    return SettingError(name, f"{message}, got {shortened(redacted(repr(given)))}." if is_plain else f"{message}.")


def _same_place(flag: Flag, path: tuple[str, ...]) -> bool:
    """Whether a flag stands at pydantic's path, which also names union members on its way."""
    rest = iter(path)
    return bool(path) and all(step in rest for step in flag.path) and flag.path[-1] in path
