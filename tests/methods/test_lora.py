"""LoRA's own: rank, alpha, layers."""

import re

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource
from dreambooth.methods import LoRA
from dreambooth.run.train import train
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.model import idle_parts, load_in
from dreambooth.setup.open import Opening, open_model
from dreambooth.training.batches import text_table
from tests import tiny
from tests.training.runs import config


@pytest.fixture
def family(pipelines):
    return tiny.load(pipelines("stable_diffusion"))


def layers(family, part: str = "unet") -> dict[str, LoraLayer]:
    return {name: module for name, module in family.parts[part].named_modules() if isinstance(module, LoraLayer)}


def test_an_update_counts_alpha_over_rank(family):
    LoRA(rank=8, lora_alpha=2.0).attach(family, ["unet"], seed=0)
    assert {layer.scaling["default"] for layer in layers(family).values()} == {0.25}


def test_left_out_alpha_is_the_rank(family):
    LoRA(rank=8).attach(family, ["unet"], seed=0)
    assert {layer.scaling["default"] for layer in layers(family).values()} == {1.0}


def test_a_fractional_alpha_survives_the_file(family, tmp_path, pipelines):
    learner = LoRA(rank=4, lora_alpha=0.5).attach(family, ["unet"], seed=0)
    with torch.no_grad():
        for parameter in learner.parameters()["unet"]:
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    learner.save(tmp_path, whole=True)
    theirs = StableDiffusionPipeline.from_pretrained(pipelines("stable_diffusion"), dtype=torch.float32)
    theirs.load_lora_weights(tmp_path)
    torch.testing.assert_close(tiny.picture(theirs), tiny.picture(family.pipe), rtol=0, atol=1e-6)


LAYERS = {
    "stable_diffusion": {"attn1.to_q", "attn2.to_v"}, "sdxl": {"attn1.to_q", "attn2.to_v"},
    "flux": {"attn.to_q", "ff.net.2", "attn.to_add_out"}, "flux2": {"attn.to_q", "attn.to_v"}, "sd3": {"attn.to_q", "attn.add_k_proj"},
    "z_image": {"attention.to_q", "attention.to_out.0"}, "krea2": {"attn.to_q", "attn.to_gate", "ff.up", "text_fusion.projector"},
    "qwen_image": {"attn.to_q", "attn.to_out.0"}, "pixart_sigma": {"attn1.to_q", "attn2.to_v"},
    "sana": {"attn1.to_q", "attn2.to_v"}, "flux2_dev": {"attn.to_q", "attn.to_v"},
    "deepfloyd": {"to_q"}, "deepfloyd_superresolution": {"to_q"}, "upscaler": {"attn1.to_q", "attn2.to_v"},
}  # fmt: skip
"""Some of the layers that each family's LoRA changes."""


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_every_family_names_layers_that_it_has(pipelines, name):
    family = tiny.load(pipelines(name))
    parts = [family.denoiser_name, *family.text_trainable]
    LoRA().attach(family, parts, seed=0)
    changed = layers(family, family.denoiser_name)
    kinds = {re.split(r"(?:transformer_blocks|layers)\.\d+\.", path)[-1] for path in changed}
    assert all(any(kind.endswith(layer) for kind in kinds) for layer in LAYERS[name])
    for part in family.text_trainable:
        assert {path.rpartition(".")[2] for path in layers(family, part)} == {"q_proj", "k_proj", "v_proj", "out_proj"}


def test_the_layers_can_be_chosen(family):
    LoRA(lora_layers="to_q, ff.net.2").attach(family, ["unet", "text_encoder"], seed=0)
    ends = {name.rpartition("_blocks.0.")[2] for name in layers(family)}
    assert ends == {"attn1.to_q", "attn2.to_q", "ff.net.2"}
    assert layers(family, "text_encoder")


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        ("to_quarry", "no layer of the unet is named to_quarry"),
        ("to_q,to_x,to_y", "no layer of the unet is named to_x or to_y"),
        (" , ", "no layer of the unet is named"),
        ("norm1", "is not supported"),
    ],
)
def test_layers_that_do_not_exist_or_cannot_learn_are_refused(family, wanted, printed):
    with pytest.raises(SettingError, match=f"--lora_layers: .*{printed}") as caught:
        LoRA(lora_layers=wanted).attach(family, ["unet"], seed=0)
    assert "to_k, to_q, to_v, to_out.0" in str(caught.value)


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_a_familys_layers_are_listed_by_kind_and_not_once_for_each_block(pipelines, name):
    family = tiny.load(pipelines(name))
    with pytest.raises(SettingError) as caught:
        LoRA(lora_layers="to_quarry").attach(family, [family.denoiser_name], seed=0)
    kinds = caught.value.fix.split(", ")
    assert len(kinds) <= 15 and len(caught.value.fix) < 250
    assert "to_q" in caught.value.fix and len(kinds) == len(set(kinds))


