"""Which checkpoint to keep: the one that does best at all things at once, being the subject, obeying, knowing its class, not copying.

DINO on the training photos alone would choose the last checkpoint, which copies best. So, on prompts and seeds that no report uses, four
parts, each between 0 and 1 on the scale that the subject itself gives:

    subject   DINO, from the untuned model (0) to the real photos among each other (1)
    prompts   CLIP-T, from pictures with other prompts (0; where that is not known, from nothing) to the untuned model (1)
    class     1 - PRES, from the untuned model (0) to the real photos (1)
    photos    1 - the share of pictures that repeat a photo

The highest harmonic mean of those that were measured wins, and of those within 0.01 of it the earliest, since a gap of 0.01 is noise.
Harmonic, since a model has to do all four. Where nothing of the subject was seen there is nothing to choose by: the last is taken. Training
can stop once three evaluation passes in a row brought no gain of 0.01, but not before any of them saw something of the subject.

What is chosen here is the one judgement on how long to train: a run's last lines, RUN@best, its report and the verdict repeat it.

An earlier rule, the highest DINO within bounds on the others, lost its study on the toybox (docs/evaluation.md): bounds that are not
reached do not keep a run from losing most of what they guard.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 3
"""Evaluation passes without a gain after which a training may stop."""
NOISE = 0.01
"""Differences of the mean up to this do not count."""
FALL = 0.05
"""A part that has lost less than this is not named as the reason why an earlier step is better."""
LEAST = 0.01
"""Parts below this count as this, so that one zero does not hide the other parts."""
LOSSES = {
    "subject": "the subject is lost", "prompts": "prompts are followed less", "class": "the class turns into the subject",
    "photos": "photos are repeated",
}  # fmt: skip
UNSEEN = "Step {last}, the last, is no closer to the subject than the untuned model: train for longer or with a higher learning rate."


@dataclass(frozen=True)
class Signals:
    """What one evaluation pass found, on held-out prompts; None for what was not measured."""

    dino: float
    clip_t: float | None = None
    pres: float | None = None
    copying: float | None = None
    clip_t_chance: float | None = None


@dataclass(frozen=True)
class Choice:
    """The best step, one sentence why, and the last step that was evaluated."""

    step: int
    why: str
    last: int

    @property
    def may_gain(self) -> bool:
        """Whether training on may help: nothing that was done after the best step says otherwise."""
        return self.step == self.last


def choose(curve: Mapping[int, Signals], untuned: Signals, *, real_dino: float | None = None) -> Choice:
    """The checkpoint to keep. `untuned` are the base model's signals, `real_dino` the photos among each other without self-pairs."""
    if not curve:
        raise ValueError("there is no checkpoint to choose from")
    found = {step: parts(curve[step], untuned, real_dino) for step in sorted(curve)}
    values = {step: balance(each) for step, each in found.items()}
    last = max(found)
    is_seen = any(each["subject"] >= NOISE for each in found.values())
    best = next(step for step in values if values[step] >= max(values.values()) - NOISE) if is_seen else last
    return Choice(best, _why(best, found) if is_seen else UNSEEN.format(last=last), last)


def should_stop(curve: Mapping[int, Signals], untuned: Signals, *, real_dino: float | None = None, patience: int = PATIENCE) -> bool:
    """Whether the last `patience` passes brought no gain over what was before; never before the subject is seen at all."""
    if all(parts(signals, untuned, real_dino)["subject"] < NOISE for signals in curve.values()):
        return False
    values = [balance(parts(curve[step], untuned, real_dino)) for step in sorted(curve)]
    return len(values) > patience and max(values[-patience:]) < max(values[:-patience]) + NOISE


def parts(signals: Signals, untuned: Signals, real_dino: float | None) -> dict[str, float]:
    """The parts that were measured, by name, each in 0..1."""
    real = 1.0 if real_dino is None else real_dino
    found = {"subject": _share(signals.dino, untuned.dino, real)}
    if signals.clip_t is not None and untuned.clip_t is not None:
        found["prompts"] = _share(signals.clip_t, untuned.clip_t_chance or 0.0, untuned.clip_t)
    if signals.pres is not None and untuned.pres is not None:
        found["class"] = 1 - _share(signals.pres, untuned.pres, real)
    if signals.copying is not None:
        found["photos"] = 1 - signals.copying
    return found


def balance(found: Mapping[str, float]) -> float:
    """The harmonic mean of the parts, in 0..1."""
    return len(found) / sum(1 / max(part, LEAST) for part in found.values())


def _share(value: float, zero: float, one: float) -> float:
    return min(1.0, max(0.0, (value - zero) / max(one - zero, 1e-3)))


def _why(best: int, found: Mapping[int, Mapping[str, float]]) -> str:
    end = max(found)
    chosen, last = found[best], found[end]
    if best == end:
        return f"Best so far: step {best}, the last one. {'Still improving.' if len(found) > 1 else 'More steps may do better.'}"
    name, fall = max(((name, chosen[name] - last[name]) for name in chosen), key=lambda pair: pair[1])
    if fall > FALL:
        return f"Step {best} is best; by step {end} {LOSSES[name]} (kept: {chosen[name]:.0%}, then {last[name]:.0%})."
    return f"Step {best} is best; training on to {end} gained nothing."
