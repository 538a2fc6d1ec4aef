"""What can be wrong with a base model: each thing has one message with the fix, before anything is loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, fingerprint
from tests import tiny

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture
def folder(pipelines, tmp_path):
    """A Stable Diffusion folder of the test's own."""
    return shutil.copytree(pipelines("stable_diffusion"), tmp_path / "model")


def refused(folder, **source) -> str:
    with pytest.raises(SettingError) as caught:
        tiny.load(folder, **source)
    assert caught.value.exit_code == 2
    assert caught.value.setting == "--pretrained_model_name_or_path"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pickled(folder, part: str) -> None:
    """The part's weights as a real pickle, instead of safetensors."""
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    torch.save(load_file(path), folder / part / ("pytorch_model.bin" if part == "text_encoder" else f"{WEIGHTS[part]}.bin"))
    path.unlink()


@pytest.mark.parametrize(
    ("name", "exists", "words"),
    [
        ("model.safetensors", True, "cannot be read as safetensors"), ("sd15.ckpt", True, "--allow_pickle"),
        ("model.safetensors", False, "there is no file"), ("sd15.ckpt", False, "there is no file"),
    ],
)  # fmt: skip
def test_a_single_file_that_is_none_is_refused(tmp_path, name, exists, words):
    if exists:
        (tmp_path / name).write_bytes(b"weights")
    assert words in refused(tmp_path / name)


def test_a_folder_without_an_index_is_no_pipeline(folder):
    (folder / "model_index.json").unlink()
    assert "holds no model_index.json" in refused(folder)
    assert "save_pretrained" in refused(folder)


def test_a_folder_with_lora_weights_is_refused_with_the_advice_to_name_its_base_model(tmp_path):
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"")
    assert "name their base model here" in refused(tmp_path)


def test_a_damaged_index_is_named(folder):
    (folder / "model_index.json").write_text('{"_class_name": "Stab')
    assert "model_index.json is damaged" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_without_weights_is_half_written(folder, part):
    (folder / part / f"{WEIGHTS[part]}.safetensors").unlink()
    message = refused(folder)
    assert f"{folder / part} holds no weights" in message
    assert "half written" in message


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_without_its_configuration_is_half_written(folder, part):
    (folder / part / "config.json").unlink()
    assert f"{folder / part} holds no configuration" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_not_there_is_half_written(folder, part):
    shutil.rmtree(folder / part)
    assert f"{folder / part} holds no files" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_weights_are_reported_with_the_fix(folder, part, damage):
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"\x07" * 4096, "empty": b""}[damage])
    message = refused(folder)
    assert "cannot be loaded" in message
    assert "damaged or half written" in message


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_that_are_not_all_there_are_reported(folder, part):
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    tensors = load_file(path)
    first = min(tensors)
    del tensors[first]
    save_file(tensors, path, metadata={"format": "pt"})
    assert f"{folder / part} lacks 1 weights, {first} first" in refused(folder)


def test_a_damaged_configuration_is_reported_with_the_fix(folder):
    (folder / "unet" / "config.json").write_text("{")
    assert "damaged or half written" in refused(folder)


def test_weights_of_another_shape_than_the_configuration_says_are_reported(folder):
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": [8, 32]}))
    assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_refused_unless_allowed_and_then_are_the_same(folder, part):
    expected = load_file(folder / part / f"{WEIGHTS[part]}.safetensors")
    pickled(folder, part)
    message = refused(folder)
    assert f"the weights of {part} are a pickle (.bin)" in message
    assert "--allow_pickle" in message
    loaded = tiny.load(folder, allow_pickle=True).parts[part].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_a_part_that_is_not_loaded_may_be_a_pickle(folder):
    """The safety checker of many folders is a pickle; it is not loaded here."""
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("{}")
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(b"pickle")
    assert tiny.load(folder).pipe.safety_checker is None


def test_another_vae_stands_in_for_one_that_is_a_pickle(folder, pipelines):
    pickled(folder, "vae")
    tiny.load(folder, pretrained_vae_name_or_path=str(pipelines("stable_diffusion")))


def test_a_hub_model_that_cannot_be_reached_is_reported(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused("nobody/no-such-model")
    assert "neither a folder here nor in the cache, and the Hub cannot be reached" in message
    assert "path of a pipeline folder" in message


@pytest.mark.parametrize("name", ["./no-such-folder", "no-such-folder", "/tmp/no/such/folder"])
def test_a_path_that_does_not_exist_is_no_hub_model(name):
    assert f"there is no {'folder' if '/' in name else 'model'} {name}" in refused(name)


def test_the_fingerprint_follows_weights_and_settings_and_nothing_else(folder):
    before = fingerprint(folder)
    (folder / "samples").mkdir()
    (folder / "samples" / "0.json").write_text("{}")
    (folder / "README.md").write_text("a card")
    (folder / "checkpoint-5" / "unet").mkdir(parents=True)
    (folder / "checkpoint-5" / "unet" / "model.safetensors").write_bytes(b"1")
    assert fingerprint(folder) == before
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("epsilon", "v_prediction"))
    changed = fingerprint(folder)
    assert changed != before
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(folder) not in (before, changed)


def test_recipes_of_a_model_are_read_from_its_folder(folder):
    source = ModelSource(pretrained_model_name_or_path=str(folder))
    assert source.recipe() == {}
    (folder / "dreambooth.yaml").write_text("full: {learning_rate: 0.001}")
    assert source.recipe() == {"full": {"learning_rate": "0.001"}}
    for text in ("full: {", "full: fast"):
        (folder / "dreambooth.yaml").write_text(text)
        with pytest.raises(SettingError, match=r"dreambooth\.yaml"):
            source.recipe()
