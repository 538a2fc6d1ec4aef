"""`generate` writes pictures as they come, goes on where it was interrupted, replaces none, and notices damaged weights."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.run import generate as drawing
from dreambooth.run.generate import GenerateConfig, asked, generate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.training.records import Message, Progress
from tests.training.runs import config


@pytest.fixture(scope="module")
def finished(pipelines, tmp_path_factory):
    root = tmp_path_factory.mktemp("generate")
    settings = {"max_train_steps": 1, "with_prior_preservation": False, "class_prompt": None}
    wanted = config(pipelines("stable_diffusion"), root=root, output_dir=root / "run", **settings)
    for _ in train(wanted):
        pass
    return root / "run"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def ask(run, *prompts, **settings):
    few = {"num_images": 3, "num_inference_steps": 2, "batch_size": 2, **settings}
    return from_arguments(GenerateConfig, {"run": str(run), "prompt": list(prompts), **few})


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*-seed*.png"))}


def test_a_picture_is_on_the_disk_before_it_is_announced_and_an_interrupted_request_goes_on(run):
    wanted, folder = ask(run, "a dog", "a cat"), run / "samples" / "generated"
    for record in generate(wanted):
        if isinstance(record, Progress):
            assert len(pictures(folder)) == record.done
    whole = pictures(folder)
    shutil.rmtree(folder)
    for record in generate(wanted):
        if isinstance(record, Progress) and record.done == 3:
            break
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*-seed*.png")}
    said = [record.text for record in generate(wanted) if isinstance(record, Message)]
    assert any("3 of 6" in text for text in said)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "none was drawn twice"
    assert whole.keys() == pictures(folder).keys() and all(np.array_equal(whole[name], new) for name, new in pictures(folder).items())


def test_another_request_gets_other_rows_in_a_named_folder_too(run, tmp_path):
    for prompt in ("a dog", "a cat"):
        list(generate(ask(run, prompt, output_dir=str(tmp_path / "out"))))
    assert sorted(pictures(tmp_path / "out")) == [f"{row:02d}-seed{seed}.png" for row in (0, 1) for seed in (0, 1, 2)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*-seed*.png")}
    list(generate(ask(run, "a dog", output_dir=str(tmp_path / "out"))))
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the same request finds its pictures"


def test_a_picture_that_was_cut_short_is_drawn_again(run, tmp_path):
    list(generate(ask(run, "a dog", output_dir=str(tmp_path / "out"))))
    whole, path = pictures(tmp_path / "out"), tmp_path / "out" / "00-seed1.png"
    path.write_bytes(path.read_bytes()[:200])
    list(generate(ask(run, "a dog", output_dir=str(tmp_path / "out"))))
    assert all(np.array_equal(whole[name], new) for name, new in pictures(tmp_path / "out").items())


def test_a_run_that_was_trained_again_does_not_find_its_old_pictures(run, tmp_path):
    list(generate(ask(run, "a dog", output_dir=str(tmp_path / "out"))))
    sums = run / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("README.md", "README.md "))  # as after other weights: the list is another
    list(generate(ask(run, "a dog", output_dir=str(tmp_path / "out"), verify=False)))
    assert len(pictures(tmp_path / "out")) == 6


def test_weights_with_a_flipped_bit_are_named_and_used_only_when_asked_for(run, tmp_path, capsys):
    path = run / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    words = ["generate", str(run), "a dog", "--num_images", "1", "--num_inference_steps", "1", "--output_dir", str(tmp_path / "out")]
    assert main(words) == 2
    assert "unet/diffusion_pytorch_model.safetensors" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, "--no_verify"]) == 0


def test_two_at_once_in_one_folder_do_not_mix(run):
    first = generate(ask(run, "a dog"))
    while not isinstance(next(first), Progress):
        pass
    with pytest.raises(drawing.SettingError, match="in use"):
        list(generate(ask(run, "a cat")))
    first.close()


@pytest.mark.parametrize("name", ["toybox", "sd15", "klein-4b", "owner/model"])
def test_a_base_model_is_named_as_it_is_in_training_and_nothing_is_loaded_to_see_that(name):
    assert asked(GenerateConfig.parse({"run": name, "prompt": ["a dog"]})).prompts == ("a dog",)


@pytest.mark.parametrize("name", ["toybx", "sd16", "klein"])
def test_a_name_that_is_near_a_base_models_is_neither(name):
    with pytest.raises(SettingError, match="there is no run"):
        asked(GenerateConfig.parse({"run": name, "prompt": ["a dog"]}))
