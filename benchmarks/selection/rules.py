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

from benchmarks.selection.score import Parts, harmonic, parts, score
from dreambooth.evaluation.live import signals_of
from dreambooth.evaluation.selection import RULE, Bounds, Signals, choose


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


def by_rule(run: Run, others: Sequence[Run] = (), *, bounds: Bounds = RULE) -> int:
    """The shipped rule, `dreambooth.evaluation.selection.choose`."""
    return choose(run.looks, run.signals[0], real_dino=run.real_dino, bounds=bounds).step


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


def balanced(run: Run, others: Sequence[Run] = ()) -> int:
    """The highest harmonic mean of fidelity, obedience and 1 - collapse, each on its scale between untuned model and photos."""
    zero, real = run.signals[0], run.real_dino if run.real_dino is not None else 1.0

    def value(signals: Signals) -> float:
        found = [_share(signals.dino, zero.dino, real)]
        if signals.clip_t is not None and zero.clip_t is not None:
            found.append(_share(signals.clip_t, zero.clip_t_chance or 0.0, zero.clip_t))
        if signals.pres is not None and zero.pres is not None:
            found.append(1 - _share(signals.pres, zero.pres, real))
        return harmonic(*found)

    return max(run.steps, key=lambda step: (round(value(run.signals[step]), 6), -step))


def tuned_bounds(run: Run, others: Sequence[Run]) -> int:
    """The shipped rule with the bounds that do best on the other subjects' runs."""
    return by_rule(run, bounds=max(grid(), key=lambda bounds: np.mean([_score_by(other, bounds) for other in others])))


def grid() -> list[Bounds]:
    """Bounds to tune over; the shipped ones come first and win ties."""
    found = [
        Bounds(obeys=obeys, collapsed=collapsed, noise=noise)
        for obeys, collapsed, noise in product((0.3, 0.5, 0.6, 0.7, 0.8, 0.9), (0.2, 0.3, 0.4, 0.6, 1.0), (0.0, 0.01, 0.03))
    ]
    return [RULE, *(bounds for bounds in found if bounds != RULE)]


STUDIED: dict[str, Way] = {
    "the rule": by_rule, "last checkpoint": last, "fixed count, chosen on the other subjects": fixed, "the recipe's count": by_recipe,
    "best in hindsight": hindsight,
}  # fmt: skip
"""What the study asks about, fixed before it was run."""
CANDIDATES: dict[str, Way] = {
    "highest DINO": most_faithful, "lowest loss": lowest_loss, "harmonic mean of the signals": balanced,
    "the rule, bounds tuned on the other subjects": tuned_bounds,
}  # fmt: skip
"""Other rules, to learn from."""


def chosen(runs: Sequence[Run], way: Way) -> list[int]:
    """The step that a way chooses for each run, which its own subject has no say in."""
    return [way(run, [other for other in runs if other.subject != run.subject]) for run in runs]


def _share(value: float, zero: float, one: float) -> float:
    return min(1.0, max(0.0, (value - zero) / max(one - zero, 1e-3)))


@cache
def _score_by(run: Run, bounds: Bounds) -> float:
    """What the rule with these bounds reaches on a run."""
    return run.worth(by_rule(run, bounds=bounds))
