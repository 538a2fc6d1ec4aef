"""diffusers' tests of train_dreambooth_lora.py, train_dreambooth_lora_sdxl.py and train_dreambooth_lora_flux.py."""

import json

import pytest
from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import safe_open

from tests.parity.commands import EVERY_TWO, TWO_STEPS

DENOISERS = {"stable_diffusion": "unet", "sdxl": "unet", "flux": "transformer"}
each_family = pytest.mark.parametrize("family", DENOISERS)
LAYER = "single_transformer_blocks.0.attn.to_k"


@each_family
def test_lora(place, family):
    here = place(family)
    assert here.train("train_dreambooth_lora", TWO_STEPS) == 0
    assert all("lora" in key for key in here.lora)
    assert all(key.startswith(f"{DENOISERS[family]}.") for key in here.lora)
    assert all(tensor.isfinite().all() for tensor in here.lora.values())


@each_family
def test_lora_with_text_encoder(place, family):
    """FLUX trains CLIP alone, SDXL both encoders."""
    here = place(family)
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} --train_text_encoder") == 0
    assert all("lora" in key for key in here.lora)
    encoders = {"text_encoder", "text_encoder_2"} if family == "sdxl" else {"text_encoder"}
    assert {key.split(".")[0] for key in here.lora} == {DENOISERS[family], *encoders}


@each_family
def test_lora_learns(place, family):
    """What diffusers' tests leave open: whether training moves what is saved. Every B is zero before the first update."""
    here = place(family)
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} --train_text_encoder") == 0
    moved = {key: bool(tensor.any()) for key, tensor in here.lora.items() if key.endswith("lora_B.weight")}
    unread = "encoder.layers.2." if family == "sdxl" else "nothing"  # SDXL reads the layer before the last of its encoders
    assert moved and all(moved[key] for key in moved if unread not in key), [key for key in moved if not moved[key]]


@each_family
def test_lora_checkpoints_total_limit(place, family):
    here = place(family)
    assert here.train("train_dreambooth_lora", f"{EVERY_TWO} --max_train_steps=6 --checkpoints_total_limit=2", prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-4", "checkpoint-6"}


@each_family
def test_lora_checkpoints_total_limit_removes_multiple_checkpoints(place, family):
    here = place(family)
    assert here.train("train_dreambooth_lora", f"{EVERY_TWO} --max_train_steps=4", prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-2", "checkpoint-4"}
    again = f"{EVERY_TWO} --max_train_steps=8 --resume_from_checkpoint=checkpoint-4 --checkpoints_total_limit=2"
    assert here.train("train_dreambooth_lora", again, prompt="prompt") == 0
    assert here.checkpoints == {"checkpoint-6", "checkpoint-8"}


@pytest.mark.parametrize("text", ["", "--train_text_encoder"])
def test_sdxl_captions(place, text):
    """Their `--dataset_name ... --caption_column text` is a .txt beside each photo here."""
    here = place("sdxl")
    for number, path in enumerate(sorted(here.photos.glob("*.png"))):
        path.with_suffix(".txt").write_text(f"a red toy on the beach {number}")
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} {text}") == 0
    assert here.record["instance_prompts"] == [f"a red toy on the beach {number}" for number in range(4)]


@pytest.mark.parametrize(("text", "steps"), [("", 6), ("--train_text_encoder", 7)])
def test_sdxl_checkpoints_total_limit_and_loading(place, text, steps):
    here = place("sdxl")
    flags = f"{TWO_STEPS.replace('--max_train_steps 2', '')} --max_train_steps {steps} --checkpointing_steps=2 --checkpoints_total_limit=2"
    assert here.train("train_dreambooth_lora", f"{flags} {text}") == 0
    pipe = DiffusionPipeline.from_pretrained(here.model)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(here.out)
    assert len(pipe("a prompt", num_inference_steps=2, height=16, width=16).images) == 1
    assert here.checkpoints == {"checkpoint-4", "checkpoint-6"}


def test_flux_latent_caching(place):
    """Word for word, contact sheet and all."""
    here = place("flux")
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} --cache_latents", lean=False) == 0
    assert all("lora" in key and key.startswith("transformer") for key in here.lora)


def test_flux_layers(place):
    here = place("flux")
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} --cache_latents --lora_layers {LAYER}") == 0
    assert here.lora
    assert all("lora" in key and key.startswith(f"transformer.{LAYER}") for key in here.lora)


@each_family
def test_lora_with_metadata(place, family):
    """The file's header says alpha and rank, so that loaders scale as the training did."""
    here = place(family)
    assert here.train("train_dreambooth_lora", f"{TWO_STEPS} --lora_alpha=8 --rank=4") == 0
    with safe_open(here.out / "pytorch_lora_weights.safetensors", framework="pt") as file:
        output = json.loads(file.metadata()[LORA_ADAPTER_METADATA_KEY])
    assert (output[f"{DENOISERS[family]}.lora_alpha"], output[f"{DENOISERS[family]}.r"]) == (8, 4)
