"""Everything that is drawn from a bench's rows, in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dreambooth.bench.job import Row
from dreambooth.bench.tables.document import document
from dreambooth.bench.tables.layout import Layout
from dreambooth.bench.tables.results import results
from dreambooth.bench.tables.text import as_csv, as_markdown, print_document, tests_csv
from dreambooth.files.atomic import write_text


def write_tables(rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], layout: Layout, folder: Path) -> list[Path]:
    """bench.md, bench.csv and bench-tests.csv in `folder`; returns their paths.

    A failure names `arm`, `subject`, `seed`, `kind` and `reason`. Raises SettingError for rows that do not fit the layout.
    """
    words, numbers = document(rows, failures, layout), results(rows, layout)
    texts = {"bench.md": as_markdown(words), "bench.csv": as_csv(numbers), "bench-tests.csv": tests_csv(numbers)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def print_tables(rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], layout: Layout, console: Console | None = None) -> None:
    """The same on a terminal."""
    print_document(document(rows, failures, layout), console or Console(highlight=False))
