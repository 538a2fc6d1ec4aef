"""Words of other people (prompts, names, subjects) in files of other programs: they are shown there, and do nothing."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FORMULA = re.compile(r"'*\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]")
"""How a cell begins that a spreadsheet would compute, or that looks like one mended here; some also take the wide East Asian signs."""
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. Words that a spreadsheet would take for a formula get an apostrophe before them; numbers stay numbers."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[cell(value) for value in row] for row in rows])
    return out.getvalue()


def cell(value: Any) -> Any:
    """A value as a cell shows it, in one line."""
    if not isinstance(value, str):
        return value
    line = " ".join(value.splitlines()) if "\n" in value or "\r" in value else value
    return f"'{line}" if FORMULA.match(line) and not NUMBER.fullmatch(line.strip()) else line


def from_cell(text: str) -> str:
    """The words of a cell as they were before `cell`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text[1:]) else text


def markdown(text: str) -> str:
    """Words in a line of Markdown: no markup, no HTML, and no line of their own."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN.sub(r"\\\1", plain)


def python_text(text: str) -> str:
    """A text as Python writes it, in one line, where it can end neither its quotes nor the code that it stands in."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\`' else _escaped(c) for c in text) + '"'


def _escaped(letter: str) -> str:
    return {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(letter) or f"\\U{ord(letter):08x}"
