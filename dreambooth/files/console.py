"""Tables of plain text, for a terminal or a pipe."""

import io
from collections.abc import Collection, Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """Rows under their header in columns, those named in `right` flush right; a line is as long as its cells make it."""
    from rich.console import Console  # here: only commands with a table need it
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=100_000, color_system=None, legacy_windows=False, force_jupyter=False).print(table)
    head, *lines = (line.rstrip() for line in out.getvalue().splitlines())
    rule = "-" * min(110, max(map(len, [head, *lines])))  # in letters that every encoding has
    return "\n".join([head, rule, *lines])
