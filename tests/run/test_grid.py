"""A grid of pictures: two axes, a picture for each place, one labelled sheet; what was interrupted goes on."""

import itertools

import numpy as np
import pytest
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.families.sampling import Sampling
from dreambooth.files.images import read_settings
from dreambooth.run.generate import Drawn, GenerateConfig, asked, generate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.setup.open import open_model
from dreambooth.setup.strength import lora_strength
from dreambooth.training.records import Message, Progress
from tests.training.runs import config


@pytest.fixture(scope="module")
def run(pipelines, tmp_path_factory):
    """A LoRA of strong updates, with a checkpoint before its end."""
    root = tmp_path_factory.mktemp("grid")
    settings = {
        "max_train_steps": 2, "checkpointing_steps": 1, "with_prior_preservation": False, "class_prompt": None, "method": "lora",
        "learning_rate": 0.5, "skip_final_inference": True,
    }  # fmt: skip
    for _ in train(config(pipelines("stable_diffusion"), root=root, output_dir=root / "run", **settings)):
        pass
    return root / "run"


def ask(run, grid, *values, prompts=("a dog",), **settings):
    given = {"num_inference_steps": 2} if "steps" not in grid else {}
    return from_arguments(
        GenerateConfig, {"run": str(run), "prompt": list(prompts), "grid": grid, "grid_values": list(values), **given, **settings}
    )


def drawn(records):
    return next(record for record in records if isinstance(record, Drawn))


def pixels(picture):
    return np.asarray(picture.image, dtype=float)


def test_a_grid_varies_strength_from_the_model_without_its_lora_to_the_run_as_it_is(run, pipelines, tmp_path):
    found = drawn(
        generate(ask(run, "prompts,lora_scale", "lora_scale=0,1,2", prompts=("a dog", "a cat"), output_dir=str(tmp_path / "out")))
    )
    assert [(read_settings(path)["prompt"], read_settings(path)["lora_scale"]) for path in found.paths] == list(
        itertools.product(("a dog", "a cat"), (0.0, 1.0, 2.0))
    )
    alone = {"num_images": 1, "num_inference_steps": 2, "prompt": ["a dog"]}
    tuned = drawn(generate(from_arguments(GenerateConfig, {"run": str(run), "output_dir": str(tmp_path / "tuned"), **alone})))
    sampling = Sampling(**{name: tuned.pictures[0].settings[name] for name in ("guidance_scale", "height", "width", "scheduler")})
    bare = {**alone, **sampling.model_dump(include={"guidance_scale", "height", "width"}), "output_dir": str(tmp_path / "bare")}
    base = drawn(generate(from_arguments(GenerateConfig, {"run": str(pipelines("stable_diffusion")), **bare})))
    assert np.abs(pixels(found.pictures[1]) - pixels(tuned.pictures[0])).max() <= 2
    assert np.abs(pixels(found.pictures[0]) - pixels(base.pictures[0])).max() <= 2
    assert (
        np.abs(pixels(found.pictures[0]) - pixels(found.pictures[1])).max()
        > 2
        < np.abs(pixels(found.pictures[2]) - pixels(tuned.pictures[0])).max()
    )
    with Image.open(found.sheet) as sheet:
        assert sheet.width > 4 * 192 and sheet.height > 2 * 192


def test_strength_is_put_back_also_after_an_error(run):
    opened = open_model(str(run))
    layers = [
        module for part in opened.family.parts.values() for module in part.modules() if isinstance(getattr(module, "scaling", 0), dict)
    ]
    before = [dict(layer.scaling) for layer in layers]
    with pytest.raises(KeyError), lora_strength(opened.family, 0.5, of_file=False):
        assert [layer.scaling for layer in layers] == [{name: value / 2 for name, value in one.items()} for one in before] != before
        raise KeyError
    with lora_strength(opened.family, 0.5, of_file=True):
        assert [layer.scaling for layer in layers] == before, "there is no other file's LoRA on this model"
    assert [layer.scaling for layer in layers] == before and layers


