"""Made-up rows for the tables' tests; no result of anything."""

from pathlib import Path

import numpy as np

from dreambooth.bench.job import Row
from dreambooth.bench.tables import REAL_PAIRS, Layout
from tests.metrics.encoders import picture

ON, OFF = "with prior preservation", "without"
NOUNS = {"ann": "dog", "bob": "dog", "cid": "teapot", "dot": "teapot", "eve": "boot", "fay": "boot"}
PROTOCOL = {
    "encoders": {"dino": "toybox/dino", "clip": "toybox/clip"}, "prompts": 8, "images_per_prompt": 2, "seeds": [0, 1], "class_samples": 16,
    "class_seeds": [0, 15],
}  # fmt: skip


def layout(**changed) -> Layout:
    given = {
        "name": "table3", "title": "Table 3: prior preservation", "arms": (ON, OFF), "metrics": ("dino", "pres"), "baseline": OFF,
        "paper": {ON: {"dino": 0.684, "pres": 0.493}, OFF: {"dino": 0.712, "pres": 0.664}, REAL_PAIRS: {"dino": 0.774}},
        "notes": ("Made up.",),
    }  # fmt: skip
    return Layout(**{**given, **changed})


def row(arm: str, subject: str, seed: int, *, toybox: bool = True, **scores: float | None) -> Row:
    defined = {name: {"value": value, "n": 16} for name, value in scores.items() if value is not None}
    return Row(
        f"{arm}-{subject}-{seed}", "table3", arm, subject, seed, NOUNS.get(subject, "dog"), subject == "ann", scores=defined,
        undefined={name: "there are no class images (--class_samples)." for name, value in scores.items() if value is None},
        untuned={"dino": {"value": 0.4}, "pres": {"value": 0.41}}, real={"dino": {"value": 0.7}, "dino_with_self_pairs": {"value": 0.76}},
        protocol=PROTOCOL, base="0123456789abcdef", toybox=toybox, seconds={"everything": 60.0},
    )  # fmt: skip


def rows(*, seeds: int = 3, subjects=tuple(NOUNS), toybox: bool = True) -> list[Row]:
    """PRES is clearly lower with the prior; DINO is the same up to noise."""
    rng = np.random.default_rng(0)
    made = []
    for subject in subjects:
        level = rng.normal(0.65, 0.05)
        for seed in range(seeds):
            made.append(row(ON, subject, seed, toybox=toybox, dino=level + rng.normal(0, 0.01), pres=0.45 + rng.normal(0, 0.01)))
            made.append(row(OFF, subject, seed, toybox=toybox, dino=level + rng.normal(0, 0.01), pres=0.60 + rng.normal(0, 0.01)))
    return made


def with_pictures(made: list[Row], folder: Path) -> list[Row]:
    """The same rows with two small pictures for each of three prompts."""
    found = []
    for number, one in enumerate(made):
        pictures = {}
        for place, prompt in enumerate((f"a [V] {one.noun} on the beach", f"a red [V] {one.noun}", f"a {one.noun}")):
            names = [f"pictures/{one.key}/{place}-{seed}.png".replace(" ", "-") for seed in range(2)]
            for seed, name in enumerate(names):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                picture(number * 10 + place * 2 + seed, (96, 96)).save(folder / name)
            pictures[prompt] = names
        found.append(Row(**{**one.plain(), "pictures": pictures}))
    return found
