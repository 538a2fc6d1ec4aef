"""Old command lines as people type them: in a process of their own, and under accelerate's launcher."""

import sys

from tests.parity.commands import LEAN, TWO_STEPS, launch


def words(here) -> list:
    own = ("--pretrained_model_name_or_path", here.model, "--instance_data_dir", here.photos, "--instance_prompt", "photo")
    return ["dreambooth", "train", *own, *TWO_STEPS.split(), "--output_dir", here.out, *LEAN]


def test_python_m(place):
    here = place()
    done = launch(*words(here))
    assert done.returncode == 0, done.stderr
    assert (here.out / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (here.out / "scheduler" / "scheduler_config.json").is_file()


def test_accelerate_launch(place):
    here = place()
    launcher = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "1", "-m")
    done = launch(*words(here), "--method", "lora", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert here.lora


def test_a_wrong_request_ends_with_2_and_no_traceback(place):
    here = place()
    done = launch(*words(here), "--train_text_encoder", "--pre_compute_text_embeddings")
    assert done.returncode == 2
    assert "--pre_compute_text_embeddings" in done.stderr and "Traceback" not in done.stderr
    assert not here.out.exists()
