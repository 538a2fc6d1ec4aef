"""Settings: frozen pydantic values, and the flat view of their tree that flags, files and documents share.

A setting is declared once, with its type, default, bounds and one docstring. From that declaration come its flag (`--rank`), its
place in YAML (`method: {kind: lora, rank: 8}`), its keyword argument and its row in the documentation.
"""

import re
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from annotated_types import Ge, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, create_model, field_validator, model_validator
from pydantic.fields import FieldInfo

from dreambooth.core.errors import SettingError, redacted
from dreambooth.core.trees import place
from dreambooth.core.wording import nearest, shortened

_LISTS = {tuple, list, dict}

Seed = Annotated[int, Ge(0), Lt(2**63)]
"""What torch takes as a seed, also with a picture's number added to it."""
Count = Annotated[int, Ge(1), Le(10**6)]
Updates = Annotated[int, Ge(1), Le(10**9)]
Pixels = Annotated[int, Ge(1), Le(8192)]
Share = Annotated[float, Ge(0), Le(1)]
Guidance = Annotated[float, Ge(0), Le(1000)]


class Setting(BaseModel):
    """A frozen value which knows its job. Its docstring heads its group of flags, its fields' docstrings are their help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False)

    positional: ClassVar[tuple[str, ...]] = ()
    """Fields that the command line also takes by position, in this order; the last one takes all that is left when it is a list."""
    prose: ClassVar[tuple[str, ...]] = ()
    """Lists of free text, in whose items a comma is a comma."""
    alone: ClassVar[Mapping[str, str]] = {}
    """What fields of text mean that the command line may also give without a value."""

    @model_validator(mode="before")
    @classmethod
    def _meant(cls, values: Any) -> Any:
        """A branch or a list that holds nothing (all its lines commented out) is left out; a single value stands for a list of it."""
        if not isinstance(values, Mapping) or cls.model_config.get("strict"):
            return values
        given = ((name, cls.model_fields.get(name), value) for name, value in values.items())
        return {
            name: _as_meant(info, value, is_prose=name in cls.prose) if info else value
            for name, info, value in given
            if not (info and value is None and _may_be_empty(info))
        }

    @field_validator("*")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """-0.0 is 0: one value has one text, in files and in the keys of caches. A zero byte is in no text."""
        if any("\0" in one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str)):
            raise ValueError("it holds a zero byte, which is no text and no name of a file")
        return 0.0 if isinstance(value, float) and value == 0 else value

    def refuse_contradictions(self) -> None:
        """Raise SettingError where fields of this setting do not go together. Rules across settings stand in `setup.checks`."""
        return

    def unused(self) -> Mapping[str, str]:
        """Fields that have nothing to do beside the others, each with the reason."""
        return {}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """The setting from a nested mapping of plain values or strings; raises SettingError for the first thing that is wrong."""
        try:
            return cls.model_validate(_with_kinds(cls, dict(values)))
        except ValidationError as error:
            raise _explain(cls, error) from None

    def updated(self, values: Mapping[tuple[str, ...], Any]) -> Self:
        """A copy with some leaves changed, validated anew; what was set by hand before still counts as set by hand."""
        tree = self.model_dump(exclude_unset=True)
        for path, value in values.items():
            place(tree, path, value)
        return self.parse(tree)


@dataclass(frozen=True)
class Flag:
    """One leaf of a tree of settings, as the command line and the documentation see it."""

    name: str
    path: tuple[str, ...]
    annotation: Any
    default: Any
    help: str
    group: str
    kinds: dict[str, Any] = field(default_factory=dict)
    """For a leaf that only some members of a union have: their kinds, each with its default."""
    is_prose: bool = False
    alone: str | None = None

    @property
    def is_switch(self) -> bool:
        return bool in members_of(self.annotation) and not self.choices

    @property
    def is_secret(self) -> bool:
        return SecretStr in members_of(self.annotation)

    @property
    def is_list(self) -> bool:
        return any(get_origin(member) in (tuple, list) for member in members_of(self.annotation))

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(str(c) for m in members_of(self.annotation) if get_origin(m) is Literal for c in get_args(m))

    def items(self, words: Sequence[str]) -> list[str]:
        """The items of a list, which may also stand in one word with commas between them; in free text a comma is a comma."""
        return _items(words, is_prose=self.is_prose)

    @property
    def type_name(self) -> str:
        """The kind of value in a reader's words: `{no, fp16, bf16}`, `number`, `text` ..."""
        words, members = {int: "integer", float: "number", str: "text", bool: "switch"}, members_of(self.annotation)
        if self.choices:
            return " or ".join([*(words[m] for m in members if m in words), "{" + ", ".join(self.choices) + "}"])
        for member in members:
            inner = get_args(member)[0] if get_origin(member) in (tuple, list) and get_args(member) else member
            if inner in words:
                return words[inner] + (" ..." if self.is_list else "")
        return "text" + (" ..." if self.is_list else "")


def flags(tree: type[Setting]) -> dict[str, Flag]:
    """All leaves of a tree by flag name. A name stands alone when it is unique in the tree, else it carries its branch."""
    leaves = list(_leaves(tree, (), ""))
    counts = Counter(leaf.name for leaf in leaves)
    return {name: replace(leaf, name=name) for leaf in leaves for name in [_flag_name(leaf, counts)]}


