"""Majority, intervals and agreement, against worked examples and scipy; and the files that answers come in."""

import numpy as np
import pytest
from scipy import stats

from dreambooth.core.errors import SettingError
from dreambooth.study.answers import Answer, read_answers
from dreambooth.study.votes import UNDECIDED, agreement, krippendorff, majority, share, wilson

KRIPPENDORFF = (
    "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .",
)  # fmt: skip
"""The example of Krippendorff 2011 (section C): four observers, twelve units, missing values."""


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        (["first", "first", "second"], "first"),
        (["first", "second", UNDECIDED], UNDECIDED),
        (["first", "second"], UNDECIDED),
        ([UNDECIDED, UNDECIDED, "first"], UNDECIDED),
        (["second"], "second"),
        (["first", "first", "second", UNDECIDED], UNDECIDED),
    ],
)
def test_more_than_half_of_the_voters_decide(votes, winner):
    assert majority(votes) == winner


def test_alpha_is_krippendorffs_own_example():
    columns = zip(*(line.split() for line in KRIPPENDORFF), strict=True)
    assert krippendorff([[vote for vote in unit if vote != "."] for unit in columns]) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends():
    assert krippendorff([["a", "a"], ["b", "b"]]) == 1.0
    assert krippendorff([["a", "b"], ["b", "a"]]) < 0
    assert krippendorff([["a", "a"], ["a", "a"]]) is None and krippendorff([["a"], ["b"]]) is None
    rng = np.random.default_rng(0)
    assert abs(krippendorff([list(rng.integers(0, 3, 3)) for _ in range(3000)])) < 0.03


def test_agreement_counts_pairs_of_raters():
    assert agreement([["a", "a", "b"], ["c"]]) == pytest.approx(1 / 3) and agreement([["a"]]) is None


@pytest.mark.parametrize(("count", "n"), [(0, 12), (5, 25), (25, 25), (17, 600)])
def test_wilsons_interval_is_scipys(count, n):
    theirs = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((theirs.low, theirs.high))


def test_subjects_that_differ_widen_the_interval():
    """Three subjects always prefer the one, three the other: sixty pairs, yet no more than six opinions."""
    alike = {f"s{n}": ["first", "second"] * 5 for n in range(6)}
    apart = {f"s{n}": ["first" if n % 2 else "second"] * 10 for n in range(6)}
    narrow, wide = share("first", alike), share("first", apart)
    assert narrow.value == wide.value == 0.5 and narrow.count == 30
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
    assert (narrow.low, narrow.high) == pytest.approx(wilson(30, 60))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ü.csv", "study,rater,comparison,identity,prompt,seconds\ns,Jürgen,1,A,equal,2\n"),
        ("ü.json", '{"study": "s", "rater": "Jürgen", "answers": {"1": {"identity": "A", "prompt": "equal", "seconds": 2}}}'),
    ],
)
def test_answers_are_read_as_a_spreadsheet_or_an_editor_has_saved_them(tmp_path, name, text, encoding):
    key = {"study": "s", "comparisons": [{"id": "1"}]}
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read_answers([str(tmp_path)], key) == [Answer("Jürgen", "1", "A", "equal", 2.0)]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError, match="UTF-8") as raised:
        read_answers([str(tmp_path)], key)
    assert name in str(raised.value)
