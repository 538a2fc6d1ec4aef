"""Means, intervals and tests, against numbers worked out by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from dreambooth.bench.tables.results import results
from dreambooth.bench.tables.statistics import T_975, binomial, interval, paired, sign_flip, summary
from tests.bench.made_up import ON, layout, row


def jobs(rng, *, subjects: int, seeds: int, between: float = 1.0, within: float = 0.5, mean: float = 0.0):
    """Scores of so many subjects and seeds."""
    levels = rng.normal(mean, between, subjects)
    return {(f"s{g:02d}", s): float(level + rng.normal(0, within)) for g, level in enumerate(levels) for s in range(seeds)}


def test_a_cell_worked_out_by_hand():
    """Subjects' means 2 and 7, so 4.5; seeds' means 4 and 5, so a deviation of 1 / sqrt(2)."""
    found = summary({("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 7.0, ("b", 1): 7.0})
    assert found.mean == 4.5 and found.sd == pytest.approx(1 / math.sqrt(2)) and found.interval is None
    assert (found.subjects, found.seeds, found.n) == (2, 2, 4)


def test_a_subject_with_more_seeds_weighs_no_more_than_another():
    assert summary({("a", 0): 0.0, ("a", 1): 0.0, ("a", 2): 0.0, ("b", 0): 1.0}).mean == 0.5


def test_the_spread_over_seeds_counts_only_seeds_that_all_subjects_have():
    """Seed 1 lacks the easy subject: its mean would fall for that reason alone."""
    values = {("hard", 0): 0.2, ("easy", 0): 0.8, ("hard", 1): 0.2, ("hard", 2): 0.3, ("easy", 2): 0.9}
    assert summary(values).sd == pytest.approx(0.1 / math.sqrt(2))
    assert summary({("hard", 0): 0.2, ("easy", 0): 0.8, ("hard", 1): 0.2}).sd is None
    assert summary({}) is None


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for subjects, seeds in ((6, 2), (12, 1)):
        bounds = [interval(jobs(rng, subjects=subjects, seeds=seeds), seed=i, replicates=1000) for i in range(200)]
        assert 0.90 <= np.mean([low <= 0 <= high for low, high in bounds]) <= 0.99


def test_seeds_of_one_subject_are_no_independent_subjects():
    """Six subjects far apart with five like seeds each: as wide as six numbers, not as thirty."""
    rng = np.random.default_rng(1)
    many = jobs(rng, subjects=6, seeds=5, within=0.001)
    loose = {(f"{subject}-{seed}", 0): value for (subject, seed), value in many.items()}
    wide, narrow = interval(many), interval(loose)
    assert wide[1] - wide[0] > 1.8 * (narrow[1] - narrow[0])


def test_a_wide_bootstrap_agrees_with_scipys_for_many_subjects():
    values = jobs(np.random.default_rng(2), subjects=60, seeds=1)
    theirs = stats.bootstrap((list(values.values()),), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    own = interval(values, replicates=20_000)
    width = theirs.high - theirs.low
    assert own == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)


def test_under_five_subjects_there_is_no_interval():
    rng = np.random.default_rng(0)
    assert interval(jobs(rng, subjects=4, seeds=20)) is None and interval(jobs(rng, subjects=5, seeds=1)) is not None


def test_the_t_table_is_students():
    assert pytest.approx(stats.t.ppf(0.975, np.arange(1, 31)), rel=1e-5) == T_975


def test_signs_by_hand():
    """Of the 8 sign patterns of 1, 2, 3 only the two with equal signs are as far out as the sum of 6."""
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip(np.array([1.0, -1.0])) == 1.0
    assert sign_flip(np.array([0.1] * 10)) == 2 / 2**10


@pytest.mark.parametrize("n", [6, 11, 40])
def test_the_permutation_test_is_scipys(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    theirs = stats.permutation_test(
        (differences, np.zeros(n)), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=0,
    ).pvalue  # fmt: skip
    assert sign_flip(differences) == pytest.approx(theirs, abs=1e-9 if n <= 14 else 0.02)


def test_pairs_are_jobs_that_both_have():
    first = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 5.0, ("c", 0): 9.0}
    second = {("a", 0): 0.0, ("a", 1): 0.0, ("b", 0): 1.0, ("d", 0): 9.0}
    found = paired(first, second)
    assert (found.n, found.subjects) == (3, 2) and found.difference == pytest.approx((1.5 + 4) / 2)
    assert paired(first, {("d", 0): 1.0}) is None


def test_pairing_takes_out_what_subjects_differ_in():
    """Subjects differ by 1.0, arms by 0.05: the arms' intervals overlap wholly, the paired one is clear of zero."""
    rng = np.random.default_rng(3)
    low = jobs(rng, subjects=10, seeds=2, within=0.0)
    high = {key: value + 0.05 + rng.normal(0, 0.01) for key, value in low.items()}
    assert summary(high).interval[0] < summary(low).interval[1]
    found = paired(high, low)
    assert found.sign == 1 and 0.04 < found.interval[0] < found.difference < found.interval[1] < 0.06 and found.p == 2 / 2**10
    assert paired(low, high).sign == -1


def test_nothing_is_claimed_from_fewer_than_six_subjects_however_many_seeds():
    low = {(f"s{g}", seed): 0.0 for g in range(5) for seed in range(9)}
    found = paired(dict.fromkeys(low, 1.0), low)
    assert found.interval == (1.0, 1.0) and found.sign == 0
    low = {(f"s{g}", 0): 0.0 for g in range(6)}
    assert paired(dict.fromkeys(low, 1.0), low).sign == 1


def test_an_interval_that_excludes_zero_is_not_enough():
    """Five of six subjects agree, one does not: p = 0.06."""
    differences = [-0.004, 0.03, 0.025, 0.04, 0.035, 0.03]
    first = {(f"s{g}", seed): d for g, d in enumerate(differences) for seed in range(2)}
    found = paired(first, dict.fromkeys(first, 0.0))
    assert found.interval[0] > 0 and found.p > 0.05 and found.sign == 0


def test_an_arm_that_trains_nothing_stands_beside_every_seed_of_the_others():
    wide = layout(arms=(ON, "described"), untrained=("described",), baseline=None, paper={})
    made = [row(ON, f"s{n}", seed, dino=0.7) for n in range(6) for seed in range(3)]
    made += [row("described", f"s{n}", 0, dino=0.3) for n in range(6)]
    found = results(made, wide)
    (test,) = (t for t in found.tests if t.metric == "dino")
    assert (test.paired.n, test.paired.subjects) == (18, 6)
    ours, theirs = (next(line for line in found.lines if line.name == name) for name in (ON, "described"))
    assert ours.cells[0].best and (theirs.n.n, theirs.n.seeds, theirs.cells[0].summary.sd) == (6, 1, None)


def test_noise_is_seldom_taken_for_a_difference():
    rng = np.random.default_rng(4)
    claims = [paired(jobs(rng, subjects=10, seeds=1), jobs(rng, subjects=10, seeds=1), seed=i).sign != 0 for i in range(150)]
    assert np.mean(claims) < 0.11


def test_the_binomial_test_is_scipys():
    for successes, n in ((8, 10), (5, 10), (0, 4), (31, 47)):
        assert binomial(successes, n) == pytest.approx(stats.binomtest(successes, n).pvalue)
    assert binomial(0, 0) == 1.0