def extended(tree: type[Setting], branch: str, member: type[Setting], kind: str) -> type[Setting]:
    """The same tree with one more member in the union at `branch`, known there by `kind`: how a user's own class gets its flags."""
    new: Any = create_model  # its typed overloads do not know fields that are named at run time
    known = new(member.__name__, __base__=member, __doc__=member.__doc__, kind=(Literal[kind], kind))
    info = tree.model_fields[branch]
    union = Annotated[Union[(*_settings_of(info.annotation), known)], Field(discriminator="kind")]
    return new(tree.__name__, __base__=tree, __doc__=tree.__doc__, **{branch: (union, info.default)})


def is_set(setting: Setting, path: tuple[str, ...]) -> bool:
    """Whether a leaf was given by hand (flag, file or argument) and is not a default."""
    for branch in path[:-1]:
        if branch not in setting.model_fields_set:
            return False
        setting = getattr(setting, branch)
    return path[-1] in setting.model_fields_set


def get(setting: Setting, path: tuple[str, ...]) -> Any:
    """The value at a path of the tree; None where the branch's present kind has no such leaf."""
    value: Any = setting
    for name in path:
        value = getattr(value, name, None)
    return value


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The types a field may have, with Annotated and unions taken apart and None left out."""
    if get_origin(annotation) is Annotated:
        return members_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(m for arg in get_args(annotation) for m in members_of(arg) if m is not type(None))
    return (annotation,)


def _items(words: Sequence[str], *, is_prose: bool) -> list[str]:
    return list(words) if is_prose else [item.strip() for word in words for item in word.split(",") if item.strip()]


def _may_be_empty(info: FieldInfo) -> bool:
    """Whether a field holds a branch, a list or a mapping, and no None of its own."""
    has_none = get_origin(info.annotation) in (Union, types.UnionType) and type(None) in get_args(info.annotation)
    return not has_none and bool(_settings_of(info.annotation) or _LISTS & set(map(get_origin, members_of(info.annotation))))


def _as_meant(info: FieldInfo, value: Any, *, is_prose: bool) -> Any:
    """A value as its field wants it: one of a list as a list, 1e3 as a whole number."""
    members = members_of(info.annotation)
    kinds = _LISTS & set(map(get_origin, members))
    if kinds and dict not in kinds and isinstance(value, str | int | float):
        return _items([value], is_prose=is_prose) if isinstance(value, str) else [value]
    if members == (int,) and isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?[eE]\+?[0-9]{1,2}", value):
        return int(float(value)) if float(value).is_integer() else value
    return value


def _settings_of(annotation: Any) -> list[type[Setting]]:
    return [m for m in members_of(annotation) if isinstance(m, type) and issubclass(m, Setting)]


def _flag_name(leaf: Flag, counts: Counter[str]) -> str:
    return leaf.name if counts[leaf.name] == 1 or len(leaf.path) == 1 else "_".join(leaf.path[-2:])


def _leaves(tree: type[Setting], path: tuple[str, ...], group: str) -> Iterator[Flag]:
    for name, info in tree.model_fields.items():
        here, help_text = (*path, name), info.description or ""
        branches = _settings_of(info.annotation)
        if not branches:
            default = None if info.is_required() else info.get_default(call_default_factory=True)
            yield Flag(name, here, _annotation(info), default, help_text, group, is_prose=name in tree.prose, alone=tree.alone.get(name))
        elif len(branches) == 1:
            yield from _leaves(branches[0], here, _title(branches[0]))
        else:
            yield from _union_leaves(branches, here, info.get_default(call_default_factory=True), help_text)


def _union_leaves(branches: list[type[Setting]], path: tuple[str, ...], default: Any, help_text: str) -> Iterator[Flag]:
    """The leaves of a discriminated union: `--method` chooses the member, the members' leaves are merged by name."""
    kinds = {b.model_fields["kind"].default: b for b in branches}
    group = _title(branches[0].__mro__[1])
    help_text += "".join(f" {kind}: {_title(member)}" for kind, member in kinds.items())
    merged: dict[str, Flag] = {}
    for kind, member in kinds.items():
        for leaf in _leaves(member, path, group):
            name = leaf.path[-1]
            if name != "kind":
                merged.setdefault(name, leaf).kinds[kind] = leaf.default
    yield Flag(path[-1], (*path, "kind"), str, default.kind if default else None, help_text, group)
    yield from merged.values()


def _annotation(info: Any) -> Any:
    return info.annotation if not info.metadata else Annotated[info.annotation, *info.metadata]


def _title(setting: type) -> str:
    return (setting.__doc__ or setting.__name__).strip().split("\n")[0]


def _with_kinds(tree: type[Setting], values: dict[str, Any]) -> dict[str, Any]:
    """Fill in the `kind` of unions where it was left out, since pydantic words its absence badly."""
    for name, info in tree.model_fields.items():
        branches = _settings_of(info.annotation)
        value = values.get(name)
        if len(branches) > 1 and isinstance(value, str):
            value = {"kind": value}
        if not branches or not isinstance(value, Mapping):
            continue
        value = dict(value)
        chosen = branches[0]
        if len(branches) > 1:
            default = info.get_default(call_default_factory=True)
            value.setdefault("kind", default.kind)
            by_kind = {b.model_fields["kind"].default: b for b in branches}
            if str(value["kind"]) not in by_kind:
                raise SettingError(
                    f"--{name}", f"no {name} is named {value['kind']!r}; there are {', '.join(by_kind)}.",
                    fix=nearest(str(value["kind"]), by_kind),
                )  # fmt: skip
            chosen = by_kind[str(value["kind"])]
        values[name] = _with_kinds(chosen, value)
    return values


def _explain(tree: type[Setting], error: ValidationError) -> SettingError:
    """The first of pydantic's findings as a sentence which names the flag."""
    first = error.errors()[0]
    all_flags = flags(tree)
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
