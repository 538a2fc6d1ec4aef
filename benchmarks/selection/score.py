"""The referee's score of a checkpoint, made of its raw figures. Fixed before any checkpoint was measured.

Each part lies between 0 and 1, on a scale that the subject itself gives, for raw figures differ from subject to subject:

    fidelity   the mean of likeness and colours, each from the untuned model (0) to renders among each other (1)
    prompt     what the judge names as asked, from chance (0) to what it names on the renders (1), over all prompts
    prior      1 - how far the class alone has gone from the untuned model towards the subject

    score      the harmonic mean of the three

Why harmonic: a model must do all three. With a plain mean a copyist of the photos (fidelity up, prompts lost) or an untuned model
(prompts and prior whole, no subject) would buy a good place with one part. Why equal shares: the paper asks for the three and ranks
none. `ALTERNATIVES` are other ways to add them up; a conclusion that one of them overturns is said to depend on the definition.
"""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass

Figures = Mapping[str, float]
CHANCE = {"context": 1 / 15, "color": 1 / 12}
"""The judge's answers: fourteen places and the studio; twelve colours."""
SHARES = {"context": 6 / 8, "color": 2 / 8}
"""How many of the referee's prompts ask for each."""
LEAST = 0.01
"""Parts below this count as this, so that one zero does not hide the other parts."""


@dataclass(frozen=True)
class Parts:
    """What the score is made of, each in 0..1."""

    fidelity: float
    prompt: float
    prior: float


def parts(look: Figures, untuned: Figures, truth: Figures) -> Parts:
    """The three parts of one look."""
    likeness = between(look["likeness"], untuned["likeness"], truth["likeness"])
    colours = between(look["colours"], untuned["colours"], truth["colours"])
    prompt = sum(SHARES[head] * between(look[f"named_{head}"], CHANCE[head], truth[f"named_{head}"]) for head in SHARES)
    gone = between(look["class_likeness"], untuned["class_likeness"], truth["likeness"])
    return Parts((likeness + colours) / 2, prompt, 1 - gone)


def between(value: float, zero: float, one: float) -> float:
    """Where a value lies on the way from zero to one, in 0..1. Raises ValueError where the way has no length: a broken instrument."""
    if abs(one - zero) < 1e-3:
        raise ValueError(f"a scale from {zero:g} to {one:g} measures nothing")
    return min(1.0, max(0.0, (value - zero) / (one - zero)))


def harmonic(*values: float) -> float:
    """Harmonic mean of values in 0..1."""
    return len(values) / sum(1 / max(value, LEAST) for value in values)


def score(found: Parts) -> float:
    """The referee's score."""
    return harmonic(*astuple(found))


ALTERNATIVES: dict[str, Callable[[Parts], float]] = {
    "plain mean of the three": lambda p: sum(astuple(p)) / 3,
    "harmonic mean without the prior": lambda p: harmonic(p.fidelity, p.prompt),
    "fidelity counts twice": lambda p: 4 / sum(1 / max(value, LEAST) for value in (p.fidelity, p.fidelity, p.prompt, p.prior)),
}
