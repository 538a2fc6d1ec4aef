"""The whole way of a rectified flow's run by its commands: trained, killed, gone on with, drawn from, scored."""

import os
import subprocess
import sys

import pytest

from dreambooth.cli import main
from dreambooth.files.reading import read_json
from tests import tiny
from tests.evaluation.conftest import encoder_flags
from tests.training.runs import same_files, weights

__all__ = ["encoder_flags"]

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
TRAIN = (
    "train --class_noun dog --identifier sks --method lora --resolution 16 --num_class_images 2 --prior_inference_steps 2 --seed 1 "
    "--max_train_steps 60 --checkpointing_steps 10 --gradient_accumulation_steps 1 --learning_rate 0.01 --skip_final_inference"
)
FEW = "--num_images 2 --num_prompts 2 --class_samples 2 --num_inference_steps 2"


@pytest.mark.parametrize("name", ["flux2", "sd3", "z_image", "krea2", "qwen_image"])
def test_a_run_is_killed_resumed_drawn_from_and_evaluated(name, pipelines, tmp_path, encoder_flags, capsys):
    folders = ["--pretrained_model_name_or_path", str(pipelines(name)), "--instance_data_dir", str(tiny.photos(tmp_path / "photos"))]
    command, run, calm = [*TRAIN.split(), *folders], tmp_path / "run", tmp_path / "calm"
    with subprocess.Popen(
        [sys.executable, "-m", "dreambooth", *command, "--output_dir", str(run)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert any("checkpoint-10" in line for line in process.stdout)
        process.kill()
    assert not (run / "pytorch_lora_weights.safetensors").exists(), "it was killed on its way"

    assert main([*command, "--output_dir", str(run), "--resume_from_checkpoint", "latest"]) == 0
    assert "Going on from step " in capsys.readouterr().out
    assert main([*command, "--output_dir", str(calm)]) == 0
    same_files(weights(run), weights(calm))
    card = (run / "README.md").read_text()
    assert ("Krea 2 Community License" in card) == (name == "krea2") and "apache" not in card, "which diffusers' script writes"

    assert main(["generate", str(run), "a [V] dog on the beach", "--num_images", "2", "--num_inference_steps", "2"]) == 0
    assert len(list((run / "samples" / "generated").glob("00-*.png"))) == 2

    encoders = [word for flag, value in encoder_flags.items() for word in (f"--{flag}", value)]
    assert main(["evaluate", str(run), *FEW.split(), *encoders]) == 0
    scores = read_json(run / "scores.json")
    assert {"dino", "clip_i", "clip_t", "pres", "div"} <= scores.keys() and scores["untuned"]["dino"]["n"] == scores["dino"]["n"] == 4
