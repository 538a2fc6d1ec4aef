"""What a user sees is ours: libraries' notices, advice and progress bars do not reach the terminal."""

import os
import subprocess
import sys

import pytest

from tests.evaluation.conftest import encoder_flags

__all__ = ["encoder_flags"]
SAID_BY_TESTS = ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "BITSANDBYTES_NOWELCOME")
"""What the tests' own environment silences, and a user's does not."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SAID_BY_TESTS}
    return subprocess.run([sys.executable, "-m", "dreambooth", *argv], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("family", ["stable_diffusion", "flux"])
def test_nothing_of_a_library_is_on_standard_error(family, pipelines, photos, tmp_path, encoder_flags):
    encoders = [word for name, folder in encoder_flags.items() for word in (f"--{name}", folder)]
    model = ("--pretrained_model_name_or_path", str(pipelines(family)), "--instance_data_dir", str(photos), "--class_noun", "dog")
    small = (
        "--num_class_images",
        "2",
        "--resolution",
        "16",
        "--max_train_steps",
        "2",
        "--validation_inference_steps",
        "2",
        "--num_validation_images",
        "1",
    )
    learned = ("--method", "lora", "--use_8bit_adam") if family == "flux" else ("--train_text_encoder", "--gradient_checkpointing")
    run_folder = str(tmp_path / "run")
    commands = [
        ("train", *model, *small, *learned, "--identifier", "sks", "--prior_inference_steps", "2", "--output_dir", run_folder),
        ("generate", run_folder, "a [V] dog", "--num_images", "1"),
        ("evaluate", run_folder, "--num_prompts", "1", "--num_images", "2", "--class_samples", "2", *encoders),
    ]
    for command in commands:
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, ""), f"{command[0]}: {done.stdout}"
