"""The study's answer from its rows: does the rule choose better checkpoints than simpler ways, by how much, and how sure is that?

All comparisons are paired (the same run, two steps of it). Intervals are a bootstrap in two stages, subjects first and then each
one's seeds, since runs of one subject resemble each other; with five subjects such intervals are still somewhat too narrow.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.selection.rows import rows_in
from benchmarks.selection.rules import CANDIDATES, STUDIED, Run, chosen, read
from benchmarks.selection.score import ALTERNATIVES, Parts, score

RULE, LAST, FIXED = tuple(STUDIED)[:3]
ENOUGH_SUBJECTS, ENOUGH_RUNS = 5, 15
"""Below these nothing is claimed."""
REPLICATES = 10_000
HEAD = (
    "| how the step is chosen | mean step | referee | fidelity | prompt | prior | rule - this | 95 % interval | better/equal/worse |",
    "|---|---|---|---|---|---|---|---|---|",
)


def table(folder: Path) -> str:
    """Markdown; says plainly whether the rule wins."""
    rows = rows_in(folder)
    if not rows:
        return f"There are no rows in {folder}: the study has not been run."
    keys = {json.dumps(row["key"], sort_keys=True) for row in rows}
    if len(keys) > 1:
        return f"The rows in {folder} are of {len(keys)} different studies (weights or settings); run it again, or move the old ones away."
    runs = [read(row) for row in rows]
    if len({run.subject for run in runs}) < 2:
        return f"There are {len(runs)} rows of one subject: nothing can be chosen on the others."
    steps = {name: chosen(runs, way) for name, way in (STUDIED | CANDIDATES).items()}
    key = rows[0]["key"]
    head = (
        f"{len(runs)} runs: {len({run.subject for run in runs})} subjects x {len({run.seed for run in runs})} seeds, "
        f"method {key['method']}, {key['steps']} updates, a checkpoint every {key['every']}, recipe {key['recipe_steps']}; "
        f"toybox {key['model']}, encoders {key['encoders']}."
    )
    return "\n".join([head, "", *answer(runs, steps), "", *main_table(runs, steps), "", *other_scores(runs, steps),
                      "", *candidates(runs, steps), "", *each(runs, steps)])  # fmt: skip


def answer(runs: Sequence[Run], steps: dict[str, list[int]]) -> list[str]:
    """A sentence for each thing that the rule was to beat."""
    lines, wins = [], []
    for other in (LAST, FIXED):
        difference = scores(runs, steps[RULE]) - scores(runs, steps[other])
        low, high = interval(runs, difference)
        better = low > 0
        wins.append(better)
        words = "is better" if better else "is worse" if high < 0 else "is not shown to be better or worse"
        lines.append(f"The rule {words} than: {other} ({difference.mean():+.3f}, 95 % {low:+.3f} to {high:+.3f}).")
    if not _is_enough(runs):
        return [f"Too few runs to say anything ({ENOUGH_SUBJECTS} subjects and {ENOUGH_RUNS} runs at least). So far:", *lines]
    best = max((RULE, LAST, FIXED), key=lambda name: scores(runs, steps[name]).mean())
    last_word = "**The rule wins.**" if all(wins) else f"**The rule does not win** over both. The best of the three on average: {best}."
    return [last_word, *lines]


def main_table(runs: Sequence[Run], steps: dict[str, list[int]]) -> list[str]:
    """The ways that the study asks about."""
    return [*HEAD, *(_line(runs, steps, name) for name in STUDIED)]


def other_scores(runs: Sequence[Run], steps: dict[str, list[int]]) -> list[str]:
    """Whether the answer depends on how the referee adds up."""
    lines = ["With other definitions of the referee's score (the fixed count is still chosen by the first):", "",
             "| referee | rule - last | 95 % interval | rule - fixed | 95 % interval |", "|---|---|---|---|---|"]  # fmt: skip
    for name, how in {"harmonic mean of the three": score, **ALTERNATIVES}.items():
        cells = [name]
        for other in (LAST, FIXED):
            difference = scores(runs, steps[RULE], how) - scores(runs, steps[other], how)
            low, high = interval(runs, difference)
            cells += [f"{difference.mean():+.3f}", f"{low:+.3f} to {high:+.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def candidates(runs: Sequence[Run], steps: dict[str, list[int]]) -> list[str]:
    """Other rules on the same rows, with the warning that belongs to them."""
    lines = [
        "Other rules. **These rows may suggest a rule, not prove it**: what is kept because it does well here was tuned on these subjects,",
        "and has to win again on new ones (`--subjects ...`, other rows). Bounds that are tuned are tuned on the other subjects only.",
        "",
        *HEAD,
    ]
    return [*lines, *(_line(runs, steps, name) for name in CANDIDATES)]


def each(runs: Sequence[Run], steps: dict[str, list[int]]) -> list[str]:
    """Run by run: the step of each way, and the referee's score of it."""
    names = list(STUDIED)
    lines = ["| subject | seed | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for place, run in enumerate(runs):
        cells = [f"{steps[name][place]} ({run.worth(steps[name][place]):.3f})" for name in names]
        lines.append(f"| {run.subject} | {run.seed} | " + " | ".join(cells) + " |")
    return lines


def scores(runs: Sequence[Run], steps: Sequence[int], how: Callable[[Parts], float] = score) -> np.ndarray:
    """The referee's score of a step of each run."""
    return np.array([run.worth(step, how) for run, step in zip(runs, steps, strict=True)])


def interval(runs: Sequence[Run], values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean, drawn over subjects and, within each, over seeds."""
    subjects = sorted({run.subject for run in runs})
    groups = [values[[run.subject == subject for run in runs]] for subject in subjects]
    counts = np.array([len(group) for group in groups])
    grid = np.array([np.resize(group, counts.max()) for group in groups])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(groups), (REPLICATES, len(groups)))
    picks = (rng.random((*drawn.shape, counts.max())) * counts[drawn][..., None]).astype(int)
    inside = np.arange(counts.max()) < counts[drawn][..., None]
    means = (grid[drawn[..., None], picks] * inside).sum((1, 2)) / inside.sum((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _line(runs: Sequence[Run], steps: dict[str, list[int]], name: str) -> str:
    mine = scores(runs, steps[name])
    chosen_parts = [run.parts[step] for run, step in zip(runs, steps[name], strict=True)]
    means = [np.mean([getattr(p, part) for p in chosen_parts]) for part in ("fidelity", "prompt", "prior")]
    cells = [name, f"{np.mean(steps[name]):.0f}", f"{mine.mean():.3f}", *(f"{mean:.3f}" for mean in means)]
    if name == RULE:
        return "| " + " | ".join([*cells, "", "", ""]) + " |"
    difference = scores(runs, steps[RULE]) - mine
    low, high = interval(runs, difference)
    signs = [int((difference > 1e-9).sum()), int((abs(difference) <= 1e-9).sum()), int((difference < -1e-9).sum())]
    return "| " + " | ".join([*cells, f"{difference.mean():+.3f}", f"{low:+.3f} to {high:+.3f}", "/".join(map(str, signs))]) + " |"


def _is_enough(runs: Sequence[Run]) -> bool:
    return len({run.subject for run in runs}) >= ENOUGH_SUBJECTS and len(runs) >= ENOUGH_RUNS
