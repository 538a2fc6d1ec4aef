"""A base model's safety checker is a part of its results, is run where pictures are shown to people, and nowhere else."""

import filecmp
import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from dreambooth.core.errors import RunError, SettingError
from dreambooth.evaluation.pictures import Lazy, Series, have, suite
from dreambooth.families.safety import SafetyChecker
from dreambooth.families.sampling import Sampling
from dreambooth.families.source import ModelSource
from dreambooth.files.images import read_settings
from dreambooth.run.generate import Drawn, GenerateConfig, generate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.setup.open import open_model
from dreambooth.training.records import Message
from tests import tiny
from tests.training.runs import config, same_files, weights

FILES = ("safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json")
SHORT = {"max_train_steps": 1, "with_prior_preservation": False, "class_prompt": None}


@pytest.fixture
def base(pipelines, tmp_path):
    """Stable Diffusion with a checker that objects to everything."""
    return tiny.safety_checker(shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base"))


def trained(base, tmp_path, name="run", **settings):
    said = list(train(config(base, root=tmp_path, output_dir=tmp_path / name, **SHORT, **settings)))
    return tmp_path / name, [record.text for record in said if isinstance(record, Message)]


def drawn(model, *prompts, **settings):
    few = {"num_images": 2, "num_inference_steps": 1, "height": 16, **settings}
    records = list(generate(from_arguments(GenerateConfig, {"run": str(model), "prompt": list(prompts or ["a dog"]), **few})))
    said = [record.text for record in records if isinstance(record, Message) and record.important]
    return next(record for record in records if isinstance(record, Drawn)), said


def is_black(path):
    return not np.asarray(Image.open(path)).any()


def of(folder, **settings):
    return SafetyChecker.of(ModelSource(pretrained_model_name_or_path=str(folder), **settings))


def index(folder):
    return {**json.loads((folder / "model_index.json").read_text()), "_name_or_path": None}


def test_a_result_holds_the_checkers_files_as_they_are_and_diffusers_opens_it(base, tmp_path):
    run, said = trained(base, tmp_path)
    for name in FILES:
        assert filecmp.cmp(base / name, run / name, shallow=False), name
    assert all(name in (run / "SHA256SUMS").read_text() for name in FILES)
    assert any("safety checker" in text and "--no_safety_checker" in text for text in said)
    assert "is part of this folder" in (run / "README.md").read_text()
    pipe = DiffusionPipeline.from_pretrained(run)
    pipe.set_progress_bar_config(disable=True)
    seen = pipe("a dog", num_inference_steps=1, height=16, width=16, output_type="np")
    assert seen.nsfw_content_detected == [True] and not seen.images.any()


def test_what_is_learned_is_the_same_with_and_without_it(base, tmp_path, pipelines):
    with_it, _ = trained(base, tmp_path)
    without, said = trained(base, tmp_path, "without", safety_checker=False)
    plain, _ = trained(pipelines("stable_diffusion"), tmp_path, "plain")
    assert not (without / "safety_checker").exists() and not any("safety checker" in text for text in said)
    assert "was left out" in (without / "README.md").read_text() and "safety checker" not in (plain / "README.md").read_text()
    same_files(weights(without), weights(plain))
    same_files({name: path for name, path in weights(with_it).items() if "safety" not in name}, weights(plain))
    assert index(without) == index(plain)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_generate_blackens_what_the_checker_objects_to_and_says_so(method, base, tmp_path):
    run, _ = trained(base, tmp_path, method=method)
    found, said = drawn(run, "a dog", seed=5)
    assert all(is_black(path) for path in found.paths)
    assert all(read_settings(path)["blacked_by"] == "safety_checker" for path in found.paths)
    assert [text for text in said if "seed 5" in text] and [text for text in said if "seed 6" in text]
    shown, quiet = drawn(run, "a dog", seed=5, safety_checker=False)
    assert not any(is_black(path) for path in shown.paths) and not quiet
    assert all(read_settings(path)["safety_checker"] is False for path in shown.paths)


def test_a_picture_that_it_does_not_object_to_is_the_same_to_the_bit(pipelines, tmp_path):
    plain = pipelines("stable_diffusion")
    mild = tiny.safety_checker(shutil.copytree(plain, tmp_path / "mild"), threshold=2)
    some, said = drawn(mild, output_dir=str(tmp_path / "one"))
    others, _ = drawn(plain, output_dir=str(tmp_path / "other"))
    assert not said and "safety_checker" not in read_settings(others.paths[0])
    assert all(np.array_equal(*map(np.asarray, map(Image.open, pair))) for pair in zip(some.paths, others.paths, strict=True))


def test_it_objects_to_the_pictures_that_diffusers_pipeline_objects_to(pipelines, tmp_path):
    seen = {}
    for threshold in (0.6, 0.64, 0.67):
        base = tiny.safety_checker(shutil.copytree(pipelines("stable_diffusion"), tmp_path / f"base{threshold}"), threshold=threshold)
        found, _ = drawn(base, num_images=8, num_inference_steps=2, scheduler="ddim", output_dir=str(tmp_path / f"drawn{threshold}"))
        pipe = DiffusionPipeline.from_pretrained(base)
        pipe.set_progress_bar_config(disable=True)
        rngs = [torch.Generator().manual_seed(seed) for seed in range(8)]
        theirs = pipe(["a dog"] * 8, num_inference_steps=2, height=16, width=16, generator=rngs).nsfw_content_detected
        seen[threshold] = [is_black(path) for path in found.paths]
        assert seen[threshold] == theirs
    assert len({tuple(values) for values in seen.values()}) > 1, "thresholds at which all answers are one tell nothing"


def test_a_grid_passes_through_it(base, tmp_path):
    found, said = drawn(base, "a dog", grid="prompt,seed", output_dir=str(tmp_path / "grid"))
    assert all(is_black(path) for path in found.paths) and len(said) == len(found.paths)


def test_class_images_and_previews_do_not_pass_through_it(base, tmp_path):
    settings = {"class_data_dir": str(tmp_path / "class"), "skip_final_inference": False, "num_validation_images": 1}
    for _ in train(config(base, root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, validation_inference_steps=1, **settings)):
        pass
    class_images = list((tmp_path / "class").rglob("*.png"))
    previews = list((tmp_path / "run" / "samples").rglob("*-seed*.png"))
    assert class_images and previews and not any(is_black(path) for path in [*class_images, *previews])


def test_evaluation_does_not_load_it(base, tmp_path, monkeypatch):
    run, _ = trained(base, tmp_path)
    monkeypatch.setattr(SafetyChecker, "files", lambda checker: pytest.fail("the checker was asked for"))
    series, sampling = Series("drawing", tmp_path / "evaluated", suite([("a dog", "a dog")], [0]), {}), Sampling(num_inference_steps=1)
    for _ in have(series, Lazy(lambda: open_model(str(run))), sampling=sampling, batch_size=1, precision="no"):
        pass
    assert not is_black(tmp_path / "evaluated" / "00-seed0.png")


def test_a_plan_counts_its_bytes_before_and_after_its_weights_are_here(base, tmp_path):
    from dreambooth.families import family_of
    from dreambooth.run.plan import needed_bytes

    sizes = {}
    for keeps in (True, False):
        settings = config(base, root=tmp_path, output_dir=tmp_path / "run", safety_checker=keeps, **SHORT)
        family = family_of(settings.model).load(settings.model)
        sizes[keeps] = needed_bytes(settings, 10, family, 1)
    own = sum((base / name).stat().st_size for name in FILES)
    assert sizes[True] - sizes[False] == own
    (base / "safety_checker" / "model.safetensors").unlink()
    assert of(base).size() == pytest.approx(own, rel=0.25)


@pytest.mark.parametrize("lacking", ["safety_checker", "safety_checker/model.safetensors", "feature_extractor"])
def test_a_checker_that_is_not_whole_is_refused_before_anything_is_loaded_or_written(lacking, base, tmp_path):
    gone = base / lacking
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(SettingError, match="no_safety_checker") as refused:
        trained(base, tmp_path)
    assert lacking.split("/")[0] in str(refused.value) and not (tmp_path / "run").exists()
    with pytest.raises(SettingError, match="no_safety_checker"):
        drawn(base, output_dir=str(tmp_path / "drawn"))
    assert not (tmp_path / "drawn").exists()
    assert drawn(base, output_dir=str(tmp_path / "drawn"), safety_checker=False)[0].paths


def test_code_that_an_index_names_as_its_checker_is_not_run(base):
    path = base / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"safety_checker": ["my_code", "Checker"]}))
    with pytest.raises(SettingError, match="Checker"):
        of(base).files()


