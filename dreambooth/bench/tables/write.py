"""Everything that is drawn from a bench's rows, in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dreambooth.bench.job import Row
from dreambooth.bench.tables.arms import ARMS, write_arms
from dreambooth.bench.tables.document import document
from dreambooth.bench.tables.figure import figure
from dreambooth.bench.tables.latex import as_latex
from dreambooth.bench.tables.layout import Layout
from dreambooth.bench.tables.page import page
from dreambooth.bench.tables.pictures import arms_with_pictures, galleries
from dreambooth.bench.tables.results import results
from dreambooth.bench.tables.text import as_csv, as_markdown, print_document, subjects_csv, tests_csv
from dreambooth.files.atomic import whole_file, write_text
from dreambooth.files.places import remove

FIGURE = "figure.png"


def write_tables(
    rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], layout: Layout, folder: Path, *, waiting: int = 0
) -> list[Path]:
    """bench.html, .md, .tex, .csv, bench-tests.csv, bench-subjects.csv, arms.json (which jobs are whose) and, with pictures, figure.png.

    The rows' pictures are looked for from `folder` and from the two folders above it. A failure names `arm`, `subject`, `seed`, `kind`
    and `reason`; `waiting` jobs are not done yet. Returns the files' paths; raises SettingError for rows that do not fit the layout.
    """
    numbers = results(rows, layout)
    words = document(numbers, rows, failures, waiting=waiting)
    root = _root(rows, folder)
    texts = {
        "bench.html": page(words, numbers, rows, root), "bench.md": as_markdown(words), "bench.tex": as_latex(words),
        "bench.csv": as_csv(numbers), "bench-tests.csv": tests_csv(numbers), "bench-subjects.csv": subjects_csv(rows, layout),
    }  # fmt: skip
    for name, text in texts.items():
        write_text(folder / name, text)
    write_arms(folder, {arm: sorted(row.key for row in rows if row.arm == arm) for arm in layout.arms})
    drawn = _write_figure(rows, layout, root, folder, toybox=words.toybox)
    return [folder / name for name in (*texts, ARMS)] + ([folder / FIGURE] if drawn else [])


def print_tables(
    rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], layout: Layout, console: Console | None = None, *, waiting: int = 0
) -> None:
    """The same on a terminal."""
    print_document(document(results(rows, layout), rows, failures, waiting=waiting), console or Console(highlight=False))


def _root(rows: Sequence[Row], folder: Path) -> Path:
    """The bench's output folder: `folder` itself, or the one above it from which the rows name their pictures."""
    names = [name for row in rows for some in row.pictures.values() for name in some]
    places = (folder, *folder.absolute().parents[:2])
    return next((place for place in places if any((place / name).is_file() for name in names)), folder)


def _write_figure(rows: Sequence[Row], layout: Layout, root: Path, folder: Path, *, toybox: bool) -> bool:
    """The arms side by side; False where there is nothing to show, and then no older figure stays either."""
    arms = arms_with_pictures(rows, layout)
    shown = galleries(rows, layout, root, arms=arms) if arms else []
    seeds = ", ".join(map(str, sorted({gallery.seed for gallery in shown})))
    footer = f"{'toybox · ' if toybox else ''}{layout.title} · equal prompts and seeds in all columns · training seed {seeds}"
    image = figure(shown, arms, title=f"{'toybox: ' if toybox else ''}{layout.title}", footer=footer)
    if image is None:
        remove(folder / FIGURE, root=folder)
        return False
    with whole_file(folder / FIGURE) as partial:
        image.save(partial, "PNG")
    return True