def test_an_interrupted_grid_goes_on_and_ends_as_one_that_was_not(run, tmp_path):
    wanted = {"prompts": ("a dog", "a cat"), "batch_size": 2}
    whole = drawn(generate(ask(run, "prompt,seed", "seed=3,5,7", output_dir=str(tmp_path / "whole"), **wanted)))
    again = ask(run, "prompt,seed", "seed=3,5,7", output_dir=str(tmp_path / "cut"), **wanted)
    for record in generate(again):
        if isinstance(record, Progress) and record.done == 3:
            break
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cut/grid-*/*-*.png")}
    records = list(generate(again))
    found = drawn(records)
    assert len(kept) == 3 and {path: path.stat().st_mtime_ns for path in kept} == kept
    assert any("3 of 6" in record.text for record in records if isinstance(record, Message))
    assert all(np.array_equal(pixels(one), pixels(other)) for one, other in zip(whole.pictures, found.pictures, strict=True))
    found.paths[4].write_bytes(found.paths[4].read_bytes()[:100])
    mended = drawn(generate(again))
    assert np.array_equal(pixels(mended.pictures[4]), pixels(whole.pictures[4]))


def test_another_request_has_another_folder(run, tmp_path):
    sheets = {
        drawn(generate(ask(run, "seed,steps", "seed=1", f"steps={steps}", output_dir=str(tmp_path / "out")))).sheet for steps in ("1", "2")
    }
    assert len(sheets) == 2 and all(sheet.is_file() for sheet in sheets)


def test_checkpoints_are_an_axis_with_the_result_as_the_last(run, tmp_path):
    found = drawn(generate(ask(run, "checkpoint,guidance", "guidance=1", output_dir=str(tmp_path / "out"))))
    models = [read_settings(path)["model"] for path in found.paths]
    assert models == [str(run / "checkpoint-1"), str(run / "checkpoint-2"), str(run)]
    assert np.array_equal(pixels(found.pictures[1]), pixels(found.pictures[2])) and not np.array_equal(*map(pixels, found.pictures[:2]))


@pytest.mark.parametrize(
    ("grid", "values", "settings", "setting"),
    [
        ("prompt", (), {}, "--grid"), ("prompt,prompts", (), {}, "--grid"), ("prompt,seed,steps", (), {}, "--grid"),
        ("prompt,gidance_scale", (), {}, "--grid"), ("seed,steps", (), {"prompts": ("a dog", "a cat")}, "--grid"),
        ("prompt,steps", ("steps=1.5",), {}, "--grid_values"), ("prompt,steps", ("steps=0",), {}, "--grid_values"),
        ("prompt,steps", ("steps",), {}, "--grid_values"), ("prompt,steps", ("steps=2,2",), {}, "--grid_values"),
        ("prompt,steps", ("guidance=2",), {}, "--grid_values"), ("prompt,steps", ("prompt=a cat",), {}, "--grid_values"),
        ("prompt,lora_scale", ("lora_scale=nan",), {}, "--grid_values"), ("prompt,lora_scale", ("lora_scale=inf",), {}, "--grid_values"),
        ("prompt,guidance", (), {"guidance_scale": 2.0}, "--guidance_scale"), ("prompt,steps", (), {"num_images": 2}, "--num_images"),
        ("checkpoint,seed", ("checkpoint=7",), {}, "--grid_values"), ("checkpoint,seed", ("checkpoint=best",), {}, "--grid_values"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused_before_a_model_is_loaded(run, grid, values, settings, setting):
    with pytest.raises(SettingError) as caught:
        asked(ask(run, grid, *values, **settings))
    assert caught.value.setting == setting


def test_values_without_a_grid_and_axes_that_the_model_lacks_are_refused(run, pipelines):
    base = pipelines("stable_diffusion")
    for wanted in (ask(base, "prompt,lora_scale"), ask(base, "prompt,checkpoint"), ask(f"{run}@1", "prompt,checkpoint")):
        with pytest.raises(SettingError, match="--grid"):
            asked(wanted)
    with pytest.raises(SettingError, match="there is no grid"):
        asked(from_arguments(GenerateConfig, {"run": str(base), "prompt": ["a dog"], "grid_values": ["steps=2"]}))


def test_what_the_sampler_cannot_do_is_refused_before_the_first_picture(run, tmp_path):
    with pytest.raises(SettingError, match="--grid_values"):
        list(generate(ask(run, "seed,steps", "seed=1", "steps=2,5000", output_dir=str(tmp_path / "out"))))
    assert not (tmp_path / "out").exists()


def test_a_grid_of_several_stages_is_refused(run):
    with pytest.raises(SettingError) as caught:
        asked(ask(run, "prompt,seed", then=(str(run),)))
    assert caught.value.setting in ("--grid", "--then")
