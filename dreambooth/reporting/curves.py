"""Curves as inline SVG: they scale with the page, follow its colours, and need no script."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup, escape

from dreambooth.metrics import METRICS
from dreambooth.reporting.table import number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 220, 46, 12, 12, 30
MOST = 400
"""Points of a drawn line; a screen shows no more."""
LIVE = ("dino", "clip_t", "pres", "div", "copying")
"""Metrics of the evaluation passes."""
LOSSES = (("loss_subject", "subject", "error on your photos"), ("loss_prior", "prior", "error on the class images"))


@dataclass(frozen=True)
class Curve:
    """One line of a chart: (step, value) in order."""

    name: str
    points: tuple[tuple[float, float], ...]
    meaning: str = ""
    """What it says, in a few words."""
    smooth: bool = False
    """Whether the values are noisy: then they stand faintly behind their running mean."""


@dataclass(frozen=True)
class Chart:
    """One picture of curves that share a scale."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    """Name and meaning of each curve, in order."""


@dataclass(frozen=True)
class Measured:
    """A metric of the evaluation passes, in words."""

    title: str
    value: str
    meaning: str


def charts(rows: Sequence[Mapping[str, float]], *, chosen: int | None = None) -> list[Chart]:
    """What a run's metrics.jsonl shows: the loss, and the scores of its evaluation passes; with a mark at the chosen step."""
    found = []
    loss = [_curve(rows, key, name, meaning, smooth=True) for key, name, meaning in LOSSES]
    found.append(_chart("Loss per picture", loss, chosen))
    for title, keys in (("Fidelity and copying", ("dino", "pres", "copying")), ("Prompt fidelity", ("clip_t",)), ("Diversity", ("div",))):
        found.append(_chart(f"{title} on held-out prompts", [_curve(rows, key, METRICS[key].title, meaning(key)) for key in keys], chosen))
    return [chart for chart in found if chart]


def measured(rows: Sequence[Mapping[str, float]]) -> list[Measured]:
    """What the evaluation passes of a run say: each score before training and at the last one; one number where there was one pass."""
    passes = [row for row in rows if "dino" in row]
    ends = list({row["step"]: row for row in (*passes[:1], *passes[-1:])}.values())
    names = [name for name in LIVE if ends and all(name in row for row in ends)]
    values = {name: " → ".join(number(name, row[name]) for row in ends) for name in names}
    return [Measured(METRICS[name].title, value, meaning(name)) for name, value in values.items()]


def draw(curves: Sequence[Curve], *, mark: float | None = None) -> Markup:
    """An SVG of the curves over a common scale, with an upright line at `mark` where it lies among the steps."""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    low, high, ticks = scale(min(ys), max(ys))
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">']
    for tick in ticks:
        _, y = place(first, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for x, anchor in ((first, "start"), ((first + last) / 2, "middle"), (last, "end")):
        parts.append(f'<text class="tick" x="{place(x, low)[0]:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:.0f}</text>')
    if mark is not None and first <= mark <= last:
        x = place(mark, low)[0]
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for at, curve in enumerate(curves, start=1):
        line = _running_mean(curve.points) if curve.smooth else curve.points
        if curve.smooth:
            parts.append(_path([place(*p) for p in _thin(curve.points)], f"line faint line-{at}"))
        parts.append(_path([place(*p) for p in _thin(line)], f"line line-{at}"))
        if not curve.smooth:
            dots = (f'<circle class="dot line-{at}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in (place(*p) for p in line))
            parts.extend(dots)
        parts.append(f"<title>{escape(', '.join(c.name for c in curves))} over steps</title>")
    return Markup("".join(parts) + "</svg>")


def scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range of round numbers around two values, and four or five ticks in it."""
    span = max(high - low, 1e-6, abs(high) * 0.02)
    raw = span / 4
    unit = 10 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw - 1e-12)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    if top - bottom < step / 2:
        top += step
    count = round((top - bottom) / step)
    return bottom, top, [bottom + i * step for i in range(count + 1)]


def meaning(metric: str) -> str:
    """What a metric says, and which way is better."""
    better = METRICS[metric].better
    return METRICS[metric].meaning if better == "neither" else f"{METRICS[metric].meaning}; {better} is better"


def _curve(rows: Sequence[Mapping[str, float]], key: str, name: str, words: str, *, smooth: bool = False) -> Curve:
    points = [(float(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])]
    return Curve(name, tuple(points), words, smooth)


def _chart(title: str, curves: Sequence[Curve], mark: float | None) -> Chart | None:
    kept = [curve for curve in curves if len(curve.points) > 1]
    return Chart(title, draw(kept, mark=mark), tuple((curve.name, curve.meaning) for curve in kept)) if kept else None


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value averaged with its neighbours, an eighth of the curve wide."""
    half, count = max(1, len(points) // 16), len(points)
    sums = [0.0, *accumulate(y for _, y in points)]
    spans = [(max(0, i - half), min(count, i + half + 1)) for i in range(count)]
    return [(x, (sums[stop] - sums[start]) / (stop - start)) for (x, _), (start, stop) in zip(points, spans, strict=True)]


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most so many of the points, evenly, first and last among them."""
    if len(points) <= MOST:
        return points
    return [points[round(i * (len(points) - 1) / (MOST - 1))] for i in range(MOST)]


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
