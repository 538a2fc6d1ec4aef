"""Whose files decide what: a base model and a run that somebody sent bring no folders, uploads, pickles or code with them."""

import shutil

import pytest
import yaml

from dreambooth.api import train_config
from dreambooth.cli import main
from dreambooth.config import TrainConfig, resolve
from dreambooth.families import family_of
from dreambooth.schema import flags
from dreambooth.trust import BRANCHES, SINGLE
from tests import tiny

DANGEROUS = {
    "overwrite_output_dir": "true", "output_dir": "elsewhere", "push_to_hub": "true", "hub_model_id": "a/model", "allow_pickle": "true",
    "hub_token": "hf_x", "instance_data_dir": "/etc", "class_data_dir": "/etc", "concepts_list": "list.json", "mask_dir": "/etc",
    "resume_from_checkpoint": "latest", "report_to": "wandb", "logging_dir": "/tmp", "pretrained_vae_name_or_path": "stranger/vae",
    "tokenizer_name": "stranger/tokenizer", "cache_dir": "/tmp", "device": "cuda:7", "dino_encoder": "stranger/dino", "method": "os:path",
    "allow_changed_settings": "true", "verify": "false", "checkpoints_total_limit": "1", "identifier": "sks", "class_noun": "person",
}  # fmt: skip


@pytest.fixture
def base(pipelines, tmp_path):
    return shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base")


@pytest.mark.parametrize("name", DANGEROUS)
def test_a_base_models_recipe_sets_nothing_but_learning(name, base, tmp_path, capsys):
    (base / "dreambooth.yaml").write_text(yaml.safe_dump({"full": {name: DANGEROUS[name]}}))
    photos = tiny.photos(tmp_path / "photos")
    words = ["--pretrained_model_name_or_path", str(base), "--instance_data_dir", str(photos), "--instance_prompt", "a sks dog"]
    assert main(["train", *words, "--output_dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "dreambooth.yaml" in said and name in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_every_setting_is_either_for_a_recipe_or_named_here_as_the_users_own():
    """A new setting is seen in review: it is learning (a branch or a name of `trust`), or it stands in this list."""
    own = {name for name, flag in flags(TrainConfig).items() if name not in SINGLE and flag.path[0] not in BRANCHES} | {"method"}
    assert own >= DANGEROUS.keys()
    assert not {name for name in own if flags(TrainConfig)[name].path[0] in ("objective", "optimization", "cropping")}


def test_a_recipe_of_learning_counts(base):
    (base / "dreambooth.yaml").write_text(yaml.safe_dump({"full": {"learning_rate": 3e-4, "max_train_steps": 77, "identifier_tokens": 2}}))
    config = train_config(pretrained_model_name_or_path=str(base), instance_prompt="a sks dog")
    found = resolve(config, family_of(config.model))
    assert (found.optimization.learning_rate, found.loop.max_train_steps, found.photos.identifier_tokens) == (3e-4, 77, 2)


@pytest.fixture
def sent(base, tmp_path):
    """A finished run that somebody sent, to be changed."""
    photos = tiny.photos(tmp_path / "photos")
    words = ["--pretrained_model_name_or_path", str(base), "--instance_data_dir", str(photos), "--instance_prompt", "a sks dog"]
    few = ["--max_train_steps", "1", "--resolution", "16", "--skip_final_inference", "--method", "lora"]
    assert main(["train", *words, *few, "--output_dir", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def changed(run, **branches):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    for branch, values in branches.items():
        tree[branch] = {**tree[branch], **values}
    (run / "config.yaml").write_text(yaml.safe_dump(tree))


DRAW = ["a dog", "--num_images", "1", "--num_inference_steps", "1"]


def test_the_code_that_a_sent_run_names_is_not_imported(sent, tmp_path, monkeypatch, capsys):
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    changed(sent, method={"kind": "stranger:Method"})
    for words in (
        ["generate", str(sent), *DRAW],
        ["evaluate", str(sent), "--class_noun", "dog"],
        ["train", "--config", str(sent / "config.yaml")],
    ):
        assert main(words) == 2
        assert "--trust_code" in capsys.readouterr().err
    assert not (tmp_path / "was run").exists()


def test_pickles_that_a_sent_run_asks_for_are_not_loaded(sent, capsys):
    changed(sent, model={"allow_pickle": True})
    for words in (
        ["generate", str(sent), *DRAW],
        ["train", "--config", str(sent / "config.yaml"), "--output_dir", str(sent.parent / "new")],
    ):
        assert main(words) == 2
        assert "--allow_pickle" in capsys.readouterr().err
    assert main(["generate", str(sent), *DRAW, "--allow_pickle"]) == 0
