"""Flags, files and keyword arguments say the same, and what they cannot say is told where it stands."""

from pathlib import Path

import pytest

from dreambooth.cli.parse import read_flags
from dreambooth.core.errors import SettingError
from dreambooth.run.generate import GenerateConfig
from dreambooth.setup.checks import unused_settings
from dreambooth.setup.config import TrainConfig, dump, with_absolute_paths
from dreambooth.setup.given import train_config
from dreambooth.setup.resuming import differences


def asked(*words: str) -> GenerateConfig:
    return GenerateConfig.parse(read_flags(words, GenerateConfig)[0])


def test_a_comma_in_a_prompt_is_a_comma():
    assert asked("run", "--prompt=a [V] dog, in the snow").prompt == ("a [V] dog, in the snow",)


def test_a_list_may_be_given_in_parts_and_by_commas_where_its_items_have_none():
    assert asked("run", "one", "--prompt", "two", "--prompt", "three").prompt == ("one", "two", "three")
    for words in (["--report_to", "tensorboard,wandb"], ["--report_to=tensorboard,wandb"], ["--report_to", "tensorboard", "wandb"]):
        assert TrainConfig.parse(read_flags(words, TrainConfig)[0]).output.report_to == ("tensorboard", "wandb")
    assert train_config(report_to="wandb").output.report_to == ("wandb",)


def test_a_method_alone_may_stand_in_a_file_and_another_beside_it_counts_more(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: lora\n")
    assert train_config(config=path, rank=8).method.rank == 8
    path.write_text("method: {kind: lora, rank: 8}\n")
    assert train_config(config=path).method.rank == 8
    assert train_config(config=path, method="full").method.kind == "full", "what only the file's method has goes with it"


def test_a_flat_name_in_a_file_is_refused_with_its_place(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("instance_data_dir: photos\n")
    with pytest.raises(SettingError, match=r"instance_data_dir: .*In YAML: photos: \{instance_data_dir: \.\.\.\}"):
        train_config(config=path)


@pytest.mark.parametrize("name", [":X", ".x:Y", "no_such_module:X"])
def test_a_method_that_cannot_be_imported_is_reported_as_one(name):
    with pytest.raises(SettingError, match=r"--method: .*cannot be imported"):
        train_config(method=name)


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ({"stop_early": True}, "--stop_early has nothing to do: nothing is evaluated"),
        ({"dino_encoder": "x"}, "--dino_encoder has nothing to do"),
        ({"prior_loss_weight": 0.5}, "--prior_loss_weight has nothing to do: there are no class images"),
        ({"hub_model_id": "x"}, "--hub_model_id has nothing to do"),
        ({"prodigy_decouple": False}, "--prodigy_decouple has nothing to do"),
        ({"logit_mean": 1.0}, "--logit_mean has nothing to do"),
    ],
)
def test_nothing_is_ignored_in_silence(given, printed):
    assert any(printed in sentence for sentence in unused_settings(train_config(**given)))


def test_folders_are_written_down_from_the_root_and_the_rest_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    found = with_absolute_paths(train_config(instance_data_dir="photos", pretrained_model_name_or_path="owner/name", output_dir="~/x"))
    assert not differences(dump(train_config(instance_data_dir="photos")), train_config(instance_data_dir=tmp_path / "photos"))
    assert found.photos.instance_data_dir == str(tmp_path / "photos") and found.model.pretrained_model_name_or_path == "owner/name"
    assert found.output_dir == Path.home() / "x"
