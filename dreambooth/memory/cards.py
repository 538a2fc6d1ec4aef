"""Which cards known models train on, as `python -m benchmarks.memory` has predicted it."""

import json
from functools import cache
from pathlib import Path

PREDICTED = Path(__file__).with_name("predicted.json")
CARDS = (6, 8, 12, 16, 24, 48, 80)
"""GB of cards that people have."""
SIDE = 1024


def smallest(gib: float) -> int | None:
    """The first of these cards that has so much."""
    return next((card for card in CARDS if card >= gib), None)


@cache
def card_of(model: str, way: str, side: int = SIDE) -> int | None:
    """GB of the smallest card on which a model is trained in a way, pictures of `side` pixels; None where nobody has predicted it."""
    rows = json.loads(PREDICTED.read_text(encoding="utf-8"))
    return next((smallest(row["peak"]) for row in rows if (row["model"], row["way"], row["side"]) == (model, way, side)), None)
