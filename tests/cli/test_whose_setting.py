"""What is wrong is said of the flag or the file that it came from."""

from pathlib import Path

import pytest

from dreambooth.cli import main


@pytest.fixture
def base(pipelines, tmp_path):
    """A base model's folder to which a recipe can be added."""
    folder = tmp_path / "base"
    folder.mkdir()
    for part in pipelines("stable_diffusion").iterdir():
        (folder / part.name).symlink_to(part)
    return folder


def trained(base: Path, photos: Path, *flags: str) -> int:
    words = ["--pretrained_model_name_or_path", str(base), "--instance_data_dir", str(photos), "--class_noun", "dog", "--identifier", "sks"]
    small = ["--max_train_steps", "1", "--num_class_images", "1", "--output_dir", str(photos.parent / "run"), "--skip_final_inference"]
    return main(["train", *words, *small, *flags])


def said(capsys, *words: str) -> str:
    output = capsys.readouterr().err
    assert all(word in output for word in words), output
    return output


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("full: {validation_scheduler: dpm+}", ("dreambooth.yaml (full: validation_scheduler): ", "Did you mean dpm++?")),
        ("full: {prior_scheduler: ddin}", ("dreambooth.yaml (full: prior_scheduler): ", "Did you mean ddim?")),
        ("full: {validation_inference_steps: 5000}", ("dreambooth.yaml (full: validation_inference_steps): ",)),
        ("full: {learning_rate: fast}", ("dreambooth.yaml (full: learning_rate): ", "fast")),
        ("full: {train_batch_size: }", ("dreambooth.yaml (full: train_batch_size): ", "has no value")),
        ("full: {rank: 4}", ("dreambooth.yaml (full: rank): ", "--method")),
        ("full:\n\tseed: 1", ("dreambooth.yaml: ", "line 2, column 1")),
        ("full: 7", ("dreambooth.yaml: ", "settings by method")),
    ],
)  # fmt: skip
def test_a_wrong_value_of_a_models_recipe_is_reported_as_the_recipes(base, photos, capsys, recipe, words):
    (base / "dreambooth.yaml").write_text(recipe)
    assert trained(base, photos) == 2
    output = said(capsys, *words)
    assert "--validation" not in output and "--prior" not in output and "--learning_rate" not in output


def test_a_value_by_hand_is_reported_by_its_flag_though_the_model_has_a_recipe(base, photos, capsys):
    (base / "dreambooth.yaml").write_text("full: {validation_scheduler: ddim, train_batch_size: 1}\nlora:\n")
    assert trained(base, photos, "--validation_scheduler", "dpm+") == 2
    said(capsys, "dreambooth: --validation_scheduler: ", "dpm++")
    assert trained(base, photos, "--validation_inference_steps", "5000") == 2
    said(capsys, "dreambooth: --validation_inference_steps: ", "1000")


def test_pictures_that_a_runs_own_settings_spoil_are_not_blamed_on_a_flag_of_generate(base, photos, tmp_path, capsys):
    run = tmp_path / "run"
    assert trained(base, photos) == 0
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("validation_scheduler: DPMSolverMultistepScheduler", "validation_scheduler: dpm+"))
    assert main(["generate", str(run), "a [V] dog"]) == 2
    assert "--scheduler" not in said(capsys, "config.yaml: validation_scheduler: ", "Did you mean dpm++?")
    assert main(["generate", str(run), "a [V] dog", "--scheduler", "ddin"]) == 2
    said(capsys, "dreambooth: --scheduler: ", "Did you mean ddim?")