def test_a_file_of_another_rank_is_refused(family, pipelines, tmp_path):
    LoRA(rank=4).attach(family, ["unet"], seed=0).save(tmp_path, whole=True)
    other = LoRA(rank=8).attach(tiny.load(pipelines("stable_diffusion")), ["unet"], seed=0)
    with pytest.raises(SettingError, match="does not fit the unet of this base model with this rank"):
        other.load(tmp_path)


def test_a_file_with_a_part_that_does_not_learn_here_is_refused(family, pipelines, tmp_path):
    LoRA().attach(family, ["unet", "text_encoder"], seed=0).save(tmp_path, whole=True)
    with pytest.raises(SettingError, match="does not fit the unet"):
        LoRA().attach(tiny.load(pipelines("stable_diffusion")), ["unet"], seed=0).load(tmp_path)
    LoRA().attach(tiny.load(pipelines("stable_diffusion")), ["unet"], seed=0).save(tmp_path, whole=True)
    with pytest.raises(SettingError, match="does not fit the unet and text_encoder"):
        LoRA().attach(tiny.load(pipelines("stable_diffusion")), ["unet", "text_encoder"], seed=0).load(tmp_path)


def test_dropout_acts_in_training_alone(family):
    learner = LoRA(lora_dropout=0.5).attach(family, ["unet"], seed=0)
    with torch.no_grad():
        for parameter in learner.parameters()["unet"]:
            parameter += 0.3
    x, text = torch.ones(1, 4, 8, 8), torch.ones(1, 77, 32)
    unet = family.denoiser
    assert torch.equal(unet(x, 5, text).sample, unet(x, 5, text).sample)
    unet.train()
    assert not torch.equal(unet(x, 5, text).sample, unet(x, 5, text).sample)


@pytest.mark.parametrize("name", ["stable_diffusion", "flux"])
def test_doras_lengths_are_those_of_the_weights_that_act_also_in_half_precision(pipelines, name):
    """PEFT rounds them to the weights' precision: the model was another by half a percent before the first update."""
    family = load_in("bf16", ModelSource(pretrained_model_name_or_path=str(pipelines(name))))
    LoRA(rank=2, use_dora=True).attach(family, [family.denoiser_name], seed=0)
    count = 0
    for layer in family.denoiser.modules():
        for magnitude in getattr(layer, "lora_magnitude_vector", {}).values():
            weight, count = layer.get_base_layer().weight, count + 1
            assert weight.dtype == torch.bfloat16 and magnitude.weight.dtype == torch.float32
            torch.testing.assert_close(magnitude.weight.flatten(), weight.float().norm(dim=1).flatten(), rtol=1e-6, atol=0)
    assert count


def test_while_clip_learns_t5_is_asked_once_and_rests(pipelines, tmp_path, monkeypatch):
    """FLUX: T5 is the larger half of the memory that an encoder's training takes, and nothing of it changes."""
    family = tiny.load(pipelines("flux"))
    given = {"root": tmp_path, "method": "lora"}
    assert set(idle_parts(config(pipelines("flux"), train_text_encoder=True, **given), family)) == {"vae", "text_encoder_2"}
    inversion = config(pipelines("flux"), root=tmp_path, method="textual_inversion", with_prior_preservation=False)
    assert idle_parts(inversion, family) == ["vae"], "a new word learns in T5, too"
    printed = text_table(family, ["a [V] dog"], learning=["transformer", "text_encoder"])
    expected = family.embed(printed)
    monkeypatch.setattr(family.encoders[1], "forward", None)
    assert "input_ids" in printed and all(torch.equal(value, expected[name]) for name, value in family.embed(printed).items())
    assert set(idle_parts(config(pipelines("flux"), **given), family)) == {"vae", "text_encoder", "text_encoder_2"}


def test_kohyas_layout_is_refused_for_flux_before_anything_is_learned(pipelines, tmp_path):
    wanted = config(pipelines("flux"), root=tmp_path, method="lora", output_kohya_format=True, output_dir=tmp_path / "run")
    with pytest.raises(SettingError, match="--output_kohya_format"):
        list(train(wanted))
    assert not (tmp_path / "run" / "run.json").exists()


KOHYA = "pytorch_lora_weights_kohya.safetensors"


