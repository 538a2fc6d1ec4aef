"""Which checkpoint to keep: the most faithful among those that still obey, still know their class, and do not copy.

DINO on the training photos alone would choose the last checkpoint, which copies best. So, on prompts and seeds that no report uses:

1. A checkpoint is *sound* when CLIP-T keeps at least 60 % of what the untuned model has above chance (pictures with other prompts;
   where chance is not known, 90 % of the whole), PRES has gone at most 40 % of the way from the untuned
   model to the real photos, and at most a quarter of its pictures repeat a photo.
2. Of the sound ones, the highest DINO; among those within 0.01 of it, the earliest, since a gap of 0.01 is noise.
3. When none is sound, the one that breaks the bounds least.

Training can stop once three looks in a row were not sound, or brought no gain of 0.01.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATIENCE = 3
"""Looks without hope after which a training may stop."""


@dataclass(frozen=True)
class Bounds:
    """How much a checkpoint may lose and still be sound. The defaults are the rule; others are for studies that compare rules."""

    obeys: float = 0.60
    """Least share of the untuned model's CLIP-T above chance."""
    obeys_whole: float = 0.90
    """Least share of the untuned model's whole CLIP-T, where chance is not known."""
    collapsed: float = 0.40
    """Largest share of the way that PRES goes from the untuned model to the real photos."""
    copies: float = 0.25
    """Largest share of pictures that repeat a photo."""
    noise: float = 0.01
    """Differences of DINO up to this do not count."""


RULE = Bounds()


@dataclass(frozen=True)
class Signals:
    """What one look at a model found, on held-out prompts; None for what was not measured."""

    dino: float
    clip_t: float | None = None
    pres: float | None = None
    copying: float | None = None
    clip_t_chance: float | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen step and one sentence why."""

    step: int
    why: str
    sound: bool
    """Whether any checkpoint was sound."""


def choose(curve: Mapping[int, Signals], untuned: Signals, *, real_dino: float | None = None, bounds: Bounds = RULE) -> Choice:
    """The checkpoint to keep. `untuned` are the base model's signals, `real_dino` the photos among each other without self-pairs."""
    if not curve:
        raise ValueError("there is no checkpoint to choose from")
    steps = sorted(curve)
    faults = {step: _faults(curve[step], untuned, real_dino, bounds) for step in steps}
    sound = [step for step in steps if not faults[step]]
    if not sound:
        best = min(steps, key=lambda step: (sum(faults[step].values()), step))
        why = f"Step {best}: no checkpoint keeps within the bounds; this one breaks them least ({', '.join(faults[best])})."
        return Choice(best, why, sound=False)
    top = max(curve[step].dino for step in sound)
    best = next(step for step in sound if curve[step].dino >= top - bounds.noise)
    return Choice(best, _why(best, steps, sound, faults, curve, untuned, bounds.noise), sound=True)


def should_stop(curve: Mapping[int, Signals], untuned: Signals, *, real_dino: float | None = None, patience: int = PATIENCE) -> bool:
    """Whether the last `patience` looks give no hope of a better checkpoint: all unsound, or none with a gain over what was before."""
    steps = sorted(curve)
    if len(steps) <= patience:
        return False
    sound = {step: not _faults(curve[step], untuned, real_dino, RULE) for step in steps}
    before = [curve[step].dino for step in steps[:-patience] if sound[step]]
    if not before:
        return False
    return all(not sound[step] or curve[step].dino < max(before) + RULE.noise for step in steps[-patience:])


def _faults(signals: Signals, untuned: Signals, real_dino: float | None, bounds: Bounds) -> dict[str, float]:
    """How far a look is beyond each bound, relative to the bound, by name; empty for a sound one."""
    found: dict[str, float] = {}
    if signals.clip_t is not None and untuned.clip_t is not None:
        zero, least = (0.0, bounds.obeys_whole) if untuned.clip_t_chance is None else (untuned.clip_t_chance, bounds.obeys)
        kept = (signals.clip_t - zero) / max(untuned.clip_t - zero, 1e-3)
        found["prompts are followed less"] = (least - kept) / max(least, 1e-3)
    if signals.pres is not None and untuned.pres is not None:
        ceiling = real_dino if real_dino is not None else 1.0
        gone = (signals.pres - untuned.pres) / max(ceiling - untuned.pres, 1e-3)
        found["the class turns into the subject"] = (gone - bounds.collapsed) / max(bounds.collapsed, 1e-3)
    if signals.copying is not None:
        found["photos are repeated"] = (signals.copying - bounds.copies) / max(bounds.copies, 1e-3)
    return {name: excess for name, excess in found.items() if excess > 1e-9}


def _why(
    best: int, steps: Sequence[int], sound: Sequence[int], faults: Mapping[int, dict[str, float]], curve: Mapping[int, Signals],
    untuned: Signals, noise: float,
) -> str:  # fmt: skip
    if curve[best].dino < untuned.dino + noise:
        return f"Step {best}: no checkpoint looks more like the subject than the untuned model; train for longer or with a higher rate."
    later = [step for step in steps if step > best]
    if not later:
        return f"Step {best}, the last: fidelity still rises and nothing is lost."
    spoiled = [step for step in later if faults[step]]
    if spoiled and spoiled[0] == later[0]:
        return f"Step {best}: the most faithful checkpoint before {next(iter(faults[spoiled[0]]))} (from step {spoiled[0]})."
    if any(step in sound for step in later):
        return f"Step {best}: later checkpoints are not more faithful by more than {noise:g}."
    return f"Step {best}: the most faithful of those within the bounds."
