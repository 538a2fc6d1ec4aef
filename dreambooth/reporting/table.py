"""The report's table of scores: this model, the untuned one, the real photos, the paper; and a strip that shows them on one line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dreambooth.metrics import DETECTORS, EXTRAS, SCORES, Metric

PAPER_ENCODERS = {"dino": "facebook/dino-vits16 ", "clip": "openai/clip-vit-base-patch32 "}
PAPER_REAL = {"dino": 0.774, "clip_i": 0.885}
WIDTH, HEIGHT = 180, 22
PERCENT = ("copying", "broken")


@dataclass(frozen=True)
class Row:
    """One metric, in words ready to print."""

    title: str
    meaning: str
    arrow: str
    value: str
    interval: str
    untuned: str
    real: str
    paper: str
    strip: Markup
    reason: str


def rows(scores: Mapping[str, Any]) -> list[Row]:
    """The paper's metrics, and those beside them that were asked for."""
    return [_row(metric, scores) for metric in (*SCORES, *EXTRAS) if metric.name in scores]


def detector_rows(scores: Mapping[str, Any]) -> list[Row]:
    """The detectors."""
    return [_row(metric, scores) for metric in DETECTORS if metric.name in scores]


def is_comparable(scores: Mapping[str, Any]) -> bool:
    """Whether the paper's numbers stand on the same encoders and suite: its own, 25 prompts, 4 pictures each."""
    protocol = scores.get("protocol", {})
    names = protocol.get("encoders", {})
    same = all(names.get(kind, "").startswith(name) for kind, name in PAPER_ENCODERS.items())
    return same and not protocol.get("own_prompts") and protocol.get("prompts") == 25 and protocol.get("images_per_prompt") == 4


def number(name: str, value: float | None) -> str:
    """A score as text: shares in percent, grain with one decimal, the rest with three."""
    if value is None:
        return "–"
    return f"{value:.0%}" if name in PERCENT else f"{value:.1f}" if name == "noise" else f"{value:.3f}"


def _row(metric: Metric, scores: Mapping[str, Any]) -> Row:
    name, own = metric.name, scores[metric.name]
    untuned = (scores.get("untuned") or {}).get(name) or {}
    real_photos = scores.get("real_photos") or {}
    alone, paired = (((real_photos.get(row) or {}).get(name) or {}).get("value") for row in ("without_self_pairs", "with_self_pairs"))
    real = "" if alone is None else f"{number(name, alone)} ({number(name, paired)})"
    paper = "" if metric.paper is None else number(name, metric.paper)
    if name in PAPER_REAL:
        paper += f" ({PAPER_REAL[name]:.3f})"
    low, high = own.get("low"), own.get("high")
    before = number(name, untuned.get("value")) if "value" in untuned else ""
    mark = strip(own, untuned.get("value"), alone)
    interval = "" if low is None or high is None else f"{number(name, low)} to {number(name, high)}"
    arrow = {"higher": "↑", "lower": "↓", "neither": ""}[metric.better]
    return Row(
        metric.title, metric.meaning, arrow, number(name, own.get("value")), interval, before, real, paper, mark,
        own.get("reason", ""),
    )  # fmt: skip


def strip(own: Mapping[str, Any], untuned: float | None, real: float | None) -> Markup:
    """A line with the score and its interval (dot and bar), the untuned model (ring) and the real photos (tick)."""
    value = own.get("value")
    if value is None:
        return Markup("")
    known = [x for x in (value, own.get("low"), own.get("high"), untuned, real) if x is not None]
    low, high = min(known), max(known)
    pad = max((high - low) * 0.12, 0.004)
    low, high = low - pad, high + pad

    def x(at: float) -> float:
        return 4 + (at - low) / (high - low) * (WIDTH - 8)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="strip" aria-hidden="true">',
        f'<line class="grid" x1="4" x2="{WIDTH - 4}" y1="11" y2="11"/>',
    ]
    if own.get("low") is not None and own.get("high") is not None:
        parts.append(f'<line class="bar" x1="{x(own["low"]):.1f}" x2="{x(own["high"]):.1f}" y1="11" y2="11"/>')
    if real is not None:
        parts.append(f'<line class="real" x1="{x(real):.1f}" x2="{x(real):.1f}" y1="3" y2="19"/>')
    if untuned is not None:
        parts.append(f'<circle class="ring" cx="{x(untuned):.1f}" cy="11" r="4.5"/>')
    parts.append(f'<circle class="here" cx="{x(value):.1f}" cy="11" r="5"/></svg>')
    return Markup("".join(parts))
