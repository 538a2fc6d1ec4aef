"""Settings as fields of a form, drawn from their tree: a page names none of them, so it shows those that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.schema import Flag, Setting, flags, get
from dreambooth.setup.trust import DEEDS

LISTED = ", "
"""Between the items of a list in a field."""


@dataclass(frozen=True)
class Field:
    """One setting in a form."""

    name: str
    label: str
    help: str
    kind: str
    """switch, choice, number, text, lines (a list of free texts)."""
    group: str
    level: str
    """basic or advanced."""
    value: str
    """As it was typed; empty where it was left out."""
    shown: str
    """What counts when it is left out: the recipe's value, or the default."""
    choices: tuple[str, ...] = ()
    only: str = ""
    """With which members of its union it has something to do, in words."""
    error: str = ""
    source: str = "default"
    """Where `shown` comes from, in words."""

    @property
    def is_changed(self) -> bool:
        """Whether it was given by hand."""
        return self.value != ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The choices, as a list to choose from wants them: value and words."""
        return [(one, one) for one in self.choices]


@dataclass(frozen=True)
class Group:
    """The fields under one heading."""

    title: str
    fields: list[Field] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many of them were given by hand."""
        return sum(one.is_changed for one in self.fields)

    @property
    def is_touched(self) -> bool:
        """Whether it has something that should be seen at once."""
        return any(one.is_changed or one.error for one in self.fields)


def fields(
    tree: type[Setting], typed: Mapping[str, Any], *, resolved: Setting | None = None, chosen: Mapping[str, Any] | None = None,
    hidden: Sequence[str] = (), only: Sequence[str] | None = None, error: SettingError | None = None,
) -> list[Field]:  # fmt: skip
    """The settings of a tree as fields; `resolved` is the tree with the recipe's values, `chosen` are values that follow from a choice,
    `only` names the ones wanted, in their order."""
    known = flags(tree)
    names = only if only is not None else [name for name in known if name not in hidden and name not in DEEDS]
    wrong = error.setting.removeprefix("--") if error else ""
    words = f"{error.reason} {error.fix}".strip() if error else ""
    own = chosen or {}
    return [
        _field(known[name], typed.get(name), resolved, own.get(name), words if name == wrong else "") for name in names if name in known
    ]


def grouped(found: Sequence[Field]) -> list[Group]:
    """By their headings, in the tree's order."""
    groups: dict[str, Group] = {}
    for one in found:
        groups.setdefault(one.group, Group(one.group or "General")).fields.append(one)
    return list(groups.values())


def read(tree: type[Setting], form: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, str | list[str] | None]:
    """What a form has sent, by flag, as it was typed; None for what was left empty. Names that are no settings are left out."""
    known, values = flags(tree), dict[str, str | list[str] | None]()
    for name in names if names is not None else known:
        if name in known and name in form and name not in DEEDS:
            text = str(form[name]).strip()
            words = text.splitlines() if known[name].is_prose else [text]
            values[name] = (known[name].items(words) if known[name].is_list else text) or None
    return values


def _field(flag: Flag, typed: Any, resolved: Setting | None, chosen: Any, error: str) -> Field:
    counts = resolved is not None and (not flag.kinds or str(get(resolved, (*flag.path[:-1], "kind"))) in flag.kinds)
    value = get(resolved, flag.path) if resolved is not None and counts and typed in (None, "", []) else flag.default
    kind = "switch" if flag.is_switch else "choice" if flag.choices else "text"
    if kind == "text" and flag.is_list and flag.is_prose:
        kind = "lines"
    elif flag.type_name in ("number", "integer"):
        kind = "number"
    source = "by your choice" if chosen is not None else "default" if value == flag.default else "recipe"
    own = "\n".join(typed) if kind == "lines" and isinstance(typed, list) else _text(typed)
    return Field(
        flag.name, flag.name.replace("_", " "), flag.summary, kind, flag.group, flag.level,
        own, _text(value if chosen is None else chosen) or flag.automatic, flag.choices, " or ".join(flag.kinds), error, source,
    )  # fmt: skip


def _text(value: Any) -> str:
    """A value as a field shows it."""
    if value is None or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return LISTED.join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
