"""Short names of models: what they stand for, what is said of them before anything is downloaded, and that folders come first."""

import json
import logging
import shutil
from pathlib import Path

import diffusers
import huggingface_hub
import pytest

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.families import FAMILIES, ModelSource, downloading, family_of, names, source
from dreambooth.families.names import UNKNOWN, hub_id, known_model, known_models
from dreambooth.run import request
from dreambooth.setup.given import train_config
from dreambooth.setup.open import open_model
from dreambooth.training.ranks import join
from tests import tiny

HERE = {pipeline for family in FAMILIES for pipeline in family.pipelines}


@pytest.fixture(autouse=True)
def once_again():
    """What is said once a process is said once a test."""
    names.say_what_is_taken.cache_clear()
    for one in (downloading.downloaded, downloading.downloaded_configurations, downloading._say_terms):
        one.cache_clear()


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A folder to work in, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_fact_has_a_source_and_every_name_a_pipeline_of_diffusers():
    for name, model in known_models().items():
        assert hasattr(diffusers, model.pipeline), name
        for fact in (model.id, model.licence, model.commercial, model.gated, model.billions, model.text_gib):
            assert fact.source.strip() and fact.value.strip(), name
        assert model.id.confirmed and model.id.value.count("/") == 1 and model.gated.value in ("yes", "no")
        assert float(model.billions.value) > 0 < float(model.text_gib.value)
        for fact in (model.licence, model.commercial, model.gated, model.text_gib):
            unsure = fact.source.startswith(("remembered", "inferred", "told"))
            assert fact.confirmed != unsure and (str(fact) == UNKNOWN) == unsure, name
    assert len({model.id.value for model in known_models().values()}) == len(known_models())


def test_twins_name_each_other():
    models = known_models()
    for name, model in models.items():
        assert model.draw is None or models[model.draw].train.value == name
        assert model.train is None or models[model.train.value].train is None, "what is to be trained is no distilled one"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("klein-4b", "black-forest-labs/FLUX.2-klein-base-4B"),
        ("z-image", "Tongyi-MAI/Z-Image"),
        ("krea2", "krea/Krea-2-Raw"),
        ("somebody/sdxl", "somebody/sdxl"),
        ("./sdxl", "./sdxl"),
        ("toybox", "toybox"),
        ("SDXL", "SDXL"),
    ],
)
def test_a_short_name_stands_for_the_model_to_train_on(name, expected, in_folder):
    assert hub_id(name) == ModelSource(pretrained_model_name_or_path=name).pretrained_model_name_or_path == expected


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "identifier", "bench"])
def test_every_command_takes_a_short_name_and_says_its_terms_before_the_download(command, in_folder, caplog, capsys):
    photos = tiny.photos(in_folder / "photos")
    train = ["--class_noun", "dog", "--output_dir", "out"]
    words = {
        "train": ["--pretrained_model_name_or_path", "flux-dev", "--instance_data_dir", str(photos), *train],
        "generate": ["flux-dev", "a dog"],
        "evaluate": ["flux-dev", "--instance_data_dir", str(photos), "--class_noun", "dog", "--identifier", "sks"],
        "identifier": ["flux-dev"],
        "bench": [
            "--plan",
            "steps",
            "--num_subjects",
            "1",
            "--pretrained_model_name_or_path",
            "flux-dev",
            "--output_dir",
            "out",
            "--dry_run",
        ],
    }
    with caplog.at_level(logging.WARNING):
        assert main([command, *words[command]]) in (2, 3)
    said = [record.getMessage() for record in caplog.records if "black-forest-labs/FLUX.1-dev" in record.getMessage()]
    assert len(said) == 1 and "Non-Commercial" in said[0] and "gated" in said[0] and "hf auth login" in said[0]
    output = capsys.readouterr()
    assert "black-forest-labs/FLUX.1-dev is neither a folder here nor in the cache" in output.err + output.out


def test_configurations_in_the_cache_do_not_keep_the_terms_from_being_said(in_folder, tmp_path, monkeypatch, caplog):
    """`plan` has left them there; the weights are still to be downloaded."""
    cached = tmp_path / "snapshot" / "model_index.json"
    cached.parent.mkdir()
    cached.write_text("{}")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(cached))
    for weights in (False, True):
        if weights:
            (cached.parent / "unet.safetensors").write_bytes(b"")
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(SettingError):
            ModelSource(pretrained_model_name_or_path="sdxl", cache_dir=f"{tmp_path}/{weights}").folder()
        said = [record.getMessage() for record in caplog.records if "stable-diffusion-xl" in record.getMessage()]
        assert bool(said) != weights


