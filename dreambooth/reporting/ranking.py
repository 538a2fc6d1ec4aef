"""Which prompts of an evaluation came out best, and which one worst: on the two scales that the verdict is read on, for each prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from dreambooth.metrics import between

LEAST = 3
"""Prompts from which on one is called the weakest."""


@dataclass(frozen=True)
class Prompt:
    """One prompt, its pictures between the untuned model (0) and the real photos (1), and how well it is followed (untuned model: 1)."""

    row: int
    fidelity: float | None
    obedience: float | None

    @property
    def known(self) -> list[float]:
        """What is known of the two."""
        return [value for value in (self.fidelity, self.obedience) if value is not None]

    @property
    def merit(self) -> float:
        """Both together: a picture that lacks one of them is none that was asked for."""
        return prod(max(0.0, min(1.0, value)) for value in self.known)


def ranked(scores: Mapping[str, Any]) -> list[Prompt]:
    """The prompts whose scores have a scale, best first; equal ones in their order."""
    untuned, real = scores.get("untuned") or {}, (scores.get("real_photos") or {}).get("without_self_pairs") or {}
    zero, one, chance = _value(untuned, "dino"), _value(real, "dino"), _value(untuned, "clip_t_chance")
    found = []
    for row, entry in enumerate(scores.get("per_prompt", [])):
        own, before = entry["scores"], entry.get("untuned") or {}
        fidelity = between(_value(own, "dino"), zero, one)
        found.append(Prompt(row, fidelity, between(_value(own, "clip_t"), chance, _value(before, "clip_t"))))
    return sorted((prompt for prompt in found if prompt.known), key=lambda prompt: -prompt.merit)


def weakest(scores: Mapping[str, Any]) -> tuple[int, str] | None:
    """The row of the prompt that came out worst, and in what; None where there are too few to tell."""
    rows = ranked(scores)
    if len(rows) < LEAST:
        return None
    last = rows[-1]
    titles = {"fidelity": last.fidelity, "follows the prompt": last.obedience}
    shares = ", ".join(f"{title} {max(0.0, value):.0%}" for title, value in titles.items() if value is not None)
    lacks = "the subject" if last.fidelity is not None and last.fidelity <= min(last.known) else "the prompt"
    return last.row, f"of {len(rows)} prompts, above all in {lacks}: {shares}."


def _value(table: Mapping[str, Any], name: str) -> float | None:
    return (table.get(name) or {}).get("value")