def test_a_pickled_checker_is_copied_and_opened_only_where_that_is_allowed(base, tmp_path):
    from safetensors.torch import load_file

    place = base / "safety_checker"
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    run, said = trained(base, tmp_path)
    assert any("is a pickle" in text for text in said)
    assert filecmp.cmp(place / "pytorch_model.bin", run / "safety_checker" / "pytorch_model.bin", shallow=False)
    with pytest.raises(SettingError, match="allow_pickle"):
        drawn(base, output_dir=str(tmp_path / "drawn"))
    assert is_black(drawn(base, output_dir=str(tmp_path / "drawn"), allow_pickle=True)[0].paths[0])


def test_a_variant_is_copied_under_the_plain_name_that_the_result_is_opened_by(base):
    place = base / "safety_checker"
    (place / "model.safetensors").rename(place / "model.fp16.safetensors")
    assert of(base, variant="fp16").files()["safety_checker/model.safetensors"] == place / "model.fp16.safetensors"


def test_a_hub_models_checker_is_fetched_only_when_it_is_needed_and_no_pickle_where_there_is_another(base, monkeypatch):
    asked = []

    def fetch(name, *, allow_patterns, **options):
        asked.append(allow_patterns)
        return str(base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(ModelSource, "folder", lambda source: base)
    checker = SafetyChecker.of(ModelSource(pretrained_model_name_or_path="somebody/model-with-a-checker"))
    assert not asked
    assert set(checker.files()) == set(FILES)
    assert len(asked) == 1 and not any("bin" in name for name in asked[0])


def test_a_checker_that_is_gone_when_the_result_is_saved_is_reported_and_the_training_is_kept(base, tmp_path):
    records = train(config(base, root=tmp_path, output_dir=tmp_path / "run", checkpointing_steps=1, **SHORT))
    with pytest.raises(RunError, match="safety checker is no longer there"):
        for record in records:
            if type(record).__name__ == "Step":
                shutil.rmtree(base / "safety_checker")
    assert (tmp_path / "run" / "checkpoint-1").is_dir()
