"""The document as Markdown, on a terminal, and its numbers as CSV."""

import re
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreambooth.bench.job import Row
from dreambooth.bench.tables.document import TOYBOX_NOTE, WARNING, Document, Entry, Section
from dreambooth.bench.tables.layout import Layout
from dreambooth.bench.tables.results import Line, Results
from dreambooth.files.escaping import csv_text


def as_markdown(document: Document) -> str:
    """Headings, sentences and pipe tables."""
    parts = [f"**{TOYBOX_NOTE}**"] if document.toybox else []
    parts.append(f"# {_escaped(document.title)}")
    parts.append(_escaped(document.claim))
    for section in document.sections:
        parts.append(f"## {_escaped(section.title)}")
        if section.lines:
            parts.append("\n".join(_pipes(section)))
        parts.append(
            "\n".join(f"- {_escaped(s)}" for s in section.sentences) if len(section.sentences) > 1 else _escaped("".join(section.sentences))
        )
    parts.append("## What the numbers stand on")
    parts.append("\n".join(f"- {_escaped(name)}: {_escaped(value)}" for name, value in document.facts))
    parts += [f"**{TOYBOX_NOTE}**"] if document.toybox else []
    return "\n\n".join(part for part in parts if part) + "\n"


def print_document(document: Document, console: Console) -> None:
    """Its claim and its main table on a terminal; a small one gets narrower columns, never fewer. The page has the rest."""
    if document.toybox:
        console.print(Text(TOYBOX_NOTE, style="bold yellow"))
    console.print(Text(document.title, style="bold"))
    main = document.sections[0]
    console.print(_rich(main))
    for sentence in main.sentences:
        console.print(Text(sentence, style="bold" if sentence.startswith(WARNING) else "dim"))
    if document.claim:
        console.print(Text(document.claim))


def as_csv(found: Results) -> str:
    """One line a number: scope (all, or a class noun), arm, metric, and everything that is known of it."""
    head = ("toybox", "scope", "arm", "metric", "mean", "sd_over_seeds", "low", "high", "subjects", "seeds", "n", "best", "paper")
    every = [(scope, line) for scope, lines in (("all", found.lines), *found.by_class.items()) for line in lines]
    return csv_text([head, *((int(found.toybox), scope, *numbers) for scope, line in every for numbers in _numbers(line))])


def subjects_csv(rows: Sequence[Row], layout: Layout) -> str:
    """One line a number of one subject learned in one way from one seed, with its interval; beside it the untuned model and real photos."""
    lines: list[Sequence[object]] = [
        ("toybox", "arm", "subject", "class", "seed", "metric", "value", "low", "high", "n", "untuned", "real")
    ]
    for row in sorted(rows, key=lambda row: (row.subject, row.arm, row.seed)):
        for metric in layout.metrics:
            own, others = row.scores.get(metric, {}), (row.untuned.get(metric, {}), row.real.get(metric, {}))
            numbers = [*(own.get(name) for name in ("value", "low", "high", "n")), *(other.get("value") for other in others)]
            lines.append((int(row.toybox), row.arm, row.subject, row.noun, row.seed, metric, *map(_plain, numbers)))
    return csv_text(lines)


def tests_csv(found: Results) -> str:
    """One line a comparison: against the baseline, and of the paper's orderings."""
    head = (
        "toybox", "kind", "first", "second", "metric", "difference", "low", "high", "p", "pairs", "subjects", "verdict", "paper_first",
        "paper_second",
    )  # fmt: skip
    rows: list[Sequence[object]] = [head]
    for kind, comparisons in (("baseline", found.tests), ("ordering", found.orderings)):
        for c in comparisons:
            own, low, high = c.paired, *((c.paired and c.paired.interval) or (None, None))
            judged = c.verdict if c.paper else {1: "higher", -1: "lower", 0: "undecided"}[own.sign if own else 0]
            numbers = [own.difference, low, high, own.p, own.n, own.subjects] if own else [None] * 4 + [0, 0]
            rows.append(
                [int(found.toybox), kind, c.first, c.second, c.metric, *map(_plain, numbers), judged, *map(_plain, c.paper or (None, None))]
            )
    return csv_text(rows)


def _numbers(line: Line) -> Iterator[tuple[str, ...]]:
    for cell in line.cells:
        own, (low, high) = cell.summary, ((cell.summary and cell.summary.interval) or (None, None))
        numbers = [own.mean, own.sd, low, high, own.subjects, own.seeds, own.n] if own else [None] * 4 + [0, 0, 0]
        yield (line.name, cell.metric, *map(_plain, numbers), str(int(cell.best)), _plain(cell.paper))


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _pipes(section: Section) -> Iterator[str]:
    yield "| " + " | ".join(map(_escaped, section.header)) + " |"
    yield "|" + "---|" * len(section.header)
    for number, line in enumerate(section.lines):
        yield "| " + " | ".join(_marked(entry, quiet=number in section.quiet) for entry in line) + " |"


def _marked(entry: Entry, *, quiet: bool) -> str:
    text = _escaped(entry.text)
    text = f"**{text}**" if entry.strong else f"*{text}*" if quiet and text else text
    return f"{text} {_escaped(entry.more)}".rstrip()


def _escaped(text: str) -> str:
    """Words of other people (names of arms, reasons) say in Markdown what they said."""
    return re.sub(r"([\\`*_|<>]|\](?=[(\[:]))", r"\\\1", " ".join(text.split()))


def _rich(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", title_style="bold", header_style="dim")
    for name in section.header:
        table.add_column(Text(name), overflow="fold")
    for number, line in enumerate(section.lines):
        cells = []
        for entry in line:
            text = Text(entry.text, style="bold green" if entry.strong else "dim italic" if number in section.quiet else "")
            if entry.more:
                text.append(f"\n{entry.more}", style="dim")
            cells.append(text)
        table.add_row(*cells, end_section=section.title == "Scores" and number + 1 not in section.quiet)
    return table
