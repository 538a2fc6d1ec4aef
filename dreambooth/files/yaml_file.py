"""YAML files that people write: each value is the text that a flag would get, and the setting that it is for says what it means.

YAML 1.1 guesses by itself what a word is: `no` is false, `1e-4` a text, `007` seven, `12:30` 750, `2024-05-01` a date. Here nothing is
guessed: `mixed_precision: no`, `learning_rate: 1e-4` and `class_noun: on` mean what `--mixed_precision no` and the others mean. Only `~`,
`null` and a name without a value are None.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.text import read_text

MAX_BYTES = 128 * 2**10
"""A complete configuration takes 4 KiB; reading more takes seconds."""
MAX_DEPTH, MAX_VALUES = 40, 20_000
"""Bounds on what is read, aliases written out: a few lines of them can stand for gigabytes."""
CORE = "tag:yaml.org,2002:"
NOTHING, MERGE, FLOAT = f"{CORE}null", f"{CORE}merge", f"{CORE}float"
SCALARS = {NOTHING, MERGE, FLOAT, *(f"{CORE}{name}" for name in ("str", "int", "bool", "timestamp", "value"))}
PLAINER = {"second occurrence": "this anchor has been named before"}
"""What the library says too shortly."""


def read_yaml_file(path: Path, setting: str) -> Any:
    """The lists, mappings and texts of a YAML file; None for one without any.

    Raises SettingError that names `setting`, the file, the line and the column: for what is no YAML, a name that stands twice, several
    documents, tags of programs, and more than can have been meant.
    """
    text = read_text(path, setting)
    if len(text) > MAX_BYTES:
        raise SettingError(setting, f"{path} is too large: at most {size(MAX_BYTES)} are read.", fix="Is it the right file?")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise _refusal(setting, path, line, column, f"the character {shown(chr(error.character))} may not stand in YAML") from None
    except yaml.MarkedYAMLError as error:
        raise _explained(setting, path, error, text) from None
    except (ValueError, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"a number in it cannot be read ({error})"
        raise SettingError(setting, f"{path}: {reason}.", fix="Is it the right file?") from None
    return None if node is None else _Tree(path, setting).value(node)


@dataclass
class _Tree:
    """What becomes of YAML's nodes."""

    path: Path
    setting: str
    left: int = MAX_VALUES

    def value(self, node: Any, depth: int = 0) -> Any:
        """A node with all that is in it."""
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise self.refused(node, "it is nested too deeply" if depth > MAX_DEPTH else "it holds too many values")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{CORE}map":
            return self.mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{CORE}seq":
            return [self.value(item, depth + 1) for item in node.value]
        if node.tag not in SCALARS:
            raise self.refused(node, f"the tag {shown(node.tag.removeprefix(CORE))} says nothing here", fix="Leave it out.")
        if node.tag == NOTHING:
            return None
        is_special = node.tag == FLOAT and node.value.lower().endswith((".inf", ".nan"))
        return node.value.replace(".", "") if is_special else node.value

    def mapping(self, node: Any, depth: int) -> dict[str, Any]:
        """A mapping, with what `<<` puts into it below its own."""
        out: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or (key.tag == NOTHING and not key.value):
                raise self.refused(key, "a name is missing before the colon")
            name, line = key.value, key.start_mark.line + 1
            if name in lines:
                raise self.refused(key, f"{shown(name)!r} stands here and in line {lines[name]}", fix="Leave out one of them.")
            lines[name] = line
            if key.tag == MERGE:
                merged = self.merged(value, depth)
            else:
                out[name] = self.value(value, depth + 1)
        return {**merged, **out}

    def merged(self, node: Any, depth: int) -> dict[str, Any]:
        """What `<<` names: a mapping, or several, of which the first counts most."""
        parts = self.value(node, depth + 1)
        merged: dict[str, Any] = {}
        for part in reversed(parts if isinstance(parts, list) else [parts]):
            if not isinstance(part, dict):
                raise self.refused(node, "`<<` needs a mapping (an alias of one)")
            merged |= part
        return merged

    def refused(self, node: Any, reason: str, *, fix: str = "") -> SettingError:
        return _refusal(self.setting, self.path, node.start_mark.line + 1, node.start_mark.column + 1, reason, fix=fix)


def _explained(setting: str, path: Path, error: yaml.MarkedYAMLError, text: str) -> SettingError:
    """The library's finding with its place; a tab, which most editors do not show, by name."""
    mark = error.problem_mark or error.context_mark
    assert mark, "the parser marks what it finds"
    reason, fix = str(error.problem or error.context).replace(r"'\x00'", "the end of the file"), ""
    if text[mark.index : mark.index + 1] == "\t":
        reason, fix = "a tab stands here", "YAML wants spaces."
    elif "single document" in str(error.context):
        reason, fix = "a second document begins", "Give one: leave out the line ---."
    return _refusal(setting, path, mark.line + 1, mark.column + 1, PLAINER.get(reason, reason), fix=fix)


def _refusal(setting: str, path: Path, line: int, column: int, reason: str, *, fix: str = "") -> SettingError:
    return SettingError(setting, f"{path}, line {line}, column {column}: {reason}.", fix=fix)
