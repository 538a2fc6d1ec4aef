"""From votes to shares: majority over the raters of a pair, intervals, and how far the raters agree."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from dreambooth.bench.tables.statistics import CONFIDENCE, MIN_SUBJECTS, REPLICATES, expanded_tail, sign_flip

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Share:
    """How often a word won, of so many pairs."""

    value: float
    low: float
    high: float
    count: int


def majority(votes: Sequence[str]) -> str:
    """The word that more than half of the voters said; else, as for a split vote, undecided."""
    word, count = Counter(votes).most_common(1)[0]
    return word if 2 * count > len(votes) else UNDECIDED


def share(word: str, winners: Mapping[str, Sequence[str]], *, seed: int = 0) -> Share:
    """The share of pairs that a word won, by subject, with a 95 % interval.

    Wilson's interval over pairs (1927), widened to that of a cluster bootstrap where five or more subjects are there: pairs of one
    subject are not independent.
    """
    hits = [np.array([won == word for won in some], dtype=float) for some in winners.values() if some]
    count, n = int(sum(h.sum() for h in hits)), sum(map(len, hits))
    low, high = wilson(count, n)
    if len(hits) >= MIN_SUBJECTS:
        rng = np.random.default_rng(seed)
        picked = rng.integers(0, len(hits), size=(REPLICATES, len(hits)))
        sums, sizes = np.array([h.sum() for h in hits]), np.array([len(h) for h in hits])
        tail = expanded_tail(len(hits))
        bounds = np.quantile(sums[picked].sum(axis=1) / sizes[picked].sum(axis=1), [tail, 1 - tail])
        low, high = min(low, float(bounds[0])), max(high, float(bounds[1]))
    return Share(count / n, low, high, count)


def wilson(count: int, n: int) -> tuple[float, float]:
    """95 % interval of a share; honest near 0 and 1, where the bootstrap has nothing to draw."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    middle, spread = (count + z * z / 2) / (n + z * z), z * math.sqrt(count * (n - count) / n + z * z / 4) / (n + z * z)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def krippendorff(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for names (nominal), each unit with the votes that it got (2011, "Computing Krippendorff's alpha-reliability").

    1: all agree; 0: as if by chance. None where no unit has two votes, or all votes are one word.
    """
    kept = [unit for unit in units if len(unit) > 1]
    totals = Counter(vote for unit in kept for vote in unit)
    n = sum(totals.values())
    expected = n * n - sum(count * count for count in totals.values())
    if not expected:
        return None
    observed = sum((len(unit) ** 2 - sum(c * c for c in Counter(unit).values())) / (len(unit) - 1) for unit in kept)
    return 1 - (n - 1) * observed / expected


def preference(winners: Mapping[str, Sequence[str]], *, seed: int = 0) -> float:
    """Two-sided p that nobody is preferred, over subjects: each one's share of pairs for the first less that for the second."""
    shares = [np.mean([(won == "first") - (won == "second") for won in some]) for some in winners.values() if some]
    return sign_flip(np.array(shares), seed=seed)


def agreement(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Share of the pairs of raters that said the same of the same unit; None where nobody shared one."""
    same = [a == b for unit in units for a, b in combinations(unit, 2)]
    return sum(same) / len(same) if same else None