@pytest.mark.parametrize(
    ("base", "given", "is_there", "printed"),
    [
        ("stable_diffusion", {}, True, "for ComfyUI and A1111"),
        ("sdxl", {"train_text_encoder": True}, True, "for ComfyUI and A1111"),
        ("stable_diffusion", {"output_kohya_format": False}, False, "none for ComfyUI and A1111"),
        ("stable_diffusion", {"use_dora": True}, False, "their readers do not agree on DoRA"),
        ("stable_diffusion", {"preset": "diffusers"}, False, "none for ComfyUI and A1111"),
        ("stable_diffusion", {"preset": "diffusers", "output_kohya_format": True}, True, "for ComfyUI and A1111"),
        ("flux", {}, False, "for diffusers and ComfyUI"),
    ],
)
def test_the_file_for_comfyui_is_there_unless_it_has_no_place_or_was_not_wanted(pipelines, tmp_path, base, given, is_there, printed):
    """What an earlier run left under its name is not taken for this one's."""
    run = tmp_path / "run"
    run.mkdir()
    (run / KOHYA).write_bytes(b"an earlier run's")
    records = train(
        config(pipelines(base), root=tmp_path, method="lora", max_train_steps=1, output_dir=run, overwrite_output_dir=True, **given)
    )
    plan = "\n".join(str(record) for record in records)
    assert printed in plan
    assert (run / KOHYA).exists() == is_there
    assert (KOHYA in (run / "README.md").read_text()) == is_there
    assert (run / "pytorch_lora_weights.safetensors").is_file()
    if is_there:
        assert all(name.startswith("lora_") for name in load_file(run / KOHYA))


def test_dora_in_kohyas_names_is_refused_when_it_is_asked_for(pipelines, tmp_path):
    with pytest.raises(SettingError, match="--output_kohya_format"):
        check(config(pipelines("stable_diffusion"), root=tmp_path, method="lora", use_dora=True, output_kohya_format=True))


def test_what_has_nothing_to_do_is_reported(pipelines, tmp_path):
    given = {"root": tmp_path, "method": "lora", "text_encoder_lr": 1e-4, "ema_decay": 0.9, "skip_save_text_encoder": True}
    printed = unused_settings(config(pipelines("stable_diffusion"), **given))
    assert [one.split(" has nothing")[0] for one in printed] == ["--text_encoder_lr", "--ema_decay", "--skip_save_text_encoder"]
    with pytest.raises(SettingError, match="--skip_save_text_encoder"):
        check(config(pipelines("stable_diffusion"), root=tmp_path, train_text_encoder=True, skip_save_text_encoder=True))


def test_a_lora_for_another_family_is_refused_and_not_left_out_in_silence(pipelines, tmp_path):
    for family, other, part in (("flux", "stable_diffusion", "transformer"), ("stable_diffusion", "flux", "unet")):
        for _ in train(config(pipelines(family), root=tmp_path, method="lora", max_train_steps=1, output_dir=tmp_path / family)):
            pass
        with pytest.raises(SettingError, match=rf"^--lora: \S+ is for another model: .*{part}"):
            open_model(str(pipelines(other)), Opening(lora=str(tmp_path / family)))


def test_a_text_encoders_layers_have_the_names_that_every_program_knows(pipelines, tmp_path):
    """transformers 5 leaves out `text_model`; ComfyUI and diffusers before it know nothing else."""
    family = tiny.load(pipelines("sdxl"))
    learner = LoRA(rank=2).attach(family, ["unet", *family.text_trainable], seed=0)
    learner.save(tmp_path, whole=True)
    tensors = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    names = {name.partition(".layers.")[0] for name in tensors if name.startswith("text_encoder")}
    assert names == {"text_encoder.text_model.encoder", "text_encoder_2.text_model.encoder"}
    learner.load(tmp_path)
    old = {name.replace("text_encoder.text_model.", "text_encoder."): tensor for name, tensor in tensors.items()}
    save_file(old, tmp_path / "pytorch_lora_weights.safetensors")
    learner.load(tmp_path)


def test_no_float32_weights_go_to_the_device_of_a_run_in_half_precision(pipelines, tmp_path, monkeypatch):
    moved, to = [], Family.to
    monkeypatch.setattr(Family, "to", lambda self, *a, **k: moved.append(self.denoiser.dtype) or to(self, *a, **k))
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, method="lora", max_train_steps=1, mixed_precision="bf16")
    for _ in train(wanted.updated({("output", "output_dir"): str(tmp_path / "run")})):
        pass
    open_model(str(pipelines("stable_diffusion")), Opening(precision="bf16"))
    assert moved and set(moved) == {torch.bfloat16}
