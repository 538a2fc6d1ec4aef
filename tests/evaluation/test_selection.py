"""The rule that chooses a checkpoint, on curves made by hand: what it should choose is plain to see in each."""

import json

import pytest

from dreambooth.evaluation.live import read_curve
from dreambooth.evaluation.selection import Signals, balance, choose, parts, should_stop

BASE = Signals(dino=0.40, clip_t=0.34, pres=0.40, copying=0.0, clip_t_chance=0.22)
REAL = 0.72


def curve(dino, clip_t=None, pres=None, copying=None) -> dict[int, Signals]:
    count = len(dino)
    columns = [dino, clip_t or [0.34] * count, pres or [0.40] * count, copying or [0.0] * count]
    return {100 * (i + 1): Signals(*row) for i, row in enumerate(zip(*columns, strict=True))}


OVERFIT = curve([0.5, 0.6, 0.68, 0.74, 0.80], [0.335, 0.33, 0.32, 0.27, 0.24], [0.42, 0.44, 0.47, 0.55, 0.65], [0, 0, 0.05, 0.3, 0.9])
UNDERFIT = curve([0.42, 0.45, 0.48, 0.52, 0.55])
FLAT = curve([0.400, 0.402, 0.399, 0.401])
DRIFT = curve([0.55, 0.62, 0.66, 0.67], pres=[0.45, 0.50, 0.60, 0.68])
PLATEAU = curve([0.5, 0.66, 0.665, 0.668, 0.664])


@pytest.mark.parametrize(
    ("shape", "step", "word"),
    [
        (OVERFIT, 300, "by step 500 photos are repeated (kept: 95%, then 10%)"),
        (UNDERFIT, 500, "Best so far: step 500"),
        (FLAT, 400, "train for longer"),
        (DRIFT, 200, "by step 400 the class turns into the subject (kept: 69%, then 12%)"),
        (PLATEAU, 200, "training on to 500 gained nothing"),
    ],
)
def test_the_choice_and_its_reason(shape, step, word):
    found = choose(shape, BASE, real_dino=REAL)
    assert found.step == step and word in found.why
    assert f"tep {step}" in found.why and found.why.endswith(".")
    assert found.last == max(shape) and found.may_gain == (step == max(shape))


def test_the_parts_are_shares_of_the_way_and_their_harmonic_mean_counts():
    found = parts(Signals(dino=0.56, clip_t=0.28, pres=0.48, copying=0.25, clip_t_chance=0.22), BASE, REAL)
    assert found == pytest.approx({"subject": 0.5, "prompts": 0.5, "class": 0.75, "photos": 0.75})
    assert balance(found) == pytest.approx(4 / (2 + 2 + 4 / 3 + 4 / 3))
    outside = parts(Signals(dino=0.9, clip_t=0.2, pres=0.3), BASE, REAL)
    assert outside == {"subject": 1.0, "prompts": 0.0, "class": 1.0} and 0 < balance(outside) < 0.05


def test_the_highest_dino_is_not_chosen_when_it_copies():
    shape = curve([0.6, 0.65, 0.9], copying=[0.0, 0.0, 0.8])
    found = choose(shape, BASE, real_dino=REAL)
    assert found.step == 200 and "by step 300 photos are repeated (kept: 100%, then 20%)" in found.why


def test_signals_that_were_not_measured_do_not_count():
    assert choose({10: Signals(0.5), 20: Signals(0.6)}, Signals(0.4)).step == 20
    plain = Signals(dino=0.4, clip_t=0.34)
    assert parts(Signals(0.5, 0.17), plain, None) == pytest.approx({"subject": 1 / 6, "prompts": 0.5}), "without chance, of the whole"


def test_nothing_to_choose_from():
    with pytest.raises(ValueError, match="no checkpoint"):
        choose({}, BASE)


@pytest.mark.parametrize(("shape", "stops_after"), [(OVERFIT, None), (UNDERFIT, None), (FLAT, None), (PLATEAU, 5)])
def test_early_stop(shape, stops_after):
    steps = sorted(shape)
    stopped = [n for n in range(1, len(steps) + 1) if should_stop({s: shape[s] for s in steps[:n]}, BASE, real_dino=REAL)]
    assert (stopped[0] if stopped else None) == stops_after


def test_an_overfitting_run_stops_after_three_evaluation_passes_without_a_gain():
    longer = OVERFIT | {600: Signals(0.85, 0.23, 0.7, 1.0, 0.22)}
    assert should_stop(longer, BASE, real_dino=REAL) and not should_stop(OVERFIT, BASE, real_dino=REAL)


def test_the_curve_is_read_back_from_the_runs_metrics(tmp_path):
    lines = [{"step": 0, "dino": 0.4, "clip_t": 0.34, "clip_t_chance": 0.22}, {"step": 5, "loss": 1.0}]
    lines += [{"step": 10, "dino": 0.6, "clip_t": 0.33}, {"step": 20, "dino": 0.7, "clip_t": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "di')
    assert sorted(read_curve(tmp_path)) == [0, 10, 20]
    assert read_curve(tmp_path / "none") == {}
