"""Settings: frozen pydantic values, and the flat view of their tree that flags, files and documents share.

A setting is declared once, with its type, default, bounds and one docstring. From that declaration come its flag (`--rank`), its
place in YAML (`method: {kind: lora, rank: 8}`), its keyword argument and its row in the documentation.
"""

import re
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from annotated_types import Ge, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator
from pydantic.fields import FieldInfo

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import place
from dreambooth.core.wording import nearest
from dreambooth.schema.flag import Flag, items_of, members_of
from dreambooth.schema.refusal import refusal

_LISTS = {tuple, list, dict}

Seed = Annotated[int, Ge(0), Lt(2**63)]
"""What torch takes as a seed, also with a picture's number added to it."""
Count = Annotated[int, Ge(1), Le(10**6)]
Updates = Annotated[int, Ge(1), Le(10**9)]
Pixels = Annotated[int, Ge(1), Le(8192)]
Share = Annotated[float, Ge(0), Le(1)]
Guidance = Annotated[float, Ge(0), Le(1000)]

BASIC = Field(json_schema_extra={"level": "basic"})
"""Marks a setting that most people need: `name: Annotated[str, BASIC]`. All others are advanced."""


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
        if isinstance(value, tuple):
            return tuple(map(cls._plain, value))
        if isinstance(value, str) and "\0" in value:
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
            raise refusal(flags(cls), error) from None

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """The same from Python, for settings without branches: paths may be given for texts, and None for what is left out."""
        return cls.parse(from_python(settings))

    def updated(self, values: Mapping[tuple[str, ...], Any]) -> Self:
        """A copy with some leaves changed, validated anew; what was set by hand before still counts as set by hand."""
        tree = self.model_dump(exclude_unset=True)
        for path, value in values.items():
            place(tree, path, value)
        return self.parse(tree)


def from_python(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by flat names as a parser takes them: paths as texts, and without None, which means left out."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items() if value is not None}


def flags(tree: type[Setting]) -> dict[str, Flag]:
    """All leaves of a tree by flag name. A name stands alone when it is unique in the tree, else it carries its branch."""
    return dict(_flags(tree))


@lru_cache(64)  # a tree of a user's own method is a class that is made anew each time it is named
def _flags(tree: type[Setting]) -> dict[str, Flag]:
    leaves = list(_leaves(tree, (), ""))
    counts = Counter(leaf.name for leaf in leaves)
    return {name: replace(leaf, name=name) for leaf in leaves for name in [_flag_name(leaf, counts)]}


def extended(tree: type[Setting], branch: str, member: type[Setting], kind: str) -> type[Setting]:
    """The same tree with one more member in the union at `branch`, known there by `kind`: how a user's own class gets its flags."""
    new: Any = create_model  # its typed overloads do not know fields that are named at run time
    known = new(member.__name__, __base__=member, __doc__=member.__doc__, kind=(Literal[kind], kind))
    info = tree.model_fields[branch]
    kept: dict[str, Any] = {"description": info.description, "json_schema_extra": info.json_schema_extra}
    union = Annotated[Union[(*_settings_of(info.annotation), known)], Field(discriminator="kind", **kept)]
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


def _may_be_empty(info: FieldInfo) -> bool:
    """Whether a field holds a branch, a list or a mapping, and no None of its own."""
    has_none = get_origin(info.annotation) in (Union, types.UnionType) and type(None) in get_args(info.annotation)
    return not has_none and bool(_settings_of(info.annotation) or _LISTS & set(map(get_origin, members_of(info.annotation))))


def _as_meant(info: FieldInfo, value: Any, *, is_prose: bool) -> Any:
    """A value as its field wants it: one of a list as a list, 1e3 as a whole number."""
    members = members_of(info.annotation)
    kinds = _LISTS & set(map(get_origin, members))
    if kinds and dict not in kinds and isinstance(value, str | int | float):
        return items_of([value], is_prose=is_prose) if isinstance(value, str) else [value]
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
            yield Flag(
                name,
                here,
                _annotation(info),
                default,
                help_text,
                group,
                is_prose=name in tree.prose,
                level=_level(info),
                alone=tree.alone.get(name),
            )
        elif len(branches) == 1:
            yield from _leaves(branches[0], here, _title(branches[0]))
        else:
            yield from _union_leaves(branches, here, info, help_text)


def _union_leaves(branches: list[type[Setting]], path: tuple[str, ...], info: FieldInfo, help_text: str) -> Iterator[Flag]:
    """The leaves of a discriminated union: `--method` chooses the member, the members' leaves are merged by name."""
    kinds, default = {b.model_fields["kind"].default: b for b in branches}, info.get_default(call_default_factory=True)
    group = _title(branches[0].__mro__[1])
    titles = {kind: _title(member) for kind, member in kinds.items()}
    merged: dict[str, Flag] = {}
    for kind, member in kinds.items():
        for leaf in _leaves(member, path, group):
            name = leaf.path[-1]
            if name != "kind":
                merged.setdefault(name, leaf).kinds[kind] = leaf.default
    yield Flag(path[-1], (*path, "kind"), str, default.kind if default else None, help_text, group, members=titles, level=_level(info))
    yield from merged.values()


def _level(info: FieldInfo) -> Literal["basic", "advanced"]:
    extra = info.json_schema_extra
    return "basic" if isinstance(extra, dict) and extra.get("level") == "basic" else "advanced"


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
