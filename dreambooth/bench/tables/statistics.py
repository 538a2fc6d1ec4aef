"""What a table may say about its numbers: means, their spread over seeds, intervals over subjects, paired tests.

The subject is what is drawn from a population; seeds of one subject resemble each other. So a subject's seeds are averaged first,
intervals come from a cluster bootstrap (subjects drawn with replacement, then seeds within each drawn subject), and the permutation
test flips the sign of whole subjects. Percentile intervals of few subjects are too narrow; these are expanded by the t quantile
(Hesterberg 2015, "What teachers should know about the bootstrap"). On normal numbers they then held the true mean in 91 % (5 subjects,
1 seed), 95 % (5 x 3), 95 % (10 x 1), 95 % (10 x 3) and 94 % (30 x 1) of 400 draws. Under five subjects there is no interval: not even
the range of four numbers holds their median 95 times in 100.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, stdev

import numpy as np

Values = Mapping[tuple[str, int], float]
"""(subject, seed) -> score of that job."""

CONFIDENCE, REPLICATES, FLIPS = 0.95, 10_000, 20_000
ALPHA, MIN_SUBJECTS, MIN_TO_CLAIM = 0.05, 5, 6
"""A claim's p is below ALPHA, which the sign-flip test reaches from 6 subjects on; an interval needs 5. Seeds are no evidence of their
own: two sessions with one dog are still one dog."""
EXACT_UP_TO = 14
"""Subjects up to which all 2^n signs are tried."""
T_975 = (
    12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.306, 2.26216, 2.22814, 2.20099, 2.17881, 2.16037, 2.14479, 2.13145,
    2.11991, 2.10982, 2.10092, 2.09302, 2.08596, 2.07961, 2.07387, 2.06866, 2.0639, 2.05954, 2.05553, 2.05183, 2.04841, 2.04523, 2.04227,
)  # fmt: skip
"""Student's t at 0.975 for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Summary:
    """One cell of a table."""

    mean: float
    """Mean over subjects of the mean over their seeds."""
    sd: float | None
    """Standard deviation over seeds of the mean over subjects; None under two seeds that all subjects have."""
    interval: tuple[float, float] | None
    """95 % cluster bootstrap over subjects; None under five subjects."""
    subjects: int
    seeds: int
    """Different seeds."""
    n: int
    """Jobs."""


@dataclass(frozen=True)
class Paired:
    """One arm against another on the (subject, seed) pairs that both have: first less second."""

    difference: float
    interval: tuple[float, float] | None
    p: float
    """Two-sided sign-flip permutation test over subjects; never below 2 / 2^subjects."""
    n: int
    """Pairs."""
    subjects: int

    @property
    def sign(self) -> int:
        """1 or -1 where the first is above or below the second beyond doubt, by interval and test; else 0."""
        if self.p >= ALPHA or self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return 0
        return 1 if self.difference > 0 else -1


def summary(values: Values, *, seed: int = 0) -> Summary | None:
    """A cell's numbers; None where there is no value."""
    if not values:
        return None
    grouped = _by_subject(values)
    seeds = sorted({s for _, s in values})
    complete = [s for s in seeds if all((subject, s) in values for subject in grouped)]
    by_seed = [sum(values[subject, s] for subject in grouped) / len(grouped) for s in complete]
    sd = stdev(by_seed) if len(by_seed) > 1 else None
    return Summary(_mean(grouped), sd, interval(values, seed=seed), len(grouped), len(seeds), len(values))


def paired(first: Values, second: Values, *, seed: int = 0) -> Paired | None:
    """First less second over what both have; None where they share nothing."""
    differences = {key: value - second[key] for key, value in first.items() if key in second}
    if not differences:
        return None
    grouped = _by_subject(differences)
    means = np.array([np.mean(found) for found in grouped.values()])
    return Paired(_mean(grouped), interval(differences, seed=seed), sign_flip(means, seed=seed), len(differences), len(grouped))


def interval(values: Values, *, seed: int = 0, replicates: int = REPLICATES) -> tuple[float, float] | None:
    """Bounds of the mean over subjects by the expanded percentile bootstrap; None under five subjects."""
    grouped = list(_by_subject(values).values())
    if len(grouped) < MIN_SUBJECTS:
        return None
    means = _replicates(grouped, replicates, np.random.default_rng(seed))
    tail = expanded_tail(len(grouped))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(differences: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p of a mean as far from zero as this one, were every sign as likely as its opposite [n].

    Exact (all 2^n signs) up to 14 numbers, else from 20,000 drawn ones, the observed one counted among them.
    """
    n = len(differences)
    observed = abs(differences.mean())
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(FLIPS, n))
    hits = int((np.abs(signs @ differences) / n >= observed - 1e-12).sum())
    return hits / 2**n if n <= EXACT_UP_TO else (hits + 1) / (FLIPS + 1)


def binomial(successes: int, n: int) -> float:
    """Two-sided exact p of so many successes among n at even odds; 1 where there is nothing to count."""
    far = max(successes, n - successes)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(far, n + 1)) / 2**n) if n else 1.0


def _replicates(grouped: list[np.ndarray], replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Means over drawn subjects of the means over drawn seeds, [replicates]."""
    n = len(grouped)
    longest = max(map(len, grouped))
    table = np.stack([np.resize(found, longest) for found in grouped])
    sizes = np.array([len(found) for found in grouped])
    subjects = rng.integers(0, n, size=(replicates, n))
    totals = np.zeros((replicates, n))
    for draw in range(longest):
        picked = table[subjects, rng.integers(0, sizes[subjects])]
        totals += np.where(draw < sizes[subjects], picked, 0.0)
    return (totals / sizes[subjects]).mean(axis=1)


def expanded_tail(n: int) -> float:
    """How much of the replicates each side leaves out: 2.5 % for many subjects, less for few."""
    df = n - 1
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    t = T_975[df - 1] if df <= len(T_975) else z + (z**3 + z) / (4 * df)
    return NormalDist().cdf(-math.sqrt(n / df) * t)


def _by_subject(values: Values) -> dict[str, np.ndarray]:
    """Each subject's values, in a fixed order."""
    found: dict[str, list[float]] = {}
    for (subject, _), value in sorted(values.items()):
        found.setdefault(subject, []).append(value)
    return {subject: np.array(some) for subject, some in found.items()}


def _mean(grouped: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([found.mean() for found in grouped.values()]))
