"""One leaf of a tree of settings, as the command line, the web page and the documentation see it."""

import math
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr

AUTOMATIC = re.compile(r"; automatic: (.+?)(?=\.(?: |$))")
"""How a field's docstring says what it is when it is not given: `...; automatic: the run's own.`"""


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

    members: dict[str, str] = field(default_factory=dict)
    """Of a flag that chooses a member of a union: their kinds, each with what it is."""
    is_prose: bool = False
    alone: str | None = None
    """What it means on the command line without a value; None where it needs one."""
    level: Literal["basic", "advanced"] = "advanced"
    """Whether most people need it: what is basic is shown first, by `--help` and by the web page."""

    @property
    def summary(self) -> str:
        """What it does, without what it is when it is not given."""
        return AUTOMATIC.sub("", " ".join(self.help.split()))

    @property
    def sentences(self) -> str:
        """All that is said about it, in one line: what each member of a union is, too."""
        return " ".join(self.help.split()) + "".join(f" {kind}: {title}" for kind, title in self.members.items())

    @property
    def automatic(self) -> str:
        """What it is when it is not given, where that is found and no fixed value; empty for a fixed one."""
        found = AUTOMATIC.search(" ".join(self.help.split()))
        return found[1] if found else ""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number that it takes; infinite where there is no bound."""
        marks = [mark for mark in _marks(self.annotation) if isinstance(mark, Ge | Gt | Le | Lt)]
        lows = [float(one.ge if isinstance(one, Ge) else one.gt) for one in marks if isinstance(one, Ge | Gt)]  # type: ignore[arg-type]
        highs = [float(one.le if isinstance(one, Le) else one.lt) for one in marks if isinstance(one, Le | Lt)]  # type: ignore[arg-type]
        return max(lows, default=-math.inf), min(highs, default=math.inf)

    @property
    def branch(self) -> str:
        """The branch of the tree that it stands in, `general` at its root."""
        return self.path[0] if len(self.path) > 1 else "general"

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
        return tuple(self.members) or tuple(str(c) for m in members_of(self.annotation) if get_origin(m) is Literal for c in get_args(m))

    def items(self, words: Sequence[str]) -> list[str]:
        """The items of a list, which may also stand in one word with commas between them; in free text a comma is a comma."""
        return items_of(words, is_prose=self.is_prose)

    @property
    def type_name(self) -> str:
        """The kind of value in a reader's words: `{no, fp16, bf16}`, `number`, `text` ..."""
        words, members = {int: "integer", float: "number", str: "text", bool: "switch"}, members_of(self.annotation)
        if self.members:
            return "{" + ", ".join(self.members) + "}"
        if self.choices:
            return " or ".join([*(words[m] for m in members if m in words), "{" + ", ".join(self.choices) + "}"])
        for member in members:
            inner = members_of(get_args(member)[0])[0] if get_origin(member) in (tuple, list) and get_args(member) else member
            if inner in words:
                return words[inner] + (" ..." if self.is_list else "")
        return "text" + (" ..." if self.is_list else "")


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The types a field may have, with Annotated and unions taken apart and None left out."""
    if get_origin(annotation) is Annotated:
        return members_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(m for arg in get_args(annotation) for m in members_of(arg) if m is not type(None))
    return (annotation,)


def _marks(annotation: Any) -> Iterator[Any]:
    """What stands in a type beside it, at any depth: bounds and the like."""
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
    for inner in get_args(annotation):
        yield from _marks(inner)


def items_of(words: Sequence[str], *, is_prose: bool) -> list[str]:
    return list(words) if is_prose else [item.strip() for word in words for item in word.split(",") if item.strip()]
