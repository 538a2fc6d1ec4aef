"""LoRA files in kohya's names, loaded back by diffusers' own reader of such files."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from dreambooth.core.errors import SettingError
from dreambooth.files.layouts import KOHYA_FILE, to_kohya, write_kohya
from dreambooth.methods import LoRA
from dreambooth.outputs import kohya_prefixes
from tests import tiny

LORA = LoRA(rank=4, lora_alpha=2.0)


def learned(base, method: LoRA):
    family = tiny.load(base)
    learner = method.attach(family, [family.denoiser_name, *family.text_trainable], seed=0)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameters in learner.parameters().values():
            for parameter in parameters:
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return learner


@pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
def test_diffusers_reads_kohyas_file_and_draws_the_same_picture(pipelines, tmp_path, name):
    learner = learned(pipelines(name), LORA)
    learner.save(tmp_path, whole=True)
    path = write_kohya(tmp_path, prefixes=kohya_prefixes(learner.family))
    assert path == tmp_path / KOHYA_FILE
    theirs = getattr(diffusers, type(learner.family.pipe).__name__).from_pretrained(pipelines(name), dtype=torch.float32)
    plain = tiny.picture(theirs)
    theirs.load_lora_weights(tmp_path, weight_name=KOHYA_FILE)
    ours = tiny.picture(learner.family.pipe)
    torch.testing.assert_close(tiny.picture(theirs), ours, rtol=0, atol=1e-6)
    assert (ours - plain).abs().max() > 0.003


@pytest.mark.parametrize(("name", "first"), [("stable_diffusion", "lora_te"), ("sdxl", "lora_te1")])
def test_names_are_those_that_kohyas_tools_and_comfyui_look_for(pipelines, tmp_path, name, first):
    learner = learned(pipelines(name), LORA)
    learner.save(tmp_path, whole=True)
    tensors = load_file(write_kohya(tmp_path, prefixes=kohya_prefixes(learner.family)))
    block = "down_blocks_0" if name == "stable_diffusion" else "down_blocks_1"
    assert f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in tensors
    assert f"{first}_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in tensors
    prefixes = {key.split("_unet_")[0].split("_text_model_")[0] for key in tensors}
    assert prefixes == {"lora", first} | ({"lora_te2"} if name == "sdxl" else set())
    assert {key.rpartition(".lora_")[2] for key in tensors if ".lora_" in key} == {"down.weight", "up.weight"}


def test_every_layer_carries_its_alpha(pipelines, tmp_path):
    learner = learned(pipelines("stable_diffusion"), LORA)
    learner.save(tmp_path, whole=True)
    tensors = load_file(write_kohya(tmp_path, prefixes=kohya_prefixes(learner.family)))
    layers = {key.partition(".")[0] for key in tensors}
    assert {f"{layer}.alpha" for layer in layers} == {key for key in tensors if key.endswith(".alpha")}
    assert {tensors[f"{layer}.alpha"].item() for layer in layers} == {2.0}


def test_dora_is_refused_since_its_readers_do_not_agree(pipelines, tmp_path):
    learned(pipelines("stable_diffusion"), LoRA(use_dora=True)).save(tmp_path, whole=True)
    with pytest.raises(SettingError, match="--output_kohya_format"):
        write_kohya(tmp_path, prefixes={"unet": "lora_unet", "text_encoder": "lora_te"})
    assert not (tmp_path / KOHYA_FILE).exists()


def test_a_file_without_settings_counts_alpha_as_the_rank():
    pair = {"unet.a.to_q.lora_A.weight": torch.zeros(4, 8), "unet.a.to_q.lora_B.weight": torch.zeros(8, 4)}
    assert to_kohya(pair, {}, {"unet": "lora_unet"})["lora_unet_a_to_q.alpha"].item() == 4.0
