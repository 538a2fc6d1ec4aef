"""From pictures to numbers: every metric of the index on a model's pictures, with intervals, overall and by prompt."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from dreambooth.evaluation.bootstrap import interval
from dreambooth.metrics import EXTRAS, METRICS, Encoders, EvalImages, Metric, PerSampleValues, Undefined
from dreambooth.metrics.real import real_row
from dreambooth.photos.load import PhotoFile

Score = dict[str, Any]
"""{value, low, high, n}, or {value: None, reason} where the metric is undefined."""

BY_PROMPT = ("dino", "clip_i", "clip_t", "clip_t_with_identifier", "div", "copying")
"""The metrics that have a value for a single prompt."""


def measure(evidence: EvalImages, encoders: Encoders, names: Sequence[str] = tuple(METRICS)) -> dict[str, PerSampleValues | str]:
    """The terms of each metric by name, or the reason why it has none; a score beside the paper's only where its encoder is there."""
    absent = {metric.name for metric in EXTRAS if metric.encoder and not encoders.offers(metric.encoder)}
    return {name: _terms(METRICS[name], evidence, encoders) for name in names if name not in absent}


def scores(measured: dict[str, PerSampleValues | str], *, seed: int) -> dict[str, Score]:
    """Each metric's mean over everything, with its 95 % interval."""
    return {name: score(terms, seed=seed) for name, terms in measured.items()}


def score(terms: PerSampleValues | str, *, seed: int) -> Score:
    """One mean with its interval; `n` counts pictures, prompts (DIV), or class images."""
    if isinstance(terms, str):
        return {"value": None, "reason": terms}
    bounds = interval(terms, seed=seed)
    low, high = bounds or (None, None)
    return {"value": terms.mean(), "low": low, "high": high, "n": len(terms)}


def by_prompt(measured: dict[str, PerSampleValues | str], count: int, *, seed: int) -> list[dict[str, Score]]:
    """For each prompt the scores that a single prompt has."""
    table: list[dict[str, Score]] = [{} for _ in range(count)]
    for name in metrics_by_prompt(measured):
        terms = measured.get(name)
        for row in range(count):
            if isinstance(terms, PerSampleValues) and bool((terms.groups == row).any()):
                table[row][name] = score(terms.of(row), seed=seed)
            else:
                table[row][name] = {"value": None, "reason": terms if isinstance(terms, str) else "one picture has no diversity."}
    return table


def metrics_by_prompt(measured: Collection[str]) -> list[str]:
    """The metrics that have a value for a single prompt, of these and of those that are always there."""
    return [*BY_PROMPT, *(metric.name for metric in EXTRAS if metric.name in measured)]


def real_scores(photos: Sequence[Image.Image | PhotoFile], encoders: Encoders, *, seed: int) -> dict[str, dict[str, Score]]:
    """The real-photos row, without self-pairs (the ceiling) and with them (as the paper's row seems to be)."""
    table: dict[str, dict[str, Score]] = {"without_self_pairs": {}, "with_self_pairs": {}}
    embeds: dict[str, Callable[[Sequence[Image.Image | PhotoFile]], Tensor]] = {"dino": encoders.dino, "clip_i": encoders.clip}
    embeds |= {one.name: partial(encoders.embed, one.encoder) for one in EXTRAS if one.encoder and encoders.offers(one.encoder)}
    for name, embed in embeds.items():
        for row, self_pairs in (("without_self_pairs", False), ("with_self_pairs", True)):
            try:
                terms: PerSampleValues | str = real_row(embed(photos), self_pairs=self_pairs)
            except Undefined as why:
                terms = str(why)
            table[row][name] = score(terms, seed=seed)
    return table


def _terms(metric: Metric, evidence: EvalImages, encoders: Encoders) -> PerSampleValues | str:
    try:
        return metric(evidence, encoders)
    except Undefined as why:
        return str(why)
