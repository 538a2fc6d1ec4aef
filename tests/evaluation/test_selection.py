"""The rule that chooses a checkpoint, on curves made by hand: what it should choose is plain to see in each."""

import json

import pytest

from dreambooth.evaluation.live import choose_checkpoint, read_curve
from dreambooth.evaluation.selection import Bounds, Signals, choose, should_stop

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
        (OVERFIT, 300, "prompts are followed less (from step 400)"),
        (UNDERFIT, 500, "the last: fidelity still rises"),
        (FLAT, 100, "train for longer"),
        (DRIFT, 200, "the class turns into the subject (from step 300)"),
        (PLATEAU, 200, "not more faithful by more than 0.01"),
    ],
)
def test_the_choice_and_its_reason(shape, step, word):
    found = choose(shape, BASE, real_dino=REAL)
    assert found.step == step and word in found.why and found.sound
    assert found.why.startswith(f"Step {step}") and found.why.endswith(".")


def test_the_highest_dino_is_not_chosen_when_it_copies():
    shape = curve([0.6, 0.65, 0.9], copying=[0.0, 0.0, 0.8])
    assert choose(shape, BASE, real_dino=REAL).step == 200


def test_when_none_is_sound_the_least_bad_is_chosen_and_said_so():
    shape = curve([0.6, 0.7], [0.25, 0.23], copying=[0.3, 0.9])
    found = choose(shape, BASE, real_dino=REAL)
    assert found.step == 100 and not found.sound and "no checkpoint keeps within the bounds" in found.why


def test_signals_that_were_not_measured_do_not_count():
    assert choose({10: Signals(0.5), 20: Signals(0.6)}, Signals(0.4)).step == 20
    plain = Signals(dino=0.4, clip_t=0.34)
    assert choose({10: Signals(0.5, 0.32), 20: Signals(0.6, 0.29)}, plain).step == 10, "without chance, 90 % of the whole"


def test_nothing_to_choose_from():
    with pytest.raises(ValueError, match="no checkpoint"):
        choose({}, BASE)


@pytest.mark.parametrize(("shape", "stops_after"), [(OVERFIT, None), (UNDERFIT, None), (FLAT, 4), (PLATEAU, 5)])
def test_early_stop(shape, stops_after):
    steps = sorted(shape)
    stopped = [n for n in range(1, len(steps) + 1) if should_stop({s: shape[s] for s in steps[:n]}, BASE, real_dino=REAL)]
    assert (stopped[0] if stopped else None) == stops_after


def test_an_overfitting_run_stops_after_three_unsound_looks():
    longer = OVERFIT | {600: Signals(0.85, 0.23, 0.7, 1.0)}
    assert should_stop(longer, BASE, real_dino=REAL) and not should_stop(OVERFIT, BASE, real_dino=REAL)


def test_the_curve_is_read_back_from_the_runs_metrics(tmp_path):
    lines = [{"step": 0, "dino": 0.4, "clip_t": 0.34, "clip_t_chance": 0.22}, {"step": 5, "loss": 1.0}]
    lines += [{"step": 10, "dino": 0.6, "clip_t": 0.33}, {"step": 20, "dino": 0.7, "clip_t": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "di')
    assert sorted(read_curve(tmp_path / "metrics.jsonl")) == [0, 10, 20]
    assert choose_checkpoint(tmp_path) is None, "no checkpoints"
    for step in (10, 20):
        state = tmp_path / f"checkpoint-{step}" / "training_state"
        state.mkdir(parents=True)
        (state / "state.json").write_text("{}")
    found = choose_checkpoint(tmp_path)
    assert found and found.step == 10
    assert read_curve(tmp_path / "none.jsonl") == {}


def test_other_bounds_choose_otherwise_and_the_rule_stays_as_it_is():
    assert choose(OVERFIT, BASE, real_dino=REAL, bounds=Bounds()) == choose(OVERFIT, BASE, real_dino=REAL)
    lax = Bounds(obeys=0.0, collapsed=1.0, copies=1.0)
    assert choose(OVERFIT, BASE, real_dino=REAL, bounds=lax).step == 500, "nothing forbids the copyist"
    assert choose(OVERFIT, BASE, real_dino=REAL, bounds=Bounds(obeys=0.95)).step == 100
    assert choose(PLATEAU, BASE, real_dino=REAL, bounds=Bounds(noise=0.0)).step == 400
