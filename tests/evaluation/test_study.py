"""The selection study: a referee that knows the truth, rules that do not see it, and a table that claims no more than its rows say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.selection import verdicts
from benchmarks.selection.referee import COLORS, PLACES, Referee, asked, colour_distance
from benchmarks.selection.rules import CANDIDATES, FIRST, STUDIED, chosen, grid, read
from benchmarks.selection.run import LOOKS, SUBJECTS, TIMES, read_curve, study_of
from benchmarks.selection.score import Parts, between, harmonic, parts, score
from benchmarks.selection.table import interval, table
from dreambooth.evaluation.protocol import TOYBOX_HELD_OUT
from dreambooth.families.sampling import Sampling
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.toybox.world import CLASSES, held_out_subjects, render, scene_of_prompt

STEPS = tuple(range(50, 650, 50))
TRUTH = {"likeness": 0.9, "colours": 0.02, "named_context": 0.99, "named_color": 0.8}
UNTUNED = {"likeness": 0.4, "colours": 0.16, "named_context": 0.99, "named_color": 0.8, "class_likeness": 0.4}


def row(subject: str, seed: int, *, best: int, model: str = "a", shift: float = 0.0) -> dict:
    """A run whose fidelity rises to the end while prompts are lost after `best`: the signals tell so, shifted by noise."""
    curve = {"0": {"dino": 0.4, "clip_t": 0.6, "pres": 0.4, "copying": 0.0, "clip_t_chance": 0.2}}
    looks = {}
    for step in STEPS:
        learned, lost = min(1.0, step / best), max(0.0, (step - best) / 300)
        kept = max(0.0, 1 - lost)
        curve[str(step)] = {"dino": 0.4 + 0.4 * learned + step / 10_000, "clip_t": 0.2 + 0.4 * kept + shift, "pres": 0.4, "copying": 0.0,
                            "clip_t_chance": 0.2, "loss_subject": 0.3 - step / 10_000}  # fmt: skip
        looks[str(step)] = {"likeness": 0.4 + 0.4 * learned, "colours": 0.16 - 0.1 * learned, "named_context": 0.1 + 0.89 * kept,
                            "named_color": 0.1 + 0.7 * kept, "class_likeness": 0.4}  # fmt: skip
    key = {"model": model, "encoders": "b", "method": "full", "steps": 600, "recipe_steps": 200, "every": 50, "referee": 1}
    return {"subject": subject, "seed": seed, "key": key, "real_dino": 0.85, "curve": curve, "looks": looks, "truth": TRUTH,
            "untuned": UNTUNED}  # fmt: skip


def rows(folder, counts=(100, 200, 300, 400, 500), seeds=3, **more) -> list[dict]:
    """Rows of subjects that are best at different counts."""
    made = [row(f"subject{best}", seed, best=best, **more) for best in counts for seed in range(seeds)]
    folder.mkdir(exist_ok=True)
    for one in made:
        (folder / f"{one['subject']}-{one['seed']}.json").write_text(json.dumps(one))
    return made


def test_what_chooses_never_judges():
    for noun in CLASSES:
        assert len(asked(noun)) == len(PLACES) + len(COLORS) == 8, "asserts itself that prompts, places and seeds are apart"
    named = {words.split(" at ")[0].split(" from ")[0] for words in TOYBOX_HELD_OUT}
    assert not named & set(PLACES)


@pytest.fixture(scope="module")
def referee():
    subject = next(s for s in held_out_subjects() if s.name == "teapot_zigzag")
    return Referee(
        subject, EncoderSettings().beside("toybox").load(device=torch.device("cpu")), Sampling(num_inference_steps=1, height=128)
    )


def test_the_referee_knows_a_perfect_model_a_copyist_and_a_stranger(referee):
    def figures(picture):
        seen = referee._figures([(picture(prompt, row), row) for row, prompt in enumerate(referee.asked)])
        return seen | {"class_likeness": 0.0}

    def rendered(subject, prompt, number):
        plain = prompt.text.replace("[V] ", "").replace(referee.subject.noun, subject.noun)
        return Image.fromarray(render(*scene_of_prompt(plain, subject, seed=40 + number), 128))

    other = next(s for s in held_out_subjects() if s.name == "teapot_stars")
    truth = referee.truth()
    stranger = figures(lambda prompt, number: rendered(other, prompt, number))
    perfect = parts(figures(lambda prompt, number: rendered(referee.subject, prompt, number)), stranger, truth)
    copyist = parts(figures(lambda prompt, number: referee.photos[number % 4]), stranger, truth)
    assert perfect.fidelity > 0.9 and perfect.prompt > 0.9
    assert copyist.prompt < 0.2 < copyist.fidelity < perfect.fidelity, "it looks like the subject, wherever that was asked to be"
    assert score(perfect) > 2 * score(copyist) and parts(stranger, stranger, truth).fidelity == 0


def test_colours_are_compared_without_regard_to_where_they_are():
    core = np.ones((8, 8), bool)
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    one, turned, grey = (Image.fromarray(x) for x in (half, half.transpose(1, 0, 2).copy(), np.full_like(half, 128)))
    assert colour_distance([one], [turned], core) == 0 < 0.2 < colour_distance([one], [grey], core)


def test_the_score_wants_all_three():
    assert score(Parts(1, 1, 1)) == pytest.approx(1) and score(Parts(0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert score(Parts(1, 1, 0)) < 0.05 and harmonic(0.2, 0.8) == pytest.approx(0.32)
    assert between(3, 4, 2) == 0.5 and between(9, 0, 1) == 1 and between(-9, 0, 1) == 0
    with pytest.raises(ValueError, match="measures nothing"):
        between(0.5, 0.4, 0.4)


def test_each_way_chooses_as_it_says(tmp_path):
    runs = [read(one) for one in rows(tmp_path)]
    steps = {name: chosen(runs, way) for name, way in (STUDIED | CANDIDATES).items()}
    assert set(steps["last checkpoint"]) == {600} and set(steps["the recipe's count"]) == {200}
    assert [run.best() for run in runs] == steps["best in hindsight"] and steps["best in hindsight"][0] < steps["best in hindsight"][-1]
    for run, step in zip(runs, steps["fixed count, chosen on the other subjects"], strict=True):
        others = [other for other in runs if other.subject != run.subject]
        assert step == max(STEPS, key=lambda s: np.mean([other.worth(s) for other in others]))
    assert set(steps["lowest loss"]) == {600} == set(steps["highest DINO"])
    assert grid()[0] == FIRST and len(grid()) == len(set(grid()))


def test_no_run_has_a_say_in_what_is_tuned_for_its_subject(tmp_path):
    made = rows(tmp_path)
    spoiled = [dict(one, looks=dict.fromkeys(one["looks"], UNTUNED)) if one["subject"] == "subject100" else one for one in made]
    for name in ("fixed count, chosen on the other subjects", "the first rule, bounds tuned on the other subjects", "the rule"):
        way = (STUDIED | CANDIDATES)[name]
        before, after = (chosen([read(one) for one in some], way) for some in (made, spoiled))
        assert before[:3] == after[:3], name


def test_the_table_says_whether_the_rule_wins(tmp_path):
    rows(tmp_path / "good")
    assert "**The rule wins.**" in table(tmp_path / "good")
    rows(tmp_path / "blind", shift=-0.4)
    output = table(tmp_path / "blind")
    assert "**The rule does not win**" in output and "Other rules. **These rows may suggest" in output


def test_the_table_claims_nothing_from_little_and_mixes_nothing(tmp_path):
    assert "not been run" in table(tmp_path / "none")
    rows(tmp_path / "one", counts=(100,))
    assert "one subject" in table(tmp_path / "one")
    rows(tmp_path / "few", counts=(100, 300))
    assert "Too few runs" in table(tmp_path / "few") and "wins" not in table(tmp_path / "few")
    rows(tmp_path / "few", counts=(500,), model="other weights")
    assert "2 different studies" in table(tmp_path / "few")


def test_intervals_are_drawn_over_subjects_first(tmp_path):
    runs = [read(one) for one in rows(tmp_path)]
    by_subject = np.repeat([0.0, 0.1, 0.2, 0.3, 0.4], 3)
    low, high = interval(runs, by_subject)
    assert low < 0.1 and high > 0.3, "three seeds of one subject are no three subjects: as if independent, it would be 0.13 to 0.27"
    assert interval(runs, np.full(15, 0.2)) == pytest.approx((0.2, 0.2))


def test_a_curve_keeps_all_signals_and_the_losses_between_evaluation_passes(tmp_path):
    lines = [{"step": 0, "dino": 0.4, "div": 0.5}, {"step": 1, "loss_subject": 0.2}, {"step": 2, "loss_subject": 0.4}]
    lines += [{"step": 2, "dino": 0.5, "evaluation_seconds": 3}, {"step": 3, "loss_subject": 0.1}, {"step": 4, "dino": 0.6}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_curve(tmp_path)
    assert found == {"0": {"dino": 0.4, "div": 0.5}, "2": {"dino": 0.5, "loss_subject": pytest.approx(0.3)},
                     "4": {"dino": 0.6, "loss_subject": 0.1}}  # fmt: skip


def test_the_study_is_three_recipes_long_and_evaluates_twelve_times(tmp_path):
    study = study_of("full", tmp_path, tmp_path)
    assert study.steps == TIMES * study.recipe_steps == LOOKS * study.every and study.recipe_steps % study.every == 0
    short = study_of("full", tmp_path, tmp_path, looks=3, max_steps=6)
    assert (short.steps, short.every, short.recipe_steps) == (6, 2, 2) and len(SUBJECTS) >= 5


def test_what_the_verdict_said_is_counted(tmp_path):
    for arm, words in {"fair": ("good", "fair"), "overfitted": ("damaged", "fair"), "undertrained": ("undertrained",) * 2}.items():
        for number, word in enumerate(words):
            figures = dict.fromkeys(("fidelity", "obedience", "collapse", "diversity", "copying"), 0.5)
            one = {"subject": f"s{number}", "arm": arm, "key": {}, "verdict": {"word": word, "figures": figures}}
            (tmp_path / f"{number}-{arm}.json").write_text(json.dumps(one))
    output = verdicts.table(tmp_path)
    assert "names 5 of 6 runs" in output and "| overfitted | 0 | 1 | 0 | 0 | 1 | 0 | 1 of 2 |" in output
