"""`--help` in levels: what most people need, then a group, a method, a setting, or all of them."""

import re

import pytest

from dreambooth.bench.config import BenchConfig
from dreambooth.cli import main
from dreambooth.evaluation import EvaluateConfig
from dreambooth.methods import LoRA
from dreambooth.run.generate import GenerateConfig
from dreambooth.schema import extended, flags
from dreambooth.setup.config import TrainConfig
from tools.settings_table import SECTIONS


def shown(words, capsys):
    assert main(words) == 0
    return capsys.readouterr().out


def entries(text):
    """The flags that a help lists, each at the start of its entry."""
    return re.findall(r"^  --(\w+)", text, re.MULTILINE)


def test_the_first_level_of_train_is_about_a_dozen_settings_and_all_of_them_are_one_word_away(capsys):
    first, everything = entries(shown(["train", "--help"], capsys)), entries(shown(["train", "--help", "all"], capsys))
    settings = [name for name in first if name in flags(TrainConfig)]
    assert 10 <= len(settings) <= 14
    assert {"instance_data_dir", "class_noun", "pretrained_model_name_or_path", "output_dir", "method"} <= set(settings)
    assert set(flags(TrainConfig)) <= set(everything)


@pytest.mark.parametrize(
    ("command", "topic", "listed", "absent"),
    [
        ("train", "lora", {"rank", "lora_alpha", "use_dora", "method", "lora"}, {"oft_blocks", "learning_rate"}),
        ("train", "optimization", {"learning_rate", "adam_beta1"}, {"rank"}),
        ("train", "adam-beta1", {"adam_beta1"}, {"adam_beta2"}),
        ("train", "checkpoint", {"checkpointing_steps", "gradient_checkpointing"}, {"rank"}),
        ("plan", "textual_inversion", {"num_vectors"}, {"rank"}),
        ("generate", "sampling", {"scheduler", "eta"}, {"grid"}),
        ("bench", "ray", {"storage", "workers"}, {"seeds"}),
        ("evaluate", "encoders", {"dino_encoder"}, {"seed"}),
    ],
)
def test_a_topic_shows_its_settings_alone(command, topic, listed, absent, capsys):
    found = set(entries(shown([command, "--help", topic], capsys)))
    assert listed <= found
    assert not absent & found


@pytest.mark.parametrize("words", [["train", "--help", "lorra"], ["generate", "--help=samplng"], ["help", "train", "optimisation"]])
def test_a_topic_that_there_is_none_of_is_refused_with_the_nearest(words, capsys):
    assert main(words) == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "tree"), [("generate", GenerateConfig), ("evaluate", EvaluateConfig), ("bench", BenchConfig)])
def test_what_stands_without_its_flag_is_named_as_an_argument(command, tree, capsys):
    text = shown([command, "--help"], capsys)
    for name in tree.positional:
        assert re.search(rf"^  {name.upper()}\b", text, re.MULTILINE)
        assert name not in entries(text)


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "bench", "plan", "export"])
def test_a_help_ends_with_commands_whose_flags_exist(command, capsys):
    examples = shown([command, "--help"], capsys).partition("\nExamples\n")[2].strip().splitlines()
    known = {*flags(TrainConfig), *flags(GenerateConfig), *flags(EvaluateConfig), *flags(BenchConfig)}
    known |= {"config", "memory", "json", "as", "save_precision"}
    assert examples
    assert set(re.findall(r"--(\w+)", " ".join(examples))) <= known


def test_no_setting_says_left_out_where_it_means_automatic():
    for command, tree in SECTIONS.items():
        for name, flag in flags(tree).items():
            assert "; left out, " not in flag.help, f"{command} --{name}"
            assert flag.automatic or "automatic:" not in flag.summary, f"{command} --{name}"


def test_the_level_of_a_setting_stands_in_the_json_schema_and_in_a_users_own_methods_tree():
    assert TrainConfig.model_json_schema()["$defs"]["Photos"]["properties"]["class_noun"]["level"] == "basic"
    own = extended(TrainConfig, "method", LoRA, "package.module:Class")
    assert flags(own)["method"].level == "basic"
    assert flags(own)["adam_beta1"].level == "advanced"
