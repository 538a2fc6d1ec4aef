"""Ways to choose a checkpoint, compared offline on the rows: each sees what a run's looks saw, and no referee.

A way is a function (row, the other subjects' rows) -> step. Those that need a number learn it from the other subjects alone (leave one
subject out), by what the referee said of their runs. A rule without such a number, invented after these rows were seen, is tuned on them
all the same: it wants new subjects before it is believed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from benchmarks.selection.score import Parts, parts, score
from dreambooth.evaluation.live import signals_of
from dreambooth.evaluation.selection import Signals, choose


@dataclass(frozen=True, eq=False)
class Run:
    """One row, read: what a rule may see, and what the referee says of each step. Two are equal only when they are the same."""

    subject: str
    seed: int
    recipe_steps: int
    real_dino: float | None
    signals: Mapping[int, Signals]
    """Step 0 is the untuned model."""
    losses: Mapping[int, float]
    parts: Mapping[int, Parts]

    @property
    def steps(self) -> list[int]:
        """The checkpoints."""
        return sorted(self.parts)

    def worth(self, step: int, how: Callable[[Parts], float] = score) -> float:
        """What the referee gives a checkpoint."""
        return how(self.parts[step])

    def best(self, how: Callable[[Parts], float] = score) -> int:
        """The best step in hindsight; the earlier of equals."""
        return max(self.steps, key=lambda step: (self.worth(step, how), -step))

    @property
    def looks(self) -> dict[int, Signals]:
        """What was seen of the checkpoints."""
        return {step: signals for step, signals in self.signals.items() if step}


Way = Callable[[Run, Sequence[Run]], int]


def read(row: Mapping[str, Any]) -> Run:
    """A row as the study needs it."""
    curve = {int(step): values for step, values in row["curve"].items()}
    return Run(
        row["subject"],
        row["seed"],
        row["key"]["recipe_steps"],
        row["real_dino"],
        {step: signals_of(values) for step, values in curve.items()},
        {step: sum(values.get(name, 0.0) for name in ("loss_subject", "loss_prior")) for step, values in curve.items()},
        {int(step): parts(look, row["untuned"], row["truth"]) for step, look in row["looks"].items()},
    )


def by_rule(run: Run, others: Sequence[Run] = ()) -> int:
    """The shipped rule, `dreambooth.evaluation.selection.choose`."""
    return choose(run.looks, run.signals[0], real_dino=run.real_dino).step


def last(run: Run, others: Sequence[Run] = ()) -> int:
    """The last checkpoint."""
    return run.steps[-1]


def by_recipe(run: Run, others: Sequence[Run] = ()) -> int:
    """The count that the toybox's recipe asks for, looks or not."""
    return min(run.steps, key=lambda step: abs(step - run.recipe_steps))


def fixed(run: Run, others: Sequence[Run]) -> int:
    """The count that is best on average over the other subjects' runs."""
    return max(run.steps, key=lambda step: (np.mean([other.worth(step) for other in others]), -step))


def hindsight(run: Run, others: Sequence[Run] = ()) -> int:
    """The best step of this very run: no rule can do better."""
    return run.best()


def most_faithful(run: Run, others: Sequence[Run] = ()) -> int:
    """The highest DINO on the photos: what most people would do."""
    return max(run.steps, key=lambda step: (run.signals[step].dino, -step))


def lowest_loss(run: Run, others: Sequence[Run] = ()) -> int:
    """The lowest mean loss since the look before."""
    return min(run.steps, key=lambda step: (run.losses[step], step))


@dataclass(frozen=True)
class Bounds:
    """How much a checkpoint may lose and still be sound. The defaults are the rule that was studied first, and lost."""

    obeys: float = 0.60
    """Least share of the untuned model's CLIP-T above chance."""
    collapsed: float = 0.40
    """Largest share of the way that PRES goes from the untuned model to the real photos."""
    copies: float = 0.25
    """Largest share of pictures that repeat a photo."""
    noise: float = 0.01
    """Differences of DINO up to this do not count."""


FIRST = Bounds()


def within_bounds(run: Run, others: Sequence[Run] = (), *, bounds: Bounds = FIRST) -> int:
    """The highest DINO of the sound checkpoints, the earliest within the noise; without a sound one, the one that breaks bounds least."""
    faults = {step: _excess(run, step, bounds) for step in run.steps}
    sound = [step for step in run.steps if not faults[step]]
    if not sound:
        return min(run.steps, key=lambda step: (faults[step], step))
    top = max(run.signals[step].dino for step in sound)
    return next(step for step in sound if run.signals[step].dino >= top - bounds.noise)


def _excess(run: Run, step: int, bounds: Bounds) -> float:
    """How far a look is beyond all bounds, each relative to itself; 0 for a sound one."""
    seen, zero, found = run.signals[step], run.signals[0], 0.0
    if seen.clip_t is not None and zero.clip_t is not None:
        chance = zero.clip_t_chance or 0.0
        kept = (seen.clip_t - chance) / max(zero.clip_t - chance, 1e-3)
        found += max(0.0, (bounds.obeys - kept) / max(bounds.obeys, 1e-3))
    if seen.pres is not None and zero.pres is not None:
        real = run.real_dino if run.real_dino is not None else 1.0
        gone = (seen.pres - zero.pres) / max(real - zero.pres, 1e-3)
        found += max(0.0, (gone - bounds.collapsed) / max(bounds.collapsed, 1e-3))
    if seen.copying is not None:
        found += max(0.0, (seen.copying - bounds.copies) / max(bounds.copies, 1e-3))
    return found if found > 1e-9 else 0.0


def tuned_bounds(run: Run, others: Sequence[Run]) -> int:
    """The first rule with the bounds that do best on the other subjects' runs."""
    return within_bounds(run, bounds=max(grid(), key=lambda bounds: np.mean([_score_by(other, bounds) for other in others])))


def grid() -> list[Bounds]:
    """Bounds to tune over; the shipped ones come first and win ties."""
    found = [
        Bounds(obeys=obeys, collapsed=collapsed, noise=noise)
        for obeys, collapsed, noise in product((0.3, 0.5, 0.6, 0.7, 0.8, 0.9), (0.2, 0.3, 0.4, 0.6, 1.0), (0.0, 0.01, 0.03))
    ]
    return [FIRST, *(bounds for bounds in found if bounds != FIRST)]


STUDIED: dict[str, Way] = {
    "the rule": by_rule, "last checkpoint": last, "fixed count, chosen on the other subjects": fixed, "the recipe's count": by_recipe,
    "best in hindsight": hindsight,
}  # fmt: skip
"""What the study asks about. The rule is the second one: the first, fixed before the study was run, lost it (among the candidates)."""
CANDIDATES: dict[str, Way] = {
    "highest DINO": most_faithful, "lowest loss": lowest_loss, "the first rule: highest DINO within bounds": within_bounds,
    "the first rule, bounds tuned on the other subjects": tuned_bounds,
}  # fmt: skip
"""Other rules, to learn from."""


def chosen(runs: Sequence[Run], way: Way) -> list[int]:
    """The step that a way chooses for each run, which its own subject has no say in."""
    return [way(run, [other for other in runs if other.subject != run.subject]) for run in runs]


@cache
def _score_by(run: Run, bounds: Bounds) -> float:
    """What the rule with these bounds reaches on a run."""
    return run.worth(within_bounds(run, bounds=bounds))
