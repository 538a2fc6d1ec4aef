"""`generate RUN1 --then RUN2 --then UPSCALER`: each stage an ordinary run, trained in any order, pictures handed on unrounded."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dreambooth.api import Run
from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.families.samplers import make_scheduler
from dreambooth.families.sampling import stage_seed
from dreambooth.run.generate import Drawn, GenerateConfig, generate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.setup.open import open_model
from dreambooth.setup.stages import open_stages
from dreambooth.training.records import Message
from tests import tiny
from tests.training.runs import config

ALONE = {"with_prior_preservation": None, "class_prompt": None, "num_class_images": None, "max_train_steps": 1}


@pytest.fixture(scope="module")
def trained(pipelines, tmp_path_factory):
    """The second stage first; each with a word of its own for one subject, and one of another subject."""
    root = tmp_path_factory.mktemp("cascade")
    for name, model, settings in (
        (
            "second",
            "deepfloyd_superresolution",
            {"resolution": 32, "photo_size": (40, 40), "identifier": "xyz", "instance_prompt": "a [V] dog"},
        ),
        ("first", "deepfloyd", {"resolution": 8, "photo_size": (40, 40), "method": "lora"}),
        ("stranger", "deepfloyd_superresolution", {"resolution": 32, "photo_size": (48, 48), "method": "lora"}),
        ("wide", "deepfloyd_superresolution", {"resolution": 64, "photo_size": (40, 40), "method": "lora"}),
    ):
        for _ in train(config(pipelines(model), root=root, output_dir=root / name, **{**ALONE, **settings})):
            pass
    return root


@pytest.fixture
def runs(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def ask(run, *prompts, **settings) -> GenerateConfig:
    few = {"num_images": 2, "num_inference_steps": 2, "scheduler": "ddim", **settings}
    return from_arguments(GenerateConfig, {"run": str(run), "prompt": list(prompts or ["a [V] dog"]), **few})


def drawn(run, *prompts, **settings) -> Drawn:
    return [record for record in generate(ask(run, *prompts, **settings)) if isinstance(record, Drawn)][-1]


def said(run, **settings) -> list[str]:
    return [record.text for record in generate(ask(run, **settings)) if isinstance(record, Message) and record.important]


def by_hand(opened, prompt: str, seed: int, image=None, **size) -> torch.Tensor:
    pipe = opened.family.pipe
    pipe.scheduler = make_scheduler(opened.family, "ddim")
    beside = {"image": image, "noise_level": opened.family.noise_level} if image is not None else {}
    rng = [torch.Generator().manual_seed(seed)]
    scale = opened.config.validation.validation_guidance_scale if opened.config else type(opened.family).guidance_scale
    return pipe(prompt=[prompt], num_inference_steps=2, guidance_scale=scale, output_type="pt", generator=rng, **beside, **size).images


def rounded(pixels: torch.Tensor) -> np.ndarray:
    return (pixels[0].clamp(0, 1) * 255).round().permute(1, 2, 0).short().numpy()


def test_a_cascade_equals_its_pipelines_called_by_hand(runs, pipelines):
    found = drawn(runs / "first", then=[str(runs / "second"), str(pipelines("upscaler"))], num_images=1, seed=5)
    one, two, three = (open_model(str(name)) for name in (runs / "first", runs / "second", pipelines("upscaler")))
    small = by_hand(one, "a sks dog", 5, height=8, width=8)
    middle = by_hand(two, "a xyz dog", stage_seed(5, 2), small, height=32, width=32)
    large = by_hand(three, "a xyz dog", stage_seed(5, 3), (middle / 2 + 0.5).clamp(0, 1))
    picture = found.pictures[0].image
    assert picture.size == (128, 128)
    assert np.abs(rounded(large) - np.asarray(picture)).max() <= 1


def test_every_png_says_how_each_stage_has_drawn(runs, pipelines):
    found = drawn(runs / "first", then=[str(runs / "second"), str(pipelines("upscaler"))], num_images=1)
    notes = json.loads(Image.open(found.paths[0]).text["dreambooth"])
    first, second = notes["stages"]
    assert (first["model"], first["prompt"], first["seed"]) == (str(runs / "first"), "a sks dog", 0)
    assert (second["model"], second["prompt"], second["noise_level"]) == (str(runs / "second"), "a xyz dog", 0)
    assert second["stage_seed"] == stage_seed(0, 2) and notes["stage_seed"] == stage_seed(0, 3)
    assert notes["noise_level"] == 20, "an untuned stage draws as its pipeline does"
    assert all(stage["num_inference_steps"] == 2 for stage in (first, second))


def test_a_picture_is_a_function_of_its_seed_whatever_its_company(runs):
    many = drawn(runs / "first", then=[str(runs / "second")], num_images=3, output_dir=str(runs / "many"))
    alone = drawn(runs / "first", then=[str(runs / "second")], num_images=1, seed=2, output_dir=str(runs / "alone"))
    assert many.pictures[2].image.tobytes() == alone.pictures[0].image.tobytes()


def test_a_folder_names_the_stages_once(runs):
    (runs / "dog").mkdir()
    (runs / "dog" / "cascade.yaml").write_text(yaml.safe_dump({"stages": ["../first", "../second"]}))
    named = drawn(runs / "dog", output_dir=str(runs / "named"))
    typed = drawn(runs / "first", then=[str(runs / "second")], output_dir=str(runs / "typed"))
    assert [one.image.tobytes() for one in named.pictures] == [one.image.tobytes() for one in typed.pictures]
    assert drawn(runs / "dog").paths[0].is_relative_to(runs / "dog" / "samples" / "generated")
    images = Run(runs / "dog").generate("a [V] dog", num_images=1, num_inference_steps=2)
    assert images[0].size == (32, 32)


@pytest.mark.parametrize("text", ["", "stages: []", "stages: dog", "[first]", "stages: [../dog]"])
def test_a_damaged_list_of_stages_is_refused(runs, text, capsys):
    (runs / "dog").mkdir()
    (runs / "dog" / "cascade.yaml").write_text(text)
    assert main(["generate", str(runs / "dog"), "a [V] dog"]) == 2
    assert "cascade.yaml" in capsys.readouterr().err


def test_given_small_pictures_are_made_large(runs):
    small = tiny.photos(runs / "small", count=3, size=(8, 8))
    found = drawn(runs / "second", from_folder=str(small), num_images=None)
    assert [json.loads(Image.open(path).text["dreambooth"])["stages"] for path in found.paths] == [[{"from": f"{n}.png"}] for n in range(3)]
    assert {picture.image.size for picture in found.pictures} == {(32, 32)}
    larger = drawn(runs / "second", from_folder=str(tiny.photos(runs / "larger", count=1, size=(40, 60))), num_images=None)
    assert larger.pictures[0].image.size == (32, 48)
    assert main(["generate", str(runs / "second"), "a [V] dog", "--from", str(small), "--num_inference_steps", "2"]) == 0


def test_the_text_encoder_is_loaded_once_and_asked_once_for_a_word(runs, monkeypatch):
    opened = open_stages([str(runs / "first"), str(runs / "second")])
    encoder = opened.family.pipe.text_encoder
    assert encoder is opened.stages[0].family.pipe.text_encoder
    asked, forward = [], encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda ids, **options: asked.append(ids) or forward(ids, **options))
    for _ in generate(ask(runs / "first", "a red [V] dog", then=[str(runs / "second")], num_images=3, batch_size=1), opened=opened):
        pass
    assert len(asked) == 3, "the prompt in two words for the subject, and nothing"


def test_a_stage_draws_at_the_level_it_was_trained_at_and_warns_of_another(runs, pipelines):
    assert said(runs / "first", then=[str(runs / "second")]) == []
    (warning,) = said(runs / "first", then=[str(runs / "second")], noise_augmentation=0.15)
    assert "4.1e-05" in warning and "0.15" in warning
    assert said(runs / "first", then=[str(pipelines("deepfloyd_superresolution"))], noise_augmentation=0.15) == []
    found = drawn(runs / "first", then=[str(runs / "second")], noise_augmentation=1e-3, num_images=1)
    assert json.loads(Image.open(found.paths[0]).text["dreambooth"])["noise_level"] == 13


def test_another_level_is_for_one_request_alone(runs):
    opened = open_stages([str(runs / "first"), str(runs / "second")])
    for variance, level in ((1e-3, 13), (None, 0)):
        wanted = ask(
            runs / "first", then=[str(runs / "second")], noise_augmentation=variance, num_images=1, output_dir=str(runs / str(level))
        )
        found = [record for record in generate(wanted, opened=opened) if isinstance(record, Drawn)][-1]
        assert json.loads(Image.open(found.paths[0]).text["dreambooth"])["noise_level"] == level


def test_stages_that_learned_from_different_photos_are_reported(runs):
    (warning,) = said(runs / "first", then=[str(runs / "stranger")])
    assert "different photos" in warning


@pytest.mark.parametrize(
    ("names", "more", "setting"),
    [
        (["second"], {}, "--then"),
        (["first", "first"], {}, "--then"),
        (["first", "upscaler", "second"], {}, "--then"),
        (["first", "wide"], {}, "--then"),
        (["first", "second", "second"], {}, "--then"),
        (["first"], {"from_folder": "small"}, "--from"),
        (["first"], {"noise_augmentation": 0.1}, "--noise_augmentation"),
        (["first", "nothing"], {}, "run"),
        (["second"], {"from_folder": "nothing"}, None),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused_before_anything_is_loaded(names, more, setting, runs, pipelines):
    tiny.photos(runs / "small", count=1, size=(8, 8))
    more = {name: str(runs / value) if name == "from_folder" else value for name, value in more.items()}
    where = [str(pipelines("upscaler")) if name == "upscaler" else str(runs / name) for name in names]
    with pytest.raises(SettingError) as caught:
        drawn(where[0], then=where[1:], output_dir=str(runs / "out"), **more)
    assert setting is None or caught.value.setting == setting
    assert not (runs / "out").exists()


def test_a_size_by_hand_is_the_first_stages(runs):
    found = drawn(runs / "first", then=[str(runs / "second")], height=8, width=16, num_images=1)
    assert found.pictures[0].image.size == (64, 32)


@pytest.fixture
def cascade(runs, pipelines):
    """A folder with a list of two runs and an untuned stage."""
    (runs / "dog").mkdir()
    (runs / "dog" / "cascade.yaml").write_text(yaml.safe_dump({"stages": ["../first", "../second", str(pipelines("upscaler"))]}))
    return runs / "dog"


def test_a_cascade_is_exported_stage_by_stage_and_what_was_written_draws_the_same(cascade, runs, pipelines, capsys):
    assert main(["export", str(cascade), "--as", "pipeline", "--output", str(runs / "whole")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("at most 0 of 255") == 2 and "was not tuned, and is not written" in printed
    assert "noise_level=0 in diffusers, --noise_augmentation 4.1e-05 here" in printed
    names = yaml.safe_load((runs / "whole" / "cascade.yaml").read_text())["stages"]
    assert names == ["1-first", "2-second", str(pipelines("upscaler"))]
    assert {path.name for path in (runs / "whole").iterdir()} == {"cascade.yaml", "1-first", "2-second"}
    alike = {"num_images": 1, "guidance_scale": 2.0, "noise_augmentation": 4.1e-5, "seed": 3}
    theirs, ours = (drawn(folder, "a sks cat", output_dir=str(runs / f"of-{folder.name}"), **alike) for folder in (runs / "whole", cascade))
    assert np.abs(np.asarray(theirs.pictures[0].image).astype(int) - np.asarray(ours.pictures[0].image)).max() <= 1
    assert main(["export", str(cascade), "--as", "pipeline", "--output", str(runs / "whole"), "--overwrite"]) == 0


def test_a_cascade_of_later_stages_alone_is_exported(cascade, runs, pipelines):
    (cascade / "cascade.yaml").write_text(yaml.safe_dump({"stages": ["../second", str(pipelines("upscaler"))]}))
    assert main(["export", str(cascade), "--as", "pipeline", "--no-compare"]) == 0
    assert (cascade / "export" / "pipeline" / "1-second" / "model_index.json").is_file()


def test_a_later_stage_alone_is_exported_and_compared_by_a_small_picture(runs):
    found = Run(runs / "second").export("pipeline")
    assert (found / "unet").is_dir() and found.is_relative_to(runs / "second")
    record = json.loads((runs / "second" / "export" / "pipeline.json").read_text())
    assert record["compared"]["max_difference"] == 0


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--as", "comfy"], "of RUNS/dog/../first"), (["--as", "lora"], "--as"), (["--as", "pipeline", "--rank", "4"], "--rank"),
        (["--as", "pipeline", "--output", "dog.safetensors"], "Name a folder"),
        (["--as", "pipeline", "--output", "RUNS/second"], "--output"),
        (["--as", "pipeline", "--single_file_config", "RUNS/first"], "--single_file_config"),
    ],
)  # fmt: skip
def test_a_cascade_that_cannot_be_exported_is_refused_whole(cascade, runs, capsys, words, printed):
    before = sorted(path.relative_to(runs) for path in runs.rglob("*"))
    assert main(["export", str(cascade), *(word.replace("RUNS", str(runs)) for word in words)]) == 2
    output = capsys.readouterr()
    assert printed.replace("RUNS", str(runs)) in output.err and "Loading" not in output.out
    assert sorted(path.relative_to(runs) for path in runs.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "stages: []", "stages: [../nothing]", "stages: [../dog]", "stages: [../second, ../first]", "UNTUNED"])
def test_a_list_that_is_no_cascade_is_not_exported(cascade, runs, pipelines, capsys, text):
    (cascade / "cascade.yaml").write_text(text.replace("UNTUNED", f"stages: ['{pipelines('deepfloyd')}']"))
    assert main(["export", str(cascade), "--as", "pipeline"]) == 2
    assert "Traceback" not in capsys.readouterr().err and not (cascade / "export").exists()
