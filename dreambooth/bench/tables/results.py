"""From rows to numbers: every line and column of a table, who is best, and which of the paper's orderings hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dreambooth.bench.job import Row
from dreambooth.bench.tables.layout import REAL, REAL_PAIRS, UNTUNED, Layout
from dreambooth.bench.tables.statistics import Paired, Summary, Values, paired, summary
from dreambooth.core.errors import SettingError
from dreambooth.metrics import METRICS
from dreambooth.reporting.table import is_comparable
from dreambooth.schema import nearest

LEAST_GAP = 0.005
"""Values of the paper that are closer are no ordering: its tables print three decimals without a spread."""
OTHER_MODEL, OTHER_SUITE = "another model", "other encoders, or another suite"


@dataclass(frozen=True)
class Cell:
    """One number of a table with what belongs to it."""

    metric: str
    summary: Summary | None
    paper: float | None
    best: bool = False
    """Better than every other arm, with a paired interval that excludes zero."""


@dataclass(frozen=True)
class Line:
    """One way of learning, or the untuned model, or the real photos."""

    name: str
    cells: tuple[Cell, ...]
    is_arm: bool

    @property
    def n(self) -> Summary | None:
        """The cell that stands on most jobs; its counts are the line's."""
        return max((c.summary for c in self.cells if c.summary), key=lambda s: s.n, default=None)


@dataclass(frozen=True)
class Comparison:
    """Two lines on one metric, over the jobs that both have. `paper`: the paper's two values, where it has them."""

    first: str
    second: str
    metric: str
    paired: Paired | None
    paper: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """For one of the paper's orderings: holds, reversed or undecided."""
        assert self.paper is not None, "only the paper's orderings hold or not"
        sign = self.paired.sign if self.paired else 0
        return "undecided" if sign == 0 else "holds" if sign * (self.paper[0] - self.paper[1]) > 0 else "reversed"


@dataclass(frozen=True)
class Results:
    """Everything that a table prints, before it is words."""

    layout: Layout
    lines: tuple[Line, ...]
    by_class: Mapping[str, tuple[Line, ...]]
    tests: tuple[Comparison, ...]
    orderings: tuple[Comparison, ...]
    undefined: Mapping[str, Mapping[str, int]]
    """Metric -> reason -> number of jobs."""
    toybox: bool
    apart: str
    """Why the paper's values cannot be compared with these one by one; empty where they can."""

    @property
    def paper_label(self) -> str:
        """How a line of the paper's values is called: paper (Imagen, 15 subjects)."""
        return f"paper ({self.layout.paper_of})" if self.layout.paper_of else "paper"


def results(rows: Sequence[Row], layout: Layout) -> Results:
    """The numbers of a plan's finished rows; raises SettingError for an unknown metric, or two rows of one job."""
    _check(rows, layout)
    values = values_of(rows, layout)
    toybox = any(row.toybox for row in rows)
    comparable = bool(rows) and all(is_comparable({"protocol": row.protocol}) for row in rows)
    nouns = sorted({row.noun for row in rows})
    by_class = {
        noun: _lines(values_of([row for row in rows if row.noun == noun], layout), replace(layout, paper={}), mark=False) for noun in nouns
    }
    baseline = layout.baseline or (layout.arms[0] if layout.arms else "")
    tests = [
        Comparison(arm, baseline, metric, paired(values[arm][metric], values[baseline][metric]))
        for arm in layout.arms for metric in layout.metrics if arm != baseline
    ]  # fmt: skip
    return Results(
        layout, _lines(values, layout, mark=True), by_class, tuple(t for t in tests if t.paired), tuple(_orderings(values, layout)),
        _undefined(rows, layout), toybox, OTHER_MODEL if toybox else "" if comparable else OTHER_SUITE,
    )  # fmt: skip


