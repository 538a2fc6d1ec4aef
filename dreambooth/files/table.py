"""Tables that people write (CSV), as spreadsheets of all countries save them: with commas, semicolons or tabs between the cells."""

import csv
import io
from collections.abc import Collection
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import nearest, shortened
from dreambooth.files.escaping import from_cell
from dreambooth.files.text import read_text


def read_table(
    path: Path, setting: str, *, needed: Collection[str], known: Collection[str] | None = None
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table whose first line names its columns, each with the number of its line; cells without the blanks around them,
    and without the apostrophe by which `escaping.cell` keeps a spreadsheet from computing them.

    Raises SettingError that names the file and the line: for a column that is missing, stands twice or is none of `known` (any may stand
    there when that is left out), for a row with more cells than columns, and for quotes that are not closed.
    """
    text = read_text(path, setting)
    between = max(",;\t", key=text.split("\n", 1)[0].count)
    rows: list[tuple[int, list[str]]] = []
    try:
        reader = csv.reader(io.StringIO(text), delimiter=between, skipinitialspace=True, strict=True)
        rows = [(reader.line_num, [from_cell(cell.strip()).strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        reason = f"{path}, line {rows[-1][0] + 1 if rows else 1}: {error}."
        raise SettingError(setting, reason, fix='A cell that holds commas or quotes is written "so, and ""so""".') from None
    columns = rows[0][1] if rows else []
    for name in columns:
        if known is not None and name not in known:
            reason = f"{path}: there is no column {shortened(repr(name))}; there are {', '.join(known)}."
            raise SettingError(setting, reason, fix=nearest(name, known))
        if columns.count(name) > 1:
            raise SettingError(setting, f"{path}: the column {shortened(repr(name))} stands twice.", fix="Leave out one of them.")
    for name in needed:
        if name not in columns:
            raise SettingError(setting, f"{path}: there is no column {name}.", fix=f"The first line is: {','.join(known or needed)}")
    for line, cells in rows[1:]:
        if len(cells) > len(columns):
            reason = f"{path}, line {line}: {len(cells)} cells for {len(columns)} columns."
            raise SettingError(setting, reason, fix='A cell that holds commas is written in quotes: "a red dog, asleep".')
    return [(line, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))) for line, cells in rows[1:]]
