"""The cheapest levers with which a training fits, found by rehearsing it with each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dreambooth.core.wording import size
from dreambooth.memory.estimate import Estimate, rehearse
from dreambooth.memory.levers import LEVERS, Lever, words
from dreambooth.setup.config import TrainConfig

SHARE = 0.02
"""Of a peak's bytes: a lever that acts on less is not tried."""


@dataclass(frozen=True)
class Fit:
    """A training with levers, and what it needs then."""

    levers: Sequence[Lever]
    changes: Mapping[tuple[str, ...], Any]
    estimate: Estimate
    gains: Mapping[Lever, int] = field(default_factory=dict)
    """Bytes of the highest phase that each saved when it was added."""

    @property
    def flags(self) -> str:
        """What sets the levers on the command line."""
        return words(self.changes)

    def explained(self, config: TrainConfig) -> str:
        """Each lever with its cost: `--gradient_checkpointing (about a quarter slower)`."""
        said = list[str]()
        for lever in self.levers:
            changes = lever.changes(config)
            said.append(f"{words(changes)} ({lever.cost})")
            config = config.updated(changes)
        return ", ".join(said)


def least_estimate(config: TrainConfig, device: torch.device, *, limit: int | None) -> Estimate:
    """What a run cannot do without: pictures are drawn fewer at a time where memory runs out, so one counts.

    Phases are rehearsed in the order in which they are likely to be too large, and none after one that is.
    """
    rehearsal = rehearse(config.updated({("prior", "sample_batch_size"): 1}), device)
    found = Estimate(device.type, (), rehearsal.loaded, limit, rehearsal.offloaded, rehearsal.processes)
    for phase in rehearsal.phases(first="training"):
        found = replace(found, phases=(*found.phases, phase))
        if found.fits is False:
            break
    return found


def fitting(config: TrainConfig, device: torch.device, *, limit: int | None, plain: Estimate, processes: int = 1) -> Fit:
    """The cheapest set of levers with which a training fits `limit`, or, where none does, with which it needs least.

    `plain` is what it needs without. Levers are added in their order until it fits; then each before the last is left out that it fits
    without, the dearest first.
    """
    best = Fit((), {}, plain)
    for lever in levers_of(device, processes):
        if best.estimate.fits:
            break
        best = _better(config, best, lever, device, limit)
    if best.estimate.fits:
        for lever in reversed(best.levers[:-1]):
            if best.gains[lever] / 2 > (best.estimate.limit or 0) - best.estimate.peak:
                continue  # far more than there is to spare: a rehearsal without it would be for nothing
            fewer = _with(config, [one for one in best.levers if one is not lever], device, limit)
            best = fewer if fewer.estimate.fits else best
    return best


def first_saving(config: TrainConfig, device: torch.device, *, plain: Estimate, processes: int = 1) -> Fit | None:
    """The cheapest lever that makes a training need a tenth less; None where none does."""
    for lever in levers_of(device, processes):
        found = _better(config, Fit((), {}, plain), lever, device, None)
        if found.estimate.peak < 0.9 * plain.peak:
            return found
    return None


def levers_of(device: torch.device, processes: int = 1) -> list[Lever]:
    """What a device can have, and so many processes, the cheapest first."""
    here = [lever for lever in LEVERS if device.type == "cuda" or not lever.of_gpus]
    return [lever for lever in here if processes == 1 or not lever.of_one]


def saved(before: Estimate, fit: Fit) -> str:
    """What levers make of a peak: `13.9 GiB becomes 9.5 GiB`."""
    return f"{size(before.peak)} becomes {size(fit.estimate.peak)}"


def _better(config: TrainConfig, best: Fit, lever: Lever, device: torch.device, limit: int | None) -> Fit:
    """With one lever more, where it acts on what is too large and saves something."""
    highest = best.estimate.highest.peak
    share = sum(highest.parts.get(name, 0) for name in lever.acts_on)
    if share < SHARE * highest.bytes or not lever.changes(config.updated(best.changes)):
        return best
    own = set(lever.changes(config.updated(best.changes)))
    kept = [one for one in best.levers if not set(one.changes(config)) <= own]  # 4 bits take the place of 8
    more = _with(config, [*kept, lever], device, limit)
    gain = best.estimate.peak - more.estimate.need_of(best.estimate.highest.name)
    return replace(more, gains={**best.gains, lever: gain}) if gain > 0 else best


def _with(config: TrainConfig, levers: Iterable[Lever], device: torch.device, limit: int | None) -> Fit:
    changes: dict[tuple[str, ...], Any] = {}
    levers = tuple(levers)
    for lever in levers:
        changes |= lever.changes(config.updated(changes))
    return Fit(levers, changes, least_estimate(config.updated(changes), device, limit=limit))
