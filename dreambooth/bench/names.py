"""What a subject is called in an arm of a plan: its identifier, and the noun beside it. Draws are by subject and seed alone."""

import random
import string
from typing import Any

from dreambooth.bench.datasets import Subject
from dreambooth.bench.plan import Arm
from dreambooth.core.errors import SettingError

COMMON = ("unique", "special")
"""Ordinary words, as in the paper's section 3.2."""
RANDOM_LENGTH = 9
"""Characters of a random identifier, as long as the paper's "xxy5syt00"."""


def names(arm: Arm, subject: Subject, nouns: tuple[str, ...], *, seed: int) -> dict[str, Any]:
    """Training flags that call the subject as the arm wants it."""
    return {**_noun(arm, subject, nouns, seed=seed), **_identifier(arm, subject, seed=seed)}


def _noun(arm: Arm, subject: Subject, nouns: tuple[str, ...], *, seed: int) -> dict[str, Any]:
    if arm.noun == "none":
        return {"instance_prompt": "a [V]", "with_prior_preservation": False}
    if arm.noun == "correct":
        return {"class_noun": subject.noun}
    others = [noun for noun in nouns if noun != subject.noun]
    if not others:
        raise SettingError(
            "noun", f"every subject of this dataset is a {subject.noun}, so there is no wrong noun.", fix="Use several classes."
        )
    return {"class_noun": random.Random(f"noun {subject.name} {seed}").choice(others)}


def _identifier(arm: Arm, subject: Subject, *, seed: int) -> dict[str, Any]:
    drawn = random.Random(f"identifier {subject.name} {seed}")
    if arm.identifier_kind == "common":
        return {"identifier": drawn.choice(COMMON)}
    if arm.identifier_kind == "random":
        return {"identifier": "".join(drawn.choices(string.ascii_lowercase + string.digits, k=RANDOM_LENGTH))}
    return {"identifier": "sks"} if arm.identifier_kind == "sks" else {}


def phrase(settings: dict[str, Any], description: str | None) -> str:
    """What stands in a prompt for "[V] dog": the same in every prompt that a job is examined with."""
    if description:
        return description
    return f"[V] {settings['class_noun']}" if settings.get("class_noun") else "[V]"
