"""What is said when a request cannot be understood: the flag, what is wrong, and what would do."""

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from dreambooth.bench.plan import plans
from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import resume_command
from dreambooth.evaluation import EvaluateConfig
from dreambooth.photos.check import PhotosCheck, check
from dreambooth.run.generate import GenerateConfig
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.record import CONFIG, RECORD


def refusal(tree, **leaf):
    (name, value), *_ = leaf.items()
    values = {"run": "x"} if "run" in tree.model_fields else {}
    place = values
    for branch in flags(tree)[name].path[:-1]:
        place = place.setdefault(branch, {})
    place[flags(tree)[name].path[-1]] = value
    with pytest.raises(SettingError) as refused:
        tree.parse(values)
    return refused.value


@pytest.mark.parametrize(
    ("tree", "leaf", "words"),
    [
        (TrainConfig, {"adam_epsilon": "tiny"}, "'tiny' is not a number. Example: 1e-8."),
        (TrainConfig, {"adam_beta1": "high"}, "'high' is not a number. Example: 0.9."),
        (TrainConfig, {"train_batch_size": "4.5"}, "'4.5' is not a whole number. Example: 4."),
        (TrainConfig, {"max_train_steps": "many"}, "'many' is not a whole number. Example: 100."),
        (TrainConfig, {"use_ema": "perhaps"}, "'perhaps' is neither on nor off."),
        (TrainConfig, {"adam_beta2": 2}, "2 is too large; it has to be less than 1."),
        (TrainConfig, {"crops_per_photo": 0}, "0 is too small; 1 or more."),
        (TrainConfig, {"lr_scheduler": "cosin"}, "Did you mean cosine?"),
        (TrainConfig, {"identifier": ["a"]}, "is not a text."),
        (GenerateConfig, {"guidance_scale": "strong"}, "'strong' is not a number. Example: 7.5."),
        (EvaluateConfig, {"num_prompts": "all"}, "'all' is not a whole number. Example: 100."),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_one_that_would_do(tree, leaf, words):
    found = refusal(tree, **leaf)
    assert found.setting == f"--{next(iter(leaf))}"
    assert words in str(found)


def test_the_example_of_every_number_is_a_value_that_it_takes():
    for name, flag in flags(TrainConfig).items():
        if flag.type_name.split()[0] in ("integer", "number") and not flag.kinds and not flag.choices:
            example = str(refusal(TrainConfig, **{name: "x"})).rpartition("Example: ")[2].rstrip(".")
            tree = {}
            place = tree
            for branch in flag.path[:-1]:
                place = place.setdefault(branch, {})
            place[flag.path[-1]] = [example] if flag.is_list else example
            TrainConfig.parse(tree)


@pytest.mark.parametrize(
    ("method", "flag", "words"),
    [
        ("full", "--rank", "it needs --method lora, loha or lokr (now: full)."),
        ("lora", "--oft_blocks", "it needs --method oft (now: lora)."),
        ("oft", "--num_vectors", "it needs --method textual_inversion or custom_diffusion (now: oft)."),
    ],
)
def test_a_setting_of_another_method_says_which_and_which_is_chosen(method, flag, words, capsys):
    assert main(["train", "--method", method, flag, "4"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["evaluate"], "Which run? dreambooth evaluate RUN\n"),
        (["generate"], 'Which run? dreambooth generate RUN "a [V] dog on the beach"\n'),
        (["runs", "show"], "Which run? dreambooth runs show RUN\n"),
        (["export"], "Which run? dreambooth export RUN --as FORMAT\n"),
        (["photos", "check"], "Which folder? dreambooth photos check DIR\n"),
        (["photos", "prepare", "photos"], "Where to? dreambooth photos prepare DIR OUT\n"),
        (["identifier"], "Which model? dreambooth identifier MODEL\n"),
        (["bench"], "Which plan? dreambooth bench PLAN (one of claims, "),
    ],
)
def test_a_missing_word_is_asked_for_with_the_commands_own_form(words, question, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"dreambooth: {question}")


def test_a_word_behind_a_switch_is_no_mystery(capsys):
    assert main(["train", "--random_flip", "yes"]) == 2
    assert "--random_flip: it is a switch" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate"], ["evaluate"], ["export", "--as", "comfy"], ["runs", "show"], ["runs", "tell"]])
def test_a_run_that_is_not_there_is_answered_with_those_that_are(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clock", "my-boots"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text(json.dumps({"dreambooth": "0.1", "state": "finished"}))
        (tmp_path / name / CONFIG).write_text("{}")
    more = {"generate": ["a dog"], "runs": ["save"] if command[-1] == "tell" else []}.get(command[0], [])
    assert main([*command, "nope", *more]) == 2
    said = capsys.readouterr().err
    assert "there is no run nope here" in said and "clock" in said and "my-boots" in said
    assert main([*command, "my-boot", *more]) == 2
    assert "Did you mean my-boots?" in capsys.readouterr().err


def test_a_plan_that_is_not_there_is_answered_with_all_of_them(capsys):
    assert main(["bench", "table9"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in plans())


def test_the_line_that_goes_on_can_be_pasted():
    words = shlex.split(resume_command(Path("my dog")))
    assert words == ["dreambooth", "train", "--config", str(Path("my dog", "config.yaml")), "--resume_from_checkpoint", "latest"]


@pytest.fixture
def shop(tmp_path):
    """Pictures as a shop has them: something colourful before a cream-white wall."""
    for number in range(4):
        picture = Image.effect_noise((600, 600), 90).convert("RGB").point(lambda level: level // 2)
        page = Image.new("RGB", (900, 900), (255, 250, 236))
        page.paste(picture, (100 + 60 * number, 150))
        page.save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("profile", "expected"), [("auto", "plain background"), ("product", "plain background"), ("snapshots", "one background")]
)
def test_a_shops_white_wall_is_no_overexposure_and_masks_are_advised(shop, profile, expected):
    found = {finding.check: finding for finding in check(PhotosCheck(folder=str(shop), profile=profile)).findings}
    assert "burnt" not in found
    assert expected in found
    assert ("--masked_loss" in found[expected].fix) == (expected == "plain background")


def test_a_generate_without_a_prompt_shows_the_whole_command(capsys, tmp_path):
    (tmp_path / "my dog").mkdir()
    assert main(["generate", str(tmp_path / "my dog")]) == 2
    shown = capsys.readouterr().err.replace("\n", " ").rpartition("Give one: ")[2].strip()
    assert shlex.split(shown) == ["dreambooth", "generate", str(tmp_path / "my dog"), "a [V] dog on the beach"]
