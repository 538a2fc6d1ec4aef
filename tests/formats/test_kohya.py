"""LoRA files in kohya's names, loaded back by diffusers' own reader of such files."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from dreambooth.files.names import DIFFUSERS_FILE, KOHYA_FILE
from dreambooth.formats.base import Facts
from dreambooth.formats.kohya import write_beside
from dreambooth.methods import LoRA
from dreambooth.run.result import kohya_prefixes
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


def written(learner, folder):
    return write_beside(learner.family, folder, Facts("lora", "a sks dog"))


@pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
def test_diffusers_reads_kohyas_file_and_draws_the_same_picture(pipelines, tmp_path, name):
    learner = learned(pipelines(name), LORA)
    learner.save(tmp_path, whole=True)
    path = written(learner, tmp_path)
    assert path == tmp_path / KOHYA_FILE
    theirs = getattr(diffusers, type(learner.family.pipe).__name__).from_pretrained(pipelines(name), dtype=torch.float32)
    plain = tiny.picture(theirs)
    theirs.load_lora_weights(tmp_path, weight_name=KOHYA_FILE)
    ours = tiny.picture(learner.family.pipe)
    torch.testing.assert_close(tiny.picture(theirs), ours, rtol=0, atol=1e-6)
    assert (ours - plain).abs().max() > 0.003


def comfys_names(family) -> set[str]:
    """What ComfyUI's `comfy/lora.py` knows the layers by: a UNet's after its table of diffusers' names (`unet_to_diffusers`), with
    underscores, below `lora_unet_`; and the six linear layers of each of CLIP's blocks."""
    resnet = {"norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"}
    block = {f"attn{i}.{name}" for i in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")}
    block |= {"norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"}
    top = {"conv_in", "conv_norm_out", "conv_out", *(f"{part}_embedding.linear_{i}" for part in ("time", "add") for i in (1, 2))}
    known = set()
    for name, _ in family.denoiser.named_modules():
        blocks, _, inside = name.partition(".resnets.")
        inner = name.partition(".transformer_blocks.")[2]
        known |= {name} & top
        known |= {name} if blocks != name and inside.partition(".")[2] in resnet else set()
        known |= {name} if name.rpartition(".")[2] in ("proj_in", "proj_out") and ".attentions." in name else set()
        known |= {name} if inner.partition(".")[2] in block else set()
        known |= {name} if name.endswith((".downsamplers.0.conv", ".upsamplers.0.conv")) else set()
    names = {f"lora_unet_{name.replace('.', '_')}" for name in known}
    linear = ("mlp_fc1", "mlp_fc2", "self_attn_k_proj", "self_attn_q_proj", "self_attn_v_proj", "self_attn_out_proj")
    towers = ("lora_te1", "lora_te2") if len(family.encoder_names) == 2 else ("lora_te",)
    return names | {f"{tower}_text_model_encoder_layers_{i}_{name}" for tower in towers for i in range(32) for name in linear}


@pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
@pytest.mark.parametrize("layers", [None, "to_q,proj_in,proj_out,conv1,conv_shortcut,time_emb_proj,linear_1,ff.net.0.proj,conv,conv_in"])
def test_comfyui_finds_every_layer_and_adds_what_was_learned(pipelines, tmp_path, name, layers):
    """By its formula: weight += strength * alpha / rank * up @ down, for each of the layers that its table knows by the file's names."""
    learner = learned(pipelines(name), LORA.model_copy(update={"lora_layers": layers}))
    learner.save(tmp_path, whole=True)
    theirs, ours = load_file(written(learner, tmp_path)), load_file(tmp_path / DIFFUSERS_FILE)
    stems = {key.partition(".")[0] for key in theirs}
    assert stems <= comfys_names(learner.family), sorted(stems - comfys_names(learner.family))[:3]
    assert len(theirs) == 3 * len(stems) and 2 * len(stems) == len(ours)
    for key, down in ours.items():
        if not key.endswith(".lora_A.weight"):
            continue
        part, _, layer = key.removesuffix(".lora_A.weight").partition(".")
        stem = f"{kohya_prefixes(learner.family)[part]}_{layer.replace('.', '_')}"
        alpha, rank = theirs[f"{stem}.alpha"].item(), theirs[f"{stem}.lora_down.weight"].shape[0]
        added = alpha / rank * theirs[f"{stem}.lora_up.weight"].flatten(1) @ theirs[f"{stem}.lora_down.weight"].flatten(1)
        up = ours[f"{part}.{layer}.lora_B.weight"]
        torch.testing.assert_close(added, 0.5 * up.flatten(1) @ down.flatten(1))


def test_the_diffusers_file_is_of_no_use_to_comfyui(pipelines, tmp_path):
    """Why there are two files: it knows a UNet's layers in diffusers' names of 2023 alone (`unet.` ... `.processor.to_q`)."""
    learner = learned(pipelines("stable_diffusion"), LORA)
    learner.save(tmp_path, whole=True)
    modules = [name for name, _ in learner.family.denoiser.named_modules() if ".to_" in name]
    known = {f"unet.{name.replace('.to_', '.processor.to_')}" for name in modules}
    names = {key.partition(".lora_")[0] for key in load_file(tmp_path / DIFFUSERS_FILE) if key.startswith("unet.")}
    assert names and not names & known


@pytest.mark.parametrize(("name", "first"), [("stable_diffusion", "lora_te"), ("sdxl", "lora_te1")])
def test_names_are_those_that_kohyas_tools_and_comfyui_look_for(pipelines, tmp_path, name, first):
    learner = learned(pipelines(name), LORA)
    learner.save(tmp_path, whole=True)
    tensors = load_file(written(learner, tmp_path))
    block = "down_blocks_0" if name == "stable_diffusion" else "down_blocks_1"
    assert f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in tensors
    assert f"{first}_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in tensors
    prefixes = {key.split("_unet_")[0].split("_text_model_")[0] for key in tensors}
    assert prefixes == {"lora", first} | ({"lora_te2"} if name == "sdxl" else set())
    assert {key.rpartition(".lora_")[2] for key in tensors if ".lora_" in key} == {"down.weight", "up.weight"}


def test_every_layer_carries_its_alpha(pipelines, tmp_path):
    learner = learned(pipelines("stable_diffusion"), LORA)
    learner.save(tmp_path, whole=True)
    tensors = load_file(written(learner, tmp_path))
    layers = {key.partition(".")[0] for key in tensors}
    assert {f"{layer}.alpha" for layer in layers} == {key for key in tensors if key.endswith(".alpha")}
    assert {tensors[f"{layer}.alpha"].item() for layer in layers} == {2.0}
