"""The rule by which a result is accepted: comparisons of its scores and its verdict, with `and`, `or`, `not` and brackets. Nothing in it
is ever run as code: it is parsed, everything but those few things is refused, and what is left is read off here.

    verdict != overfitted and fidelity > 0.5
    verdict in (good, fair) or dino >= 0.6
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import nearest
from dreambooth.evaluation.verdict import WORDS, relative
from dreambooth.metrics import METRICS

FLAG = "--accept"
LONGEST = 1000
VERDICT = "verdict"
FIGURES = tuple(relative({}, {}, {}))
SCORES = (*METRICS, *(name for name in FIGURES if name not in METRICS))
"""What a rule may compare with numbers: every metric, and the figures that the verdict stands on."""
EXAMPLE = 'Example: --accept "verdict != overfitted and fidelity > 0.5".'
COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda one, some: one in some, ast.NotIn: lambda one, some: one not in some,
}  # fmt: skip
SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


class NotMeasured(Exception):
    """A score that the rule asks for was not made; the text is its name."""


@dataclass(frozen=True)
class Rule:
    """What was asked for, checked: every name in it is known, every comparison is of two things of one kind."""

    text: str
    tree: ast.expr

    def accepts(self, values: Mapping[str, float | str]) -> bool:
        """Whether a result with these scores, and its verdict, is accepted; raises NotMeasured for a name that has no value."""
        return _holds(self.tree, values)

    def names(self) -> tuple[str, ...]:
        """The scores that it reads, in order."""
        found = (node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id in (*SCORES, VERDICT))
        return tuple(dict.fromkeys(found))


def parse_rule(text: str) -> Rule:
    """The rule of a text; raises SettingError that names the part which is none, with the nearest name."""
    try:
        if len(text) > LONGEST:
            raise SettingError(FLAG, f"it has more than {LONGEST} letters.", fix=EXAMPLE)
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(FLAG, f"{text!r} cannot be read.", fix=EXAMPLE) from None
    return Rule(text.strip(), tree)


def _check(node: ast.expr) -> None:
    """See that a part is a comparison, or several of them put together."""
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check(part)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand)
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for one, sign, other in zip(sides, node.ops, sides[1:], strict=False):
            _check_pair(one, sign, other)
    else:
        raise SettingError(FLAG, f"{ast.unparse(node)} compares nothing.", fix=EXAMPLE)


def _check_pair(one: ast.expr, sign: ast.cmpop, other: ast.expr) -> None:
    """See that both sides are numbers, or both are words, and that the sign is one for them."""
    kinds, sign_text = (_kind(one), _kind(other)), SIGNS.get(type(sign), "is")
    is_list = isinstance(other, ast.Tuple | ast.List)
    if sign_text not in SIGNS.values() or is_list != isinstance(sign, ast.In | ast.NotIn) or isinstance(one, ast.Tuple | ast.List):
        raise SettingError(FLAG, f"{ast.unparse(one)} {sign_text} {ast.unparse(other)} compares nothing.", fix=EXAMPLE)
    if kinds[0] != kinds[1]:
        reason = f"{ast.unparse(one)} is a {kinds[0]} and {ast.unparse(other)} a {kinds[1]}."
        raise SettingError(FLAG, reason, fix=f"The verdict is one of {', '.join(WORDS)}; scores are numbers.")
    if kinds[0] == "word" and sign_text in ("<", "<=", ">", ">="):
        raise SettingError(FLAG, f"words have no order ({sign_text}).", fix="Compare the verdict by ==, != or in.")


def _kind(node: ast.expr) -> str:
    """`number` or `word`; raises SettingError for what is neither."""
    if isinstance(node, ast.Tuple | ast.List) and node.elts:
        kinds = {_kind(part) for part in node.elts}
        if len(kinds) > 1 or any(isinstance(part, ast.Tuple | ast.List) for part in node.elts):
            raise SettingError(FLAG, f"{ast.unparse(node)} mixes numbers and words.", fix=EXAMPLE)
        return kinds.pop()
    if isinstance(node, ast.Name):
        known = (VERDICT, *WORDS, *SCORES)
        if node.id not in known:
            fix = nearest(node.id, known) or f"There are {VERDICT} ({', '.join(WORDS)}), {', '.join(SCORES)}."
            raise SettingError(FLAG, f"there is no score {node.id!r}.", fix=fix)
        return "number" if node.id in SCORES else "word"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value not in WORDS:
            raise SettingError(FLAG, f"no verdict is {node.value!r}.", fix=nearest(node.value, WORDS) or f"There are {', '.join(WORDS)}.")
        return "word"
    if _number(node) is None:
        raise SettingError(FLAG, f"{ast.unparse(node)} is neither a score nor a number.", fix=EXAMPLE)
    return "number"


def _number(node: ast.expr) -> float | None:
    """A number, which may have a sign before it."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _number(node.operand)
        return None if value is None else -value if isinstance(node.op, ast.USub) else value
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return node.value if is_number else None  # type: ignore[return-value,union-attr]


def _holds(node: ast.expr, values: Mapping[str, float | str]) -> bool:
    if isinstance(node, ast.BoolOp):
        parts = [_holds(part, values) for part in node.values]  # all of them: a score that is missing is named, whatever the others say
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.UnaryOp):
        return not _holds(node.operand, values)
    assert isinstance(node, ast.Compare)
    sides = [_value(side, values) for side in (node.left, *node.comparators)]
    return all(COMPARED[type(sign)](one, other) for one, sign, other in zip(sides, node.ops, sides[1:], strict=False))


def _value(node: ast.expr, values: Mapping[str, float | str]) -> Any:
    if isinstance(node, ast.Tuple | ast.List):
        return [_value(part, values) for part in node.elts]
    if isinstance(node, ast.Name) and node.id in (VERDICT, *SCORES):
        if node.id not in values:
            raise NotMeasured(node.id)
        return values[node.id]
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) else _number(node)
