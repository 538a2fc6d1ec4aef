"""What diffusers' tests never run: prior preservation, validation pictures, several subjects, and the fork's way of asking for them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.parity.commands import LEAN, TWO_STEPS, train

PRIOR = "--with_prior_preservation --class_prompt dog --num_class_images 3 --prior_inference_steps 2 --prior_loss_weight 1.0"


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def unet(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_class_images_are_made_into_the_folder(place, tmp_path):
    here, dogs = place(), tmp_path / "dogs"
    assert here.train("train_dreambooth", f"{TWO_STEPS} {PRIOR} --class_data_dir {dogs}") == 0
    made = {path.name: path.stat().st_mtime_ns for path in dogs.glob("*.png")}
    assert len(made) == 3
    assert metrics(here.out)[-1]["loss_prior"] > 0
    assert here.record["class_prompts"] == ["dog"]
    shutil.rmtree(here.out)
    assert here.train("train_dreambooth", f"{TWO_STEPS} {PRIOR} --class_data_dir {dogs}") == 0
    assert {path.name: path.stat().st_mtime_ns for path in dogs.glob("*.png")} == made


def test_class_images_of_ones_own_are_used_as_they_are(place, tmp_path):
    here, dogs = place(), tiny.photos(tmp_path / "dogs", count=3)
    before = sorted(path.name for path in dogs.iterdir())
    assert here.train("train_dreambooth", f"{TWO_STEPS} {PRIOR} --class_data_dir {dogs}") == 0
    assert sorted(path.name for path in dogs.iterdir()) == before


def test_too_few_class_images_of_ones_own_are_filled_up(place, tmp_path):
    here, dogs = place(), tiny.photos(tmp_path / "dogs", count=2)
    assert here.train("train_dreambooth", f"{TWO_STEPS} {PRIOR} --class_data_dir {dogs}") == 0
    assert len(list(dogs.glob("*.png"))) == 3


@pytest.mark.parametrize("text", ["", "--train_text_encoder"])
def test_class_rows_reach_the_loss(place, tmp_path, text):
    """With the same photos and seed, the class prompt and the prior's weight each change what is learned."""
    here, dogs = place(), tiny.photos(tmp_path / "dogs", count=3)
    learned = []
    for prompt, weight in (("dog", 1), ("cat", 1), ("dog", 5)):
        flags = (
            f"--with_prior_preservation --class_data_dir {dogs} --num_class_images 3 --class_prompt {prompt} --prior_loss_weight {weight}"
        )
        shutil.rmtree(here.out, ignore_errors=True)
        assert here.train("train_dreambooth", f"{TWO_STEPS} {flags} {text} --seed 0 --skip_final_inference") == 0
        learned.append(unet(here.out))
    assert not same(learned[0], learned[1]) and not same(learned[0], learned[2])


def test_prior_preservation_without_a_class_is_refused(place, tmp_path, capsys):
    here = place()
    assert here.train("train_dreambooth", f"{TWO_STEPS} --with_prior_preservation --class_data_dir {tmp_path / 'dogs'}") == 2
    assert "--with_prior_preservation" in capsys.readouterr().err


def test_class_flags_without_prior_preservation_are_reported(place, tmp_path, capsys):
    here = place()
    assert here.train("train_dreambooth", f"{TWO_STEPS} --class_prompt dog --class_data_dir {tmp_path / 'dogs'}") == 0
    output = capsys.readouterr()
    assert "--with_prior_preservation" in output.out + output.err


def test_validation_prompt_draws(place):
    here = place()
    flags = TWO_STEPS.replace("--max_train_steps 2", "--max_train_steps 4")
    assert here.train("train_dreambooth", f"{flags} --validation_prompt dog --validation_steps 2 --validation_scheduler DDPMScheduler") == 0
    drawn = sorted(path.parent.name for path in (here.out / "samples").glob("step-*/*.png"))
    assert drawn == ["step-000000", "step-000002", "step-000004"]


def test_validation_epochs_count_photos(place):
    """Four photos, one an update: an epoch is four updates."""
    here = place()
    flags = TWO_STEPS.replace("--max_train_steps 2", "--max_train_steps 9")
    assert here.train("train_dreambooth_lora", f"{flags} --validation_prompt dog --validation_epochs 1") == 0
    assert sorted(path.name for path in (here.out / "samples").glob("step-*")) == ["step-000000", "step-000004", "step-000008"]


def test_num_train_epochs_count_photos(place):
    here = place()
    flags = TWO_STEPS.replace("--max_train_steps 2", "--num_train_epochs 2")
    assert here.train("train_dreambooth", flags) == 0
    assert here.record["step"] == 8


def fork_words(place, tmp_path, entries) -> tuple:
    (tmp_path / "concepts.json").write_text(json.dumps(entries))
    here = place()
    own = ("--pretrained_model_name_or_path", here.model, "--concepts_list", tmp_path / "concepts.json", "--output_dir", here.out)
    return here, (*own, *TWO_STEPS.split(), *LEAN)


def test_two_subjects_as_the_fork_asked_for_them(place, tmp_path):
    entries = [
        {
            "instance_prompt": f"photo of sks {noun}", "class_prompt": f"photo of {noun}", "num_class_images": count,
            "instance_data_dir": str(tiny.photos(tmp_path / noun)), "class_data_dir": str(tmp_path / f"{noun}s"),
        }
        for noun, count in (("dog", 2), ("cat", 3))
    ]  # fmt: skip
    here, words = fork_words(place, tmp_path, entries)
    asked = ("--save_sample_prompt", "photo of sks dog", "--n_save_sample", 1, "--save_infer_steps", 2, "--save_interval", 2)
    assert train(*words, "--with_prior_preservation", "--prior_inference_steps", 2, *asked, "--not_cache_latents") == 0
    assert [len(list((tmp_path / folder).glob("*.png"))) for folder in ("dogs", "cats")] == [2, 3]
    assert here.record["instance_prompts"] == ["photo of sks cat", "photo of sks dog"]
    assert here.record["class_prompts"] == ["photo of cat", "photo of dog"]
    assert here.checkpoints == {"checkpoint-2"}
    assert len(list((here.out / "samples" / "step-000002").glob("*.png"))) == 1


def test_latents_are_the_same_with_and_without_their_cache(place):
    """`--not_cache_latents` costs time and changes no number beyond rounding."""
    here, learned = place(), []
    for flag in ("", "--not_cache_latents"):
        shutil.rmtree(here.out, ignore_errors=True)
        assert here.train("train_dreambooth", f"{TWO_STEPS} --seed 0 --skip_final_inference {flag}") == 0
        learned.append(unet(here.out))
    for name, tensor in learned[0].items():
        torch.testing.assert_close(tensor, learned[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("entries", [[], [{"instance_prompt": "photo"}], [{"instance_promt": "photo", "instance_data_dir": "x"}]])
def test_a_list_of_subjects_with_a_fault_is_refused(place, tmp_path, capsys, entries):
    _, words = fork_words(place, tmp_path, entries)
    assert train(*words) == 2
    assert "--concepts_list" in capsys.readouterr().err


def test_a_list_of_subjects_that_is_missing_is_refused(place, tmp_path, capsys):
    _, words = fork_words(place, tmp_path, [])
    (tmp_path / "concepts.json").unlink()
    assert train(*words) == 2
    assert "--concepts_list" in capsys.readouterr().err
