"""Files travel. What somebody else's model, run or plan may not decide for its user is refused by name, before anything is done."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.plan import parse_plan
from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.run.train import train
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig, dump, resolve
from dreambooth.setup.given import train_config
from dreambooth.setup.open import open_model, read_config
from dreambooth.setup.trust import DEEDS, may_recommend
from tests import tiny
from tests.cli.test_bad_input import command, refused
from tests.training.runs import config

__all__ = ["command"]

RECOMMENDED = [
    "adam_beta1", "adam_beta2", "adam_epsilon", "adam_weight_decay", "aspect_ratio_buckets", "cache_latents", "center_crop",
    "class_labels_conditioning", "crops_per_photo", "decompose_factor", "ema_decay", "flow_shift", "gradient_accumulation_steps",
    "gradient_checkpointing", "identifier_tokens", "image_interpolation_mode", "keep_embedding_norm", "learning_rate", "logit_mean",
    "logit_std", "lora_alpha", "lora_dropout", "lora_layers", "lr_num_cycles", "lr_power", "lr_scheduler", "lr_warmup_steps",
    "masked_loss", "max_grad_norm", "max_timestep", "max_train_steps", "min_timestep", "mixed_precision", "mode_scale",
    "noise_augmentation", "num_class_images", "num_train_epochs", "num_vectors",
    "offset_noise", "oft_blocks", "optimizer", "pre_compute_text_embeddings",
    "prior_eta", "prior_generation_precision", "prior_guidance_scale", "prior_inference_steps", "prior_loss_weight", "prior_scheduler",
    "prodigy_beta3", "prodigy_decouple", "prodigy_safeguard_warmup", "prodigy_use_bias_correction", "prompt_templates", "random_flip",
    "rank", "resolution", "sample_batch_size", "scale_lr", "snr_gamma", "text_encoder_lr", "text_encoder_use_attention_mask",
    "tokenizer_max_length", "train_batch_size", "train_guidance_scale", "train_text_encoder", "use_8bit_adam", "use_dora", "use_ema",
    "validation_guidance_scale", "validation_inference_steps", "validation_scheduler", "weighting_scheme", "with_prior_preservation",
]  # fmt: skip


@pytest.fixture
def model(pipelines, tmp_path):
    """A function that makes a base model with a recipe: nested settings, or a text."""

    def make(recipe) -> Path:
        folder = tmp_path / "model"
        if not folder.exists():
            shutil.copytree(pipelines("stable_diffusion"), folder)
        (folder / "dreambooth.yaml").write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe))
        return folder

    return make


def resolved(folder: Path, **settings) -> TrainConfig:
    wanted = train_config(pretrained_model_name_or_path=folder, **settings)
    return resolve(wanted, family_of(wanted.model))


def test_the_settings_that_a_base_model_may_recommend_are_these():
    """A new setting of text, or in another branch, is none until somebody puts it here."""
    assert sorted(name for name, flag in flags(TrainConfig).items() if may_recommend(flag)) == sorted(RECOMMENDED)


@pytest.mark.parametrize("name", sorted(flags(TrainConfig).keys() - set(RECOMMENDED)))
def test_nothing_else_is_taken_from_a_base_model(name, model):
    folder = model({"lora": {"rank": 8, name: True}})
    with pytest.raises(SettingError, match=rf"dreambooth\.yaml: .*sets {name}, which is not for a model to decide"):
        resolved(folder, method="lora")


def test_what_a_base_model_may_recommend_is_taken_and_what_is_given_by_hand_counts_more(model):
    found = resolved(model({"lora": {"rank": 8, "learning_rate": 3e-3, "max_train_steps": 7}}), method="lora", rank=2)
    assert (found.method.rank, found.optimization.learning_rate, found.loop.max_train_steps) == (2, 3e-3, 7)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"full": {"learning_rate": "fast"}}, "learning_rate"), ({"full": {"max_train_steps": -3}}, "max_train_steps"),
        ({"full": {"max_train_steps": [5]}}, "max_train_steps"), ({"full": {"optimizer": {"a": 1}}}, "optimizer"),
        ({"full": {"rank": 4}}, "rank"), ({"full": {"no_such": 4}}, "no_such"), ({"full": [1]}, "by method"), ([1, 2], "by method"),
        ("full: {a: [", "line 1"), ("[" * 5000, "too deeply"), ("words", "by method"), ({"full": {3: 4}}, "3"),
    ],
)  # fmt: skip
def test_a_recipe_with_values_of_another_kind_is_named_with_its_file(recipe, words, model):
    with pytest.raises(SettingError, match=rf"dreambooth\.yaml.*{words}"):
        resolved(model(recipe))


def test_a_hostile_base_model_deletes_nothing(model, command, capsys, tmp_path):
    assert main(command("--checkpointing_steps", "1")) == 0
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    folder = model({"full": {"overwrite_output_dir": True, "max_train_steps": 1}})
    refused(capsys, command("--pretrained_model_name_or_path", str(folder)), "overwrite_output_dir")
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


CODE = """
from pathlib import Path
from tests.run.test_train import LastLayer