def test_what_is_not_confirmed_is_no_sentence_of_ours(in_folder):
    terms = known_models()["klein-4b"].terms()
    assert "gated" not in terms and "Apache-2.0" in terms
    model = known_models()["sana-1.6b"]
    assert not model.commercial.confirmed and f"commercial use: {UNKNOWN}" in model.terms()


@pytest.mark.parametrize("name", ["sdxl", "klein-4b"])
def test_a_folder_of_that_name_comes_first_and_that_is_said(name, in_folder, pipelines, caplog):
    shutil.copytree(pipelines("sdxl"), in_folder / name)
    with caplog.at_level(logging.WARNING):
        opened = open_model(name)
        open_model(name)
    assert type(opened.family).__name__ == "SDXL" and opened.name == name
    said = [record.getMessage() for record in caplog.records if "folder of that name" in record.getMessage()]
    assert len(said) == 1 and known_models()[name].id.value in said[0]


def test_a_run_of_that_name_is_drawn_from(in_folder, pipelines, capsys):
    tiny.photos(in_folder / "photos")
    few = [
        "--resolution",
        "16",
        "--max_train_steps",
        "1",
        "--num_class_images",
        "1",
        "--prior_inference_steps",
        "1",
        "--skip_final_inference",
    ]
    train = ["--pretrained_model_name_or_path", str(pipelines("stable_diffusion")), "--instance_data_dir", "photos", "--class_noun", "dog"]
    assert main(["train", *train, *few, "--identifier", "sks", "--method", "lora", "--output_dir", "sdxl"]) == 0
    assert main(["generate", "sdxl", "a [V] dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0
    assert Path("sdxl/samples/generated/contact_sheet.png").is_file()


def test_a_model_of_a_family_that_is_not_here_is_refused_without_its_download(in_folder, monkeypatch):
    monkeypatch.setattr(source, "downloaded", lambda source: pytest.fail("tens of gigabytes for nothing"))
    strange = next((name for name, model in known_models().items() if model.pipeline not in HERE), None)
    if strange is None:
        pytest.skip("all of them are here")
    with pytest.raises(SettingError, match="is no family that can be trained yet"):
        family_of(ModelSource(pretrained_model_name_or_path=strange))


@pytest.mark.parametrize(("name", "near"), [("klein4b", "klein-4b"), ("zimage", "z-image"), ("SDXL", "sdxl")])
def test_a_name_that_is_nearly_one_is_answered_with_it(name, near, in_folder):
    with pytest.raises(SettingError, match=f"Did you mean {near}"):
        ModelSource(pretrained_model_name_or_path=name).refuse_missing()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("klein-4b-distilled", ("forgets", "train klein-4b", "FLUX.2-klein-base-4B")),
        ("z-image-turbo", ("forgets", "train z-image", "Tongyi-MAI/Z-Image)")),
        ("flux-schnell", ("distilled", "flux-dev", "licence is another")),
        ("klein-4b", ()),
    ],
)
def test_a_distilled_model_is_warned_of_before_its_download(name, words, in_folder, photos):
    given = train_config(pretrained_model_name_or_path=name, instance_data_dir=photos, class_noun="dog", identifier="sks")
    request.refuse(given, join("cpu"))
    said = [record.text for record in request.read(given) if getattr(record, "important", False)]
    found = [text for text in said if "distilled" in text]
    assert len(found) == bool(words) and all(word in found[0] for word in words)


def test_models_lists_what_can_be_trained_with_terms_size_and_recipe(capsys):
    assert main(["models"]) == 0
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    trainable = {name for name, model in known_models().items() if model.pipeline in HERE}
    assert trainable <= table.keys() and not (known_models().keys() - trainable) & table.keys()
    assert "FLUX.1 [dev] Non-Commercial" in table["flux-dev"] and "11.9 B" in table["flux-dev"] and "rank 16" in table["flux-dev"]
    assert UNKNOWN in table["z-image"] and "also draws with z-image-turbo" in table["z-image"]
    assert main(["models", "--json"]) == 0
    found = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert found.keys() == trainable
    assert found["klein-4b"]["gated"]["value"] is None and found["klein-4b"]["gated"]["source"]
    assert found["klein-4b"]["recipe"]["lora"]["rank"] == 16 and found["klein-4b"]["family"] == "FLUX.2 klein"


def test_a_model_of_the_hub_without_a_short_name_is_not_spoken_of(in_folder):
    assert known_model("somebody/some-model") is None
