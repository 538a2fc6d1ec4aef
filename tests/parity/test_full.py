"""diffusers' tests of train_dreambooth.py and train_dreambooth_flux.py."""

import shutil

import pytest
from diffusers import DiffusionPipeline, FluxTransformer2DModel, UNet2DConditionModel

from tests.parity.commands import EVERY_TWO, TWO_STEPS

FAMILIES = [("stable_diffusion", "unet", UNet2DConditionModel), ("flux", "transformer", FluxTransformer2DModel)]
each_family = pytest.mark.parametrize(("family", "denoiser", "kind"), FAMILIES, ids=[row[0] for row in FAMILIES])


def draw(pipe: DiffusionPipeline, prompt: str) -> None:
    pipe.set_progress_bar_config(disable=True)
    pipe(prompt, num_inference_steps=1, height=16, width=16)


@each_family
def test_dreambooth(place, family, denoiser, kind):
    here = place(family)
    assert here.train("train_dreambooth", TWO_STEPS) == 0
    assert (here.out / denoiser / "diffusion_pytorch_model.safetensors").is_file()
    assert (here.out / "scheduler" / "scheduler_config.json").is_file()


@each_family
def test_checkpointing(place, family, denoiser, kind):
    here = place(family)
    flags = f"{TWO_STEPS.replace('--max_train_steps 2', '')} --checkpointing_steps=2 --seed=0"
    assert here.train("train_dreambooth", f"{flags} --max_train_steps 4") == 0
    draw(DiffusionPipeline.from_pretrained(here.out, safety_checker=None), "photo")
    assert here.checkpoints == {"checkpoint-2", "checkpoint-4"}

    part = kind.from_pretrained(here.out, subfolder=f"checkpoint-2/{denoiser}")
    draw(DiffusionPipeline.from_pretrained(here.model, safety_checker=None, **{denoiser: part}), "photo")
    shutil.rmtree(here.out / "checkpoint-2")

    assert here.train("train_dreambooth", f"{flags} --max_train_steps 6 --resume_from_checkpoint=checkpoint-4") == 0
    draw(DiffusionPipeline.from_pretrained(here.out, safety_checker=None), "photo")
    assert here.checkpoints == {"checkpoint-4", "checkpoint-6"}


@each_family
def test_checkpoints_total_limit(place, family, denoiser, kind):
    here = place(family)
    assert here.train("train_dreambooth", f"{EVERY_TWO} --max_train_steps=6 --checkpoints_total_limit=2", prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-4", "checkpoint-6"}


@each_family
def test_checkpoints_total_limit_removes_multiple_checkpoints(place, family, denoiser, kind):
    here = place(family)
    assert here.train("train_dreambooth", f"{EVERY_TWO} --max_train_steps=4", prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-2", "checkpoint-4"}
    again = f"{EVERY_TWO} --max_train_steps=8 --resume_from_checkpoint=checkpoint-4 --checkpoints_total_limit=2"
    assert here.train("train_dreambooth", again, prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-6", "checkpoint-8"}


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(place, tmp_path):
    """What diffusers' tests leave open: whether a resumed run learns the same."""
    here = place()
    flags = f"{TWO_STEPS.replace('--max_train_steps 2', '')} --checkpointing_steps=2 --seed=0"
    assert here.train("train_dreambooth", f"{flags} --max_train_steps 6") == 0
    whole = (here.out / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    shutil.rmtree(here.out)
    assert here.train("train_dreambooth", f"{flags} --max_train_steps 4") == 0
    assert here.train("train_dreambooth", f"{flags} --max_train_steps 6 --resume_from_checkpoint=latest") == 0
    assert (here.out / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("script", ["train_dreambooth", "train_dreambooth_lora"])
def test_deepfloyd(place, script):
    """test_dreambooth_if and test_dreambooth_lora_if_model."""
    here = place("deepfloyd")
    flags = f"{TWO_STEPS} --pre_compute_text_embeddings --tokenizer_max_length=77 --text_encoder_use_attention_mask"
    assert here.train(script, flags.replace("--resolution 64", "--resolution 8")) == 0
    own = "pytorch_lora_weights.safetensors" if "lora" in script else "unet/diffusion_pytorch_model.safetensors"
    assert (here.out / own).is_file()
