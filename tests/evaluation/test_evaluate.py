"""`evaluate` from end to end on a tiny run: what it leaves, what it draws again and what not, and what it refuses."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.evaluation.protocol import without_identifier
from dreambooth.evaluation.results import retire
from dreambooth.evaluation.subject import examine
from dreambooth.files.images import read_settings
from dreambooth.run.generate import GenerateConfig, generate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.training.records import Progress
from tests.training.runs import config

KEYS = ("dino", "clip_i", "clip_t", "clip_t_with_identifier", "pres", "div", "div_class")


@pytest.fixture
def ask(encoder_flags, tmp_path):
    """A function that evaluates a run with little work: records, and the last one apart."""

    def run(folder, **settings):
        few = {"num_images": 2, "num_prompts": 3, "class_samples": 3, "output_dir": str(tmp_path / "out")}
        records = list(evaluate(from_arguments(EvaluateConfig, {"run": str(folder), **encoder_flags, **few, **settings})))
        assert isinstance(records[-1], Scored)
        return records, records[-1]

    return run


def drawn(records) -> int:
    return sum(isinstance(record, Progress) for record in records)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_an_evaluation_leaves(method, trained, ask):
    records, scored = ask(trained(method))
    table = json.loads((scored.output_dir / "scores.json").read_text())
    for key in KEYS:
        entry = table[key]
        assert entry["low"] <= entry["value"] <= entry["high"] and entry["n"] == {"div": 3}.get(
            key, 3 if key in ("pres", "div_class") else 6
        )
        assert table["untuned"][key]["value"] is not None
    assert table["real_photos"]["without_self_pairs"]["dino"]["value"] < table["real_photos"]["with_self_pairs"]["dino"]["value"]
    assert len(table["per_prompt"]) == 3 and table["per_prompt"][0]["prompt"] == "a [V] dog in the jungle"
    assert table["protocol"]["seeds"] == [0, 1] and set(table["protocol"]["encoders"]) == {"dino", "clip", "lpips"}
    assert scored.verdict == table["verdict"]["sentence"] and table["cost"]["pictures"] == 2 * (6 + 3) + 4
    rows = list(csv.DictReader((scored.output_dir / "scores.csv").open()))
    assert len(rows) == 2 + 2 * 3 and float(rows[0]["dino"]) == pytest.approx(table["dino"]["value"], rel=1e-5)
    assert Image.open(scored.output_dir / "evaluation.png").size[0] > 400
    assert (scored.report and scored.report.read_text().startswith("\n<!doctype html>")) or "<!doctype html>" in scored.report.read_text()
    assert drawn(records) == 2 * (6 + 3)


def test_the_untuned_pictures_have_equal_seeds_and_no_identifier(trained, ask):
    _, scored = ask(trained("lora"))
    place = scored.output_dir / "samples" / "evaluation"
    tuned, base = (sorted((place / kind).glob("*.png")) for kind in ("tuned", "untuned"))
    assert [p.name for p in tuned] == [p.name for p in base] and len(tuned) == 6
    for mine, old in zip(tuned, base, strict=True):
        a, b = read_settings(mine), read_settings(old)
        assert a["seed"] == b["seed"] and "sks" in a["prompt"] and b["prompt"] == without_identifier(a["prompt"], "sks")
    assert any(not np.array_equal(np.asarray(Image.open(a)), np.asarray(Image.open(b))) for a, b in zip(tuned, base, strict=True))


def test_a_picture_of_the_suite_is_what_generate_draws(trained, ask, tmp_path):
    run = trained("lora")
    _, scored = ask(run, num_prompts=1)
    wanted = {"run": str(run), "prompt": ["a [V] dog in the jungle"], "num_images": 1, "output_dir": str(tmp_path / "g")}
    *_, last = generate(from_arguments(GenerateConfig, wanted))
    ours = np.asarray(Image.open(scored.output_dir / "samples" / "evaluation" / "tuned" / "00-seed0.png"))
    assert np.array_equal(ours, np.asarray(last.pictures[0].image))


def test_an_interrupted_evaluation_goes_on_where_it_was(trained, ask, encoder_flags, tmp_path):
    run = trained("lora")
    few = {"num_images": 2, "num_prompts": 3, "class_samples": 3, "output_dir": str(tmp_path / "out")}
    going = evaluate(from_arguments(EvaluateConfig, {"run": str(run), **encoder_flags, **few}))
    for record in going:
        if isinstance(record, Progress) and record.phase == "drawing the class":
            going.close()
            break
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    assert 6 < len(first) < 18
    records, scored = ask(run)
    assert drawn(records) == 18 - len(first) and all(p.stat().st_mtime_ns == t for p, t in first.items())
    again, same = ask(run)
    assert drawn(again) == 0
    assert {k: same.scores[k] for k in KEYS} == {k: scored.scores[k] for k in KEYS}


def test_pictures_of_other_settings_or_weights_are_drawn_anew(trained, ask, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained("lora"), copy)
    ask(copy, class_samples=0)
    records, _ = ask(copy, class_samples=0, guidance_scale=2.0)
    assert drawn(records) == 12
    (tmp_path / "out" / "samples" / "evaluation" / "tuned" / "00-seed0.png").write_bytes(b"half a picture")
    assert drawn(ask(copy, class_samples=0, guidance_scale=2.0)[0]) == 1
    shutil.copy(copy / "checkpoint-1" / "pytorch_lora_weights.safetensors", copy / "pytorch_lora_weights.safetensors")
    assert drawn(ask(copy, class_samples=0, guidance_scale=2.0, verify=False)[0]) == 6, "the tuned ones alone"


def test_pictures_of_prompts_that_were_read_otherwise_are_drawn_anew(trained, ask, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained("lora"), copy)
    ask(copy, class_samples=0)
    text = (copy / "config.yaml").read_text()
    assert "tokenizer_max_length: null" in text
    (copy / "config.yaml").write_text(text.replace("tokenizer_max_length: null", "tokenizer_max_length: 20"))
    assert drawn(ask(copy, class_samples=0, verify=False)[0]) == 12
    assert drawn(ask(copy, class_samples=0, verify=False)[0]) == 0


def test_a_checkpoint_is_scored_beside_its_run_and_not_over_its_scores(trained, encoder_flags, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained("lora"), run)
    for name in ("scores.json", "scores.csv", "report.html"):
        (run / name).write_text("of the run itself")
    few = {"num_images": 1, "num_prompts": 1, "class_samples": 0, "untuned": False}
    *_, scored = evaluate(from_arguments(EvaluateConfig, {"run": f"{run}@1", **encoder_flags, **few}))
    assert scored.output_dir == run / "evaluation" / "checkpoint-1" and scored.report == scored.output_dir / "report.html"
    assert {(run / name).read_text() for name in ("scores.json", "scores.csv", "report.html")} == {"of the run itself"}
    assert scored.scores["div"]["value"] is None and "no diversity" in scored.scores["div"]["reason"]
    assert scored.scores["verdict"]["word"] == "unknown" and scored.scores["untuned"] == {}
    assert "no diversity" in scored.report.read_text()


@pytest.mark.parametrize(("name", "step", "is_said"), [("run", 2, True), ("run@1", 1, False), ("run@best", 1, False)])
def test_the_verdict_repeats_what_the_run_has_chosen(trained, ask, tmp_path, monkeypatch, name, step, is_said):
    run = tmp_path / "run"
    shutil.copytree(trained("lora"), run)
    record = json.loads((run / "run.json").read_text())
    choice = {"step": 1, "why": "Step 1 is best; training on to 2 gained nothing.", "last": 2}
    (run / "run.json").write_text(json.dumps({**record, "choice": choice}))
    standing = examine(f"{tmp_path / name}").standing
    assert standing and (standing.at, standing.choice.step, standing.is_past) == (step, 1, is_said) and not standing.may_gain
    _, scored = ask(tmp_path / name, num_prompts=1, class_samples=0)
    assert scored.scores["verdict"]["word"] in ("unknown", "damaged", "stalled", "overfitted", "fair", "good"), "nobody is sent to train on"
    output = scored.scores["verdict"]["sentence"]
    assert (choice["why"] in output) == (scored.scores["verdict"]["word"] != "unknown")


def test_a_plain_pipeline_is_scored_when_subject_and_photos_are_named(pipelines, photos, ask):
    settings = {"class_noun": "dog", "identifier": "sks", "instance_data_dir": str(photos), "class_samples": 0, "num_inference_steps": 2}
    _, scored = ask(pipelines("stable_diffusion"), height=16, **settings)
    assert scored.scores["dino"]["n"] == 6 and scored.scores["verdict"]["word"] == "unknown"


def test_a_prompt_file_and_the_applications(trained, ask, tmp_path):
    (tmp_path / "prompts.txt").write_text("a [V] dog on the beach\n# no\na photo of a [V] dog in the snow\n")
    _, scored = ask(trained("lora"), prompts=str(tmp_path / "prompts.txt"), class_samples=0, untuned=False)
    assert [entry["prompt"] for entry in scored.scores["per_prompt"]] == ["a [V] dog on the beach", "a photo of a [V] dog in the snow"]
    _, scored = ask(trained("lora"), applications=["novel_view"], class_samples=0, untuned=False)
    assert scored.scores["per_prompt"][0]["kind"] == "view"
    with pytest.raises(SettingError, match="--applications"):
        ask(trained("lora"), applications=["comics"], prompts=str(tmp_path / "prompts.txt"))


def test_encoders_that_are_not_here_are_refused_before_anything_is_drawn(trained, ask, tmp_path):
    with pytest.raises(SettingError, match="--clip_encoder: nobody/nothing"):
        ask(trained("lora"), clip_encoder="nobody/nothing")
    assert not list((tmp_path / "out").rglob("*.png"))


def test_an_encoder_that_is_left_out_leaves_its_metrics_out_with_a_reason(trained, ask):
    _, scored = ask(trained("lora"), dino_encoder="none", class_samples=0, num_prompts=2)
    assert scored.scores["dino"]["value"] is None and "--dino_encoder" in scored.scores["dino"]["reason"]
    assert scored.scores["clip_t"]["value"] is not None and scored.scores["real_photos"]["with_self_pairs"]["clip_i"]["value"]


def test_no_photos(trained, ask, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match=r"is empty\. Put 3 to 20 photos"):
        ask(trained("lora"), instance_data_dir=str(tmp_path / "empty"))
    with pytest.raises(SettingError, match="missing"):
        ask(trained("lora"), instance_data_dir=str(tmp_path / "missing"))


def test_what_is_no_model_is_refused(ask, tmp_path):
    with pytest.raises(SettingError):
        ask(tmp_path / "nowhere", class_noun="dog", instance_data_dir=str(tmp_path))


def test_scores_of_a_model_that_is_no_more_are_not_shown_with_the_next_one(pipelines, tmp_path):
    run, given = tmp_path / "run", {"max_train_steps": 1, "method": "lora", "output_dir": tmp_path / "run", "checkpointing_steps": 100}
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, **given)
    (run / "samples" / "step-000001").mkdir(parents=True)
    (run / "scores.json").write_text(json.dumps({"protocol": {"weights": "of another"}}))
    for _ in train(wanted):
        pass
    assert not (run / "scores.json").exists() and not (run / "samples" / "step-000001").exists()
    assert "not scored yet" in (run / "report.html").read_text().lower()
    known = examine(str(run), class_noun="dog")
    (run / "scores.json").write_text(json.dumps({"protocol": {"weights": known.weights}}))
    retire(run, known.base_weights)
    assert (run / "scores.json").is_file(), "its own"


def test_photos_that_the_run_did_not_see_are_refused_unless_they_are_named(ask, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained("lora"), run)
    record = json.loads((run / "run.json").read_text())
    record["photos"][0]["sha256"] = "0" * 64
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(SettingError, match=r"--instance_data_dir: .*not trained on"):
        ask(run)


def test_a_mistyped_run_is_reported_as_one(ask):
    with pytest.raises(SettingError, match="there is no run nothere"):
        ask("nothere")