Path(__file__).with_suffix(".ran").touch()

class Mine(LastLayer):
    pass
"""


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A module that Python would find, as a stranger's package installed for something else, or a file in the present folder."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brought_along.py").write_text(CODE)
    yield "brought_along:Mine"
    sys.modules.pop("brought_along", None)


def has_run(tmp_path: Path) -> bool:
    return (tmp_path / "brought_along.ran").exists()


def test_code_that_a_file_names_is_imported_only_with_the_users_leave(brought, capsys, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(f"method: {{kind: '{brought}', loudness: 2.0}}\n")
    refused(capsys, ["train", "--config", str(path)], brought, "--trust_code")
    refused(capsys, ["train", "--config", str(path), "--no-trust_code"], brought, "--trust_code")
    refused(capsys, ["train", "--config", str(path), "--trust_code=false"], brought, "--trust_code")
    with pytest.raises(SettingError, match="--trust_code"):
        train_config(config=path)
    path.write_text(f"trust_code: true\nmethod: {{kind: '{brought}', loudness: 2.0}}\n")
    refused(capsys, ["train", "--config", str(path)], "--trust_code")
    assert not has_run(tmp_path)
    assert train_config(config=path, trust_code=True).method.loudness == 2.0 and has_run(tmp_path)


def test_code_that_the_user_names_is_theirs(brought, tmp_path):
    (tmp_path / "settings.yaml").write_text("method: {kind: lora, rank: 3}\n")
    assert train_config(config=tmp_path / "settings.yaml", method=brought).method.kind == brought and has_run(tmp_path)


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
def test_a_runs_code_is_never_imported_to_draw_or_to_score(verb, brought, capsys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"method: {{kind: '{brought}'}}\n")
    (run / "run.json").write_text('{"state": "finished"}')
    words = ["a dog"] if verb == "generate" else []
    refused(capsys, [verb, str(run), *words], brought, "import brought_along, dreambooth")
    refused(capsys, [verb, str(run), *words, "--trust_code"], "--trust_code: there is no such flag")
    assert not has_run(tmp_path)


def test_a_whole_pipeline_is_drawn_with_whoever_has_trained_it(brought, pipelines, tmp_path):
    run = tmp_path / "run"
    list(
        train(
            config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=1, method=brought, output_dir=run, checkpointing_steps=1)
        )
    )
    sys.modules.pop("brought_along")
    (tmp_path / "brought_along.ran").unlink()
    assert main(["generate", str(run), "a [V] dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0
    with pytest.raises(SettingError, match="brought_along"):
        open_model(str(run / "checkpoint-1"))
    assert not has_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("allow_pickle", True), ("overwrite_output_dir", True), ("push_to_hub", "yes"), ("hub_token", "hf_secret")]
)
def test_a_deed_in_a_file_of_settings_needs_the_users_own_word(name, value, command, capsys, tmp_path):
    path, branch = tmp_path / "settings.yaml", flags(TrainConfig)[name].path[0]
    path.write_text(yaml.safe_dump({branch: {name: value}}))
    output = refused(capsys, command("--config", str(path)), str(path), f"it sets {name}", code=2)
    assert "hf_secret" not in output and not (tmp_path / "run").exists()
    path.write_text(yaml.safe_dump({branch: {name: False if name != "hub_token" else None}}))
    assert train_config(config=path).model.allow_pickle is False


def test_what_a_run_writes_down_can_be_run_again_without_its_deeds(tmp_path):
    settings = {"allow_pickle": True, "overwrite_output_dir": True, "push_to_hub": True, "hub_token": "hf_secret", "trust_code": True}
    text = yaml.safe_dump(dump(train_config(**settings)))
    assert not any(name in text for name in DEEDS)
    (tmp_path / "config.yaml").write_text(text)
    train_config(config=tmp_path / "config.yaml")


def test_pickles_that_somebody_has_allowed_their_own_run_are_not_opened_here(pipelines, capsys, tmp_path):
    run, base = tmp_path / "run", tmp_path / "pickled"
    tiny.stable_diffusion().save_pretrained(base, safe_serialization=False)
    list(train(config(base, root=tmp_path, max_train_steps=1, method="lora", output_dir=run, allow_pickle=True)))
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["model"]["allow_pickle"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert read_config(run).model.allow_pickle is False and read_config(run, allow_pickle=True).model.allow_pickle is True
    few = ["--num_images", "1", "--num_inference_steps", "1"]
    capsys.readouterr()  # diffusers' words on pickles that were allowed
    refused(capsys, ["generate", str(run), "a dog", *few], "--allow_pickle")
    assert main(["generate", str(run), "a dog", *few, "--allow_pickle"]) == 0


def test_nothing_is_written_through_a_link_in_a_run(pipelines, capsys, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=1, output_dir=run)))
    elsewhere.mkdir()
    (run / "samples").symlink_to(elsewhere)
    refused(capsys, ["generate", str(run), "a dog", "--num_images", "1", "--num_inference_steps", "1"], "link", "--output_dir")
    refused(
        capsys, ["evaluate", str(run), "--class_noun", "dog", "--dino_encoder", "none", "--clip_encoder", "none"], "link", "--output_dir"
    )
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_pickle": True}, {"cache_dir": "/tmp/x"}, {"logging_dir": "/tmp/x"}, {"report_to": ["wandb"]}, {"trust_code": True},
        {"push_to_hub": True}, {"output_dir": "/tmp/x"}, {"overwrite_output_dir": True}, {"hub_token": "hf_secret"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["plan", "arm", "sweep"])
def test_a_plan_of_a_bench_asks_for_no_deed_and_writes_nowhere_else(place, settings):
    """Nor where the command says otherwise: what an arm says counts more."""
    arm = {"settings": settings} if place == "arm" else {"sweep": [settings]} if place == "sweep" else {}
    tree = {"name": "p", "title": "A plan", "arms": {"a": arm}, "settings": settings if place == "plan" else {}}
    for given in ({}, dict.fromkeys(settings, "false"), {name: "mine" for name in settings if name not in DEEDS}):
        with pytest.raises(SettingError, match=next(iter(settings))) as output:
            parse_plan(tree, "p.yaml", given)
        assert "hf_secret" not in str(output.value)


def test_code_that_a_plan_names_is_imported_only_with_the_users_leave(brought, tmp_path):
    tree = {"name": "p", "title": "A plan", "arms": {"a": {"settings": {"method": brought}}}}
    with pytest.raises(SettingError, match="--trust_code"):
        parse_plan(tree, "p.yaml")
    assert not has_run(tmp_path)
    parse_plan(tree, "p.yaml", {"trust_code": True})
    assert has_run(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "..", "/etc", "a/../../secret", "linked"])
@pytest.mark.parametrize("listed", ["subjects.csv", "prompts_and_classes.txt"])
def test_a_subject_of_a_dataset_lies_in_it(listed, name, tmp_path):
    root, secret = tmp_path / "dataset", tiny.photos(tmp_path / "secret")
    tiny.photos(root / "dog7")
    (root / "linked").symlink_to(secret)
    text = {
        "subjects.csv": "subject_name,class,live\ndog7,dog,1\n{},dog,1\n",
        "prompts_and_classes.txt": "Classes\nsubject_name,class\ndog7,dog\n{},dog\nPrompts\n",
    }
    (root / listed).write_text(text[listed].format(name))
    with pytest.raises(SettingError, match="--dataset_dir"):
        open_dataset(str(root), tmp_path)


def test_an_index_of_parts_runs_no_module_of_its_own(pipelines, tmp_path, monkeypatch):
    """`model_index.json` names a library and a class for each part."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brought_along.py").write_text(CODE)
    folder = shutil.copytree(pipelines("stable_diffusion"), tmp_path / "model")
    index = (folder / "model_index.json").read_text()
    for library in ("brought_along", "os", "diffusers.utils", "./brought_along"):
        (folder / "model_index.json").write_text(index.replace('"transformers",', f'"{library}",', 1))
        with pytest.raises(SettingError, match=r"model_index\.json"):
            ModelSource(pretrained_model_name_or_path=str(folder)).check()
    assert not has_run(tmp_path)