def values_of(rows: Sequence[Row], layout: Layout) -> dict[str, dict[str, Values]]:
    """Line -> metric -> (subject, seed) -> value. Lines that no arm has: real photos and the untuned model, one value a job.

    An arm that trains nothing is one job a subject, and stands beside every seed of the others. Where arms have base models of their own,
    there is no one untuned model.
    """
    seeds, one_model = sorted({row.seed for row in rows}), len({row.base for row in rows}) == 1
    found: dict[str, dict[str, dict[tuple[str, int], float]]] = {
        line: {metric: {} for metric in layout.metrics} for line in (REAL_PAIRS, REAL, UNTUNED, *layout.arms)
    }
    for row in rows:
        for metric in layout.metrics:
            for line, scores, name in (
                (REAL_PAIRS, row.real, f"{metric}_with_self_pairs"), (REAL, row.real, metric), (UNTUNED, row.untuned, metric),
            ):  # fmt: skip
                value = (scores.get(name) or {}).get("value")
                if value is not None and line not in layout.arms and (one_model or line != UNTUNED):
                    found[line][metric].setdefault((row.subject, row.seed), value)
            value = (row.scores.get(metric) or {}).get("value")
            if value is not None:
                for seed in seeds if row.arm in layout.untrained else (row.seed,):
                    found[row.arm][metric][row.subject, seed] = value
    return {line: dict(metrics) for line, metrics in found.items()}


def _check(rows: Sequence[Row], layout: Layout) -> None:
    for metric in layout.metrics:
        if metric not in METRICS:
            raise SettingError(
                "metrics", f"there is no metric {metric!r}.", fix=nearest(metric, METRICS) or f"There are {', '.join(METRICS)}."
            )
    if layout.baseline is not None and layout.baseline not in layout.arms:
        raise SettingError("baseline", f"the plan has no arm {layout.baseline!r}.", fix=f"Its arms: {', '.join(layout.arms)}.")
    for (arm, subject, seed), count in Counter((row.arm, row.subject, row.seed) for row in rows).items():
        if arm not in layout.arms:
            raise SettingError(
                "arms", f"there are rows of {arm!r}, which the table does not list.", fix=f"Its arms: {', '.join(layout.arms)}."
            )
        if count > 1:
            raise SettingError(
                "rows", f"{count} rows say that they are {arm!r}, {subject}, seed {seed}.", fix="Give one plan's rows at a time."
            )


def _lines(values: Mapping[str, Mapping[str, Values]], layout: Layout, *, mark: bool) -> tuple[Line, ...]:
    best = {metric: _best(values, layout, metric) if mark else None for metric in layout.metrics}
    lines = []
    for name, metrics in values.items():
        is_arm = name in layout.arms
        cells = []
        for metric in layout.metrics:
            found = summary(metrics[metric])
            if found and (not is_arm or name in layout.untrained):
                found = replace(found, sd=None, seeds=1, n=found.subjects)  # nothing was trained: one number a subject, whatever the seed
            cells.append(Cell(metric, found, layout.paper.get(name, {}).get(metric), best[metric] == name))
        if is_arm or any(cell.summary or cell.paper is not None for cell in cells):
            lines.append(Line(name, tuple(cells), is_arm))
    return tuple(lines)


def _best(values: Mapping[str, Mapping[str, Values]], layout: Layout, metric: str) -> str | None:
    """The arm that beats each other arm beyond doubt on the jobs they share; None where there is none, or no better direction."""
    sign = {"higher": 1, "lower": -1, "neither": 0}[METRICS[metric].better]
    arms = [arm for arm in layout.arms if values[arm][metric]]
    for arm in arms if sign and len(arms) > 1 else ():
        against = [paired(values[arm][metric], values[other][metric]) for other in arms if other != arm]
        if all(found is not None and found.sign == sign for found in against):
            return arm
    return None


def _orderings(values: Mapping[str, Mapping[str, Values]], layout: Layout) -> list[Comparison]:
    """Every two lines that the paper tells apart on a metric, the higher one first."""
    found = []
    for metric in layout.metrics:
        known = [(line, layout.paper[line][metric]) for line in values if metric in layout.paper.get(line, {})]
        known.sort(key=lambda pair: -pair[1])
        for place, (first, high) in enumerate(known):
            for second, low in known[place + 1 :]:
                if high - low >= LEAST_GAP:
                    both = paired(values[first][metric], values[second][metric])
                    found.append(Comparison(first, second, metric, both, (high, low)))
    return found


def _undefined(rows: Sequence[Row], layout: Layout) -> dict[str, dict[str, int]]:
    """Why values are missing."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for metric in layout.metrics:
            if (row.scores.get(metric) or {}).get("value") is None:
                found.setdefault(metric, Counter())[row.undefined.get(metric, "the row does not hold it.")] += 1
    return {metric: dict(reasons) for metric, reasons in found.items()}
