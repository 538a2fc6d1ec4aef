"""One metric at a glance: a dot and its interval for every line of the table, the paper's value as a diamond where it compares."""

from dataclasses import dataclass

from markupsafe import Markup, escape

from dreambooth.bench.tables.document import number, title_of
from dreambooth.bench.tables.results import Results

WIDTH, STEP, TOP = 420, 38, 8
EDGE = 14


@dataclass(frozen=True)
class Forest:
    """A drawn metric."""

    title: str
    svg: Markup


def forests(found: Results) -> list[Forest]:
    """One for each metric that two or more lines have."""
    drawn = [(metric, _marks(found, place)) for place, metric in enumerate(found.layout.metrics)]
    return [Forest(title_of(metric), _draw(metric, marks)) for metric, marks in drawn if len(marks) > 1]


def _marks(found: Results, place: int) -> list[tuple[str, float, tuple[float, float] | None, float | None, bool]]:
    """Name, mean, interval, the paper's value (of other encoders or another suite it is no place on this axis), whether it is an arm."""
    lines = [(line, line.cells[place]) for line in found.lines]
    compares = not found.apart
    return [(line.name, c.summary.mean, c.summary.interval, c.paper if compares else None, line.is_arm) for line, c in lines if c.summary]


def _draw(metric: str, marks: list[tuple[str, float, tuple[float, float] | None, float | None, bool]]) -> Markup:
    known = [x for _, mean, interval, paper, _ in marks for x in (mean, *(interval or ()), *([] if paper is None else [paper]))]
    low, high = min(known), max(known)
    pad = max((high - low) * 0.06, 0.004)

    def x(at: float) -> float:
        return EDGE + (at - low + pad) / (high - low + 2 * pad) * (WIDTH - 2 * EDGE)

    height = TOP + len(marks) * STEP
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" class="forest" role="img" aria-label="{escape(title_of(metric))}">']
    for row, (name, mean, interval, paper, is_arm) in enumerate(marks):
        y = TOP + row * STEP + 26
        kind = "" if is_arm else " other"
        parts.append(f'<text class="name" x="{EDGE - 10}" y="{y - 12}">{escape(name)}</text>')
        parts.append(f'<text class="value" x="{WIDTH - EDGE + 10}" y="{y - 12}" text-anchor="end">{number(metric, mean)}</text>')
        parts.append(f'<line class="grid" x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{y}" y2="{y}"/>')
        if interval:
            parts.append(f'<line class="bar{kind}" x1="{x(interval[0]):.1f}" x2="{x(interval[1]):.1f}" y1="{y}" y2="{y}"/>')
        if paper is not None:
            at = x(paper)
            parts.append(f'<path class="paper" d="M{at:.1f} {y - 6}l6 6l-6 6l-6 -6z"/>')
        parts.append(f'<circle class="here{kind}" cx="{x(mean):.1f}" cy="{y}" r="5"/>')
    return Markup("".join([*parts, "</svg>"]))
