"""A run that is looked at while it trains learns the same, and ends with a named checkpoint."""

import json

import pytest

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.stream import train
from dreambooth.training.records import Step
from tests.training.runs import config, same_files, weights


def watched(pipelines, root, name, flags, **settings):
    given = {"class_noun": "dog", "max_train_steps": 4, "checkpointing_steps": 2, "validation_inference_steps": 1, **flags, **settings}
    return list(train(config(pipelines("stable_diffusion"), root=root, output_dir=root / name, **given)))


def test_looks_change_nothing_and_name_a_checkpoint(pipelines, encoder_flags, tmp_path):
    watched(pipelines, tmp_path, "plain", encoder_flags)
    records = watched(pipelines, tmp_path, "watched", encoder_flags, evaluate_every=2, evaluation_share=0.99)
    same_files(weights(tmp_path / "plain"), weights(tmp_path / "watched"))
    looks = [record for record in records if isinstance(record, Step) and "dino" in record.values]
    assert looks[0].step == 0 and looks[-1].step == 4
    assert looks[0].values.keys() >= {"dino", "clip_t", "pres", "evaluation_seconds"}
    record = json.loads((tmp_path / "watched" / "run.json").read_text())
    assert record["choice"]["step"] in (2, 4) and record["choice"]["why"]
    lines = [json.loads(line) for line in (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()]
    assert next(line["step"] for line in lines if "dino" in line) == 0


def test_encoders_that_are_not_there_are_told_before_the_training(pipelines, tmp_path):
    with pytest.raises(SettingError, match="--dino_encoder"):
        watched(pipelines, tmp_path, "run", {}, evaluate_every=2)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_evaluate_prints_the_table_and_writes_the_report(pipelines, encoder_flags, tmp_path, capsys):
    watched(pipelines, tmp_path, "run", {})
    few = ["--num_prompts", "2", "--num_images", "2", "--class_samples", "2", "--num_inference_steps", "1"]
    assert main(["evaluate", str(tmp_path / "run"), *few, *(f"--{name}={folder}" for name, folder in encoder_flags.items())]) == 0
    told = capsys.readouterr().out
    assert "DINO" in told and "CLIP-T" in told and "report.html" in told
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores.keys() >= {"dino", "clip_i", "clip_t", "pres", "div"}
