"""What a report counts on in `scores.json`: folders are sent around, and a page is not to fail over somebody's edit."""

import math
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, BeforeValidator

from dreambooth.files.reading import TypedDict, open_shape, shaped
from dreambooth.metrics import METRICS


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_known)]
"""A number, or None for one that is not finite."""


@open_shape
class Score(TypedDict, total=False):
    """A metric's value with its interval, or the reason why there is none."""

    value: Number
    low: Number
    high: Number
    reason: str


@open_shape
class PromptScores(TypedDict):
    """One prompt's scores by metric, of the tuned and the untuned model."""

    prompt: str
    scores: dict[str, Score]
    untuned: NotRequired[dict[str, Score]]


@open_shape
class Problem(TypedDict):
    """What a verdict warns of, and what to do."""

    what: str
    advice: str


@open_shape
class Judged(TypedDict):
    """The verdict."""

    word: str
    sentence: str
    figures: dict[str, Number]
    problems: list[Problem]


@open_shape
class Protocol(TypedDict):
    """What was scored, and how."""

    model: str
    weights: str
    base_model: str
    base_weights: str
    untuned_prompts: str
    intervals: str
    seed: int
    encoders: dict[str, str]
    prompts: int
    images_per_prompt: int
    class_samples: int
    seeds: tuple[int, int]


class Cost(TypedDict):
    """What it took."""

    drawing_seconds: float
    scoring_seconds: float
    pictures: int
    scored_pictures_per_second: float


@open_shape
class Scores(TypedDict):
    """The whole of it, but for the metrics, which stand at its top by name."""

    untuned: dict[str, Score]
    real_photos: dict[str, dict[str, Score]]
    per_prompt: list[PromptScores]
    verdict: Judged
    subject: dict[str, Any]
    protocol: Protocol
    cost: NotRequired[Cost]
    made: NotRequired[dict[str, str]]


def _with_metrics(scores: Any) -> Any:
    return {**scores, **{name: shaped(scores[name], Score) for name in METRICS if name in scores}}


SCORES = Annotated[Scores, AfterValidator(_with_metrics)]
