"""The rows as a table: means over subjects and seeds, and paired differences with bootstrap intervals."""

import json
from pathlib import Path

import numpy as np

COLUMNS = ("dino", "clip_t", "pres", "div_class")
CLAIMS = (
    ("prior preservation lowers PRES", "pres", "prior", "no prior", -1),
    ("prior preservation keeps the class diverse", "div_class", "prior", "no prior", +1),
    ("too many updates lower CLIP-T", "clip_t", "no prior, too many updates", "no prior", -1),
)
"""What is claimed: metric, the two arms, and the sign of first minus second."""
ENOUGH = 10
"""Pairs (5 subjects x 2 seeds) below which no claim is made."""


def table(folder: Path) -> str:
    """Markdown."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| arm | n | DINO | CLIP-T | PRES | DIV of the class |", "|---|---|---|---|---|---|"]
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        means = [np.mean([row[name] for row in mine]) for name in COLUMNS]
        lines.append(f"| {arm} | {len(mine)} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    lines += ["", "| claim | difference | 95 % interval | pairs | holds |", "|---|---|---|---|---|"]
    for words, name, first, second, sign in CLAIMS:
        differences = paired(rows, name, first, second)
        if len(differences) < 2:
            continue
        low, high = interval(differences)
        shown = low > 0 if sign > 0 else high < 0
        holds = f"too few pairs to say (under {ENOUGH})" if len(differences) < ENOUGH else "yes" if shown else "not shown"
        lines.append(f"| {words} | {differences.mean():+.3f} | {low:+.3f} to {high:+.3f} | {len(differences)} | {holds} |")
    return "\n".join(lines)


def paired(rows: list[dict], name: str, first: str, second: str) -> np.ndarray:
    """First minus second, for every subject and seed that has both."""
    by = {(row["subject"], row["seed"], row["arm"]): row[name] for row in rows}
    keys = [key[:2] for key in by if key[2] == first and (*key[:2], second) in by]
    return np.array([by[*key, first] - by[*key, second] for key in keys])


def interval(values: np.ndarray, *, replicates: int = 10_000) -> tuple[float, float]:
    """Percentile bootstrap of the mean over subjects and seeds."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (replicates, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
