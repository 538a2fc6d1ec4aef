"""Bootstrap, scores, verdict and selection, on numbers made by hand."""

import numpy as np
import pytest
import torch

from dreambooth.evaluation.bootstrap import interval, resampled
from dreambooth.evaluation.scoring import by_prompt, measure, real_scores, score, scores
from dreambooth.evaluation.selection import Choice
from dreambooth.evaluation.verdict import Standing, verdict
from dreambooth.metrics import EvalImages, PerSampleValues
from tests.metrics.encoders import Written, picture, shot


def terms(values, groups=None) -> PerSampleValues:
    return PerSampleValues(torch.tensor(values, dtype=torch.float64), torch.tensor(groups or [0] * len(values)))


def test_an_interval_repeats_and_holds_the_mean():
    t = terms(list(np.random.default_rng(0).normal(0.6, 0.1, 40)), [i // 4 for i in range(40)])
    low, high = interval(t, seed=3)
    assert interval(t, seed=3) == (low, high) != interval(t, seed=4)
    assert low < t.mean() < high


def test_four_pictures_of_a_prompt_are_no_four_independent_ones():
    """Ten prompts far apart, pictures of each alike: the interval is as wide as that of ten numbers, not of forty."""
    levels = list(np.random.default_rng(1).normal(0.5, 0.2, 10))
    grouped = interval(terms([v for v in levels for _ in range(4)], [i // 4 for i in range(40)]), seed=0)
    alone = interval(terms([v for v in levels for _ in range(4)], [0] * 40), seed=0)
    assert grouped[1] - grouped[0] > 1.6 * (alone[1] - alone[0])


def test_intervals_cover_what_they_should():
    """Of 200 sets of 40 normal numbers, 95 % of the intervals should hold the true mean; the bootstrap's known shortfall allowed."""
    rng = np.random.default_rng(2)
    hits = [low <= 1.0 <= high for low, high in (interval(terms(list(rng.normal(1, 1, 40))), seed=i, replicates=300) for i in range(200))]
    assert 0.89 <= np.mean(hits) <= 0.99


def test_resampling_draws_prompts_then_pictures():
    counts = resampled(np.array([0, 0, 1, 1, 2, 2]), 500, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 6).all()
    by_group = counts.reshape(500, 3, 2).sum(axis=2)
    assert set(np.unique(by_group)) <= {0, 2, 4, 6} and len(np.unique(by_group)) > 1
    assert (resampled(np.zeros(4, dtype=int), 50, np.random.default_rng(0)).sum(axis=1) == 4).all()


def test_pairs_are_resampled_by_picture():
    points = torch.tensor([0.0, 0.1, 0.9, 1.0, 5.0], dtype=torch.float64)
    low, high = interval(PerSampleValues((points[:, None] - points[None]).abs(), torch.zeros(5, dtype=torch.long)), seed=0)
    assert 0 <= low < high <= 5


def test_one_number_has_no_interval_and_a_reason_is_kept():
    assert score(terms([0.5]), seed=0) == {"value": 0.5, "low": None, "high": None, "n": 1}
    assert score("why", seed=0) == {"value": None, "reason": "why"}


def test_one_picture_a_prompt_leaves_div_out_with_a_reason():
    encoders = Written({0: [1.0, 0.0], 1: [0.5, 1.0], 2: [1.0, 1.0]})
    measured = measure(EvalImages((shot(0), shot(1, row=1)), (picture(2),)), encoders, ("dino", "div", "pres"))
    table = scores(measured, seed=0)
    assert table["dino"]["n"] == 2 and table["div"]["value"] is None and "no diversity" in table["div"]["reason"]
    assert "no class images" in table["pres"]["reason"]
    rows = by_prompt(measured, 2, seed=0)
    assert rows[1]["dino"]["value"] == pytest.approx(measured["dino"].values[1].item()) and rows[0]["div"]["value"] is None


def test_the_mean_over_prompts_is_the_mean_of_the_table_by_prompt():
    encoders = Written({n: [float(n), 1.0] for n in range(7)})
    measured = measure(EvalImages(tuple(shot(n, row=n // 2) for n in range(6)), (picture(6),)), encoders, ("dino", "div"))
    rows = by_prompt(measured, 3, seed=0)
    for name in ("dino", "div"):
        assert np.mean([row[name]["value"] for row in rows]) == pytest.approx(measured[name].mean())


def test_one_photo_has_no_real_row_without_self_pairs():
    table = real_scores([picture(0)], Written({0: [1.0, 0.0]}, {0: [1.0, 0.0]}), seed=0)
    assert table["without_self_pairs"]["dino"]["value"] is None and table["with_self_pairs"]["dino"]["value"] == pytest.approx(1.0)


def table(**values: float) -> dict[str, dict[str, float]]:
    return {name: {"value": value} for name, value in values.items()}


UNTUNED = table(dino=0.4, clip_t=0.34, clip_t_chance=0.22, pres=0.4, div=0.7, div_class=0.7, noise=1.0)
REAL = table(dino=0.72)
GOOD = {"dino": 0.67, "clip_t": 0.32, "pres": 0.45, "div": 0.45, "div_class": 0.65, "copying": 0.0, "noise": 1.0, "broken": 0.0}
GOOD |= {"entanglement": 0.3}


@pytest.mark.parametrize(
    ("changed", "word", "problem"),
    [
        ({}, "good", None),
        ({"dino": 0.45, "clip_t": 0.335}, "undertrained", "fidelity"),
        ({"clip_t": 0.25}, "overfitted", "prompts"),
        ({"copying": 0.4, "dino": 0.75}, "overfitted", "copying"),
        ({"dino": 0.42, "clip_t": 0.24}, "damaged", "prompts"),
        ({"broken": 0.3}, "damaged", "broken"),
        ({"pres": 0.65}, "fair", "collapse"),
        ({"div": 0.1}, "fair", "diversity"),
        ({"div_class": 0.2}, "fair", "class"),
        ({"noise": 9.0}, "fair", "noise"),
        ({"entanglement": 0.9}, "fair", "entanglement"),
        ({"dino": 0.55}, "fair", "fidelity"),
    ],
)
def test_the_verdict_names_what_is_wrong_and_what_to_do(changed, word, problem):
    found = verdict(table(**{**GOOD, **changed}), UNTUNED, REAL)
    assert found.word == word, found.sentence
    assert (problem in {p.name for p in found.problems}) if problem else not found.problems
    assert all(p.advice and p.what.endswith(".") for p in found.problems)


def test_a_model_that_has_lost_its_prompts_is_not_advised_to_train_on():
    found = verdict(table(**{**GOOD, "dino": 0.5, "clip_t": 0.25}), UNTUNED, REAL)
    assert {p.name for p in found.problems} >= {"prompts", "fidelity"}
    assert not any("longer" in p.advice or "more steps or" in p.advice for p in found.problems)


LEVEL, RISING, LATER = Choice(300, "Step 300 is best.", 450), Choice(450, "Step 450 is best.", 450), Choice(600, "Step 600 is best.", 600)


@pytest.mark.parametrize(
    ("changed", "choice", "word", "advised", "not_advised"),
    [
        ({"dino": 0.45}, None, "undertrained", "more steps", "@"),
        ({"dino": 0.45}, RISING, "undertrained", "more steps", "@"),
        ({"dino": 0.45}, LEVEL, "stalled", "higher learning rate", "more steps"),
        ({"dino": 0.45}, LATER, "undertrained", "my-dog@600", "more steps"),
        ({"dino": 0.55}, None, "fair", "longer", "@"),
        ({"dino": 0.55}, LEVEL, "fair", "--train_text_encoder", "longer"),
        ({"clip_t": 0.25}, None, "overfitted", "fewer steps", "@"),
        ({"clip_t": 0.25}, LEVEL, "overfitted", "my-dog@300", "fewer steps"),
        ({"clip_t": 0.25}, RISING, "overfitted", "lower learning rate", "steps"),
        ({"dino": 0.5, "clip_t": 0.25}, RISING, "damaged", "lower learning rate", "More steps would cost"),
        ({"copying": 0.4, "div": 0.1, "div_class": 0.1, "noise": 9.0}, LEVEL, "overfitted", "my-dog@300", "fewer steps"),
        ({"copying": 0.4, "div": 0.1, "div_class": 0.1}, RISING, "overfitted", "more photos", "steps"),
    ],
)
def test_advice_about_steps_follows_what_the_run_has_chosen(changed, choice, word, advised, not_advised):
    standing = Standing("my-dog", 450, choice) if choice else None
    found = verdict(table(**{**GOOD, **changed}), UNTUNED, REAL, standing=standing)
    output = " ".join(problem.advice for problem in found.problems)
    assert found.word == word, found.sentence
    assert advised in output and not_advised not in output
    assert (choice is not None and choice.why in found.sentence) == (choice in (LEVEL, LATER))


def test_the_best_step_itself_is_not_sent_back_to_itself():
    best = Standing("my-dog", 300, LEVEL)
    found = verdict(table(**{**GOOD, "dino": 0.45, "copying": 0.4}), UNTUNED, REAL, standing=best)
    assert found.word == "stalled" and LEVEL.why in found.sentence
    assert not any("@" in problem.advice or "fewer steps" in problem.advice for problem in found.problems)
    assert verdict(table(**GOOD), UNTUNED, REAL, standing=best).word == "good"


def test_without_an_untuned_model_there_is_no_verdict():
    found = verdict(table(**GOOD), {}, {})
    assert found.word == "unknown" and found.figures["fidelity"] is None and "no untuned model" in found.sentence
    varied = verdict(table(**GOOD), table(dino=0.62), table(dino=0.61))
    assert varied.word == "unknown" and "no more alike" in varied.sentence
    assert verdict(table(**{**GOOD, "broken": 1.0}), {}, {}).word == "damaged"


def test_the_papers_own_numbers_are_good():
    """Table 1 (0.668, 0.305, real 0.720 without self-pairs) over HiFi Tuner's untuned row (0.393, 0.337)."""
    untuned = table(dino=0.393, clip_t=0.337, clip_t_chance=0.2)
    found = verdict(table(dino=0.668, clip_t=0.305), untuned, table(dino=0.72))
    assert found.word == "good" and found.figures["fidelity"] == pytest.approx(0.84, abs=0.01)
