"""Whether the photos' places come along: pictures that a prompt wanted elsewhere, and where the judge says they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.selection.referee import SIZE
from dreambooth.toybox.weights import Weights
from dreambooth.toybox.world import CONTEXTS, Subject, scene_of_prompt


def elsewhere(row: dict[str, Any], subject: Subject) -> Iterator[str]:
    """The kept pictures of the subject that were asked for in a place which none of its photos shows."""
    known = {scene.context for scene in subject.photo_scenes()}
    for prompt, names in row["pictures"].items():
        place = scene_of_prompt(prompt.replace("[V] ", ""), subject)[1].context
        if "[V]" in prompt and place in CONTEXTS and place not in known:
            yield from names


def share_carried(row: dict[str, Any], subject: Subject, bench: Path, weights: Weights) -> float:
    """The share of these pictures whose judged place is one of the photos'; nan where no prompt asked for another place."""
    names = list(elsewhere(row, subject))
    if not names:
        return float("nan")
    known = {scene.context for scene in subject.photo_scenes()}
    return float(np.mean([place in known for place in judged_places([opened(bench / name) for name in names], weights)]))


def judged_places(pictures: list[np.ndarray], weights: Weights) -> list[str]:
    """The place that the judge names for each picture."""
    places = weights.words("context")
    return [places[i] for i in weights.named(np.stack(pictures))["context"].argmax(1).tolist()]


def opened(path: Path) -> np.ndarray:
    """A kept picture as the judge takes it: uint8 [SIZE, SIZE, 3]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((SIZE, SIZE)))
