"""A command that is printed to be pasted names its folder as it is found from the working folder."""

import shlex
from pathlib import Path

import pytest

from dreambooth.cli import main
from dreambooth.core.wording import evaluate_command, from_here, resume_command
from dreambooth.setup.commands import draw_command

FOLDERS = ["runs/my dog", "deep/er/clock", "plain"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_below_the_working_one_is_named_from_it_and_another_in_full(name, tmp_path, monkeypatch):
    run = tmp_path / name
    run.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert Path(shlex.split(evaluate_command(run))[2]) == Path(name)
    assert Path(shlex.split(resume_command(run))[3]) == Path(name) / "config.yaml"
    assert Path(shlex.split(draw_command(run, {"result_step": 3}))[2]) == Path(name)
    monkeypatch.chdir(run)
    other = tmp_path / "elsewhere"
    assert from_here(other) == other and Path(shlex.split(evaluate_command(other))[2]) == other


@pytest.mark.parametrize(("words", "said"), [
    ("identifier nope", "no model nope"), ("plan nope", "no model nope"), ("plan ./nope", "no folder ./nope"),
    ("study make", "Which two runs"), ("study make a", "Which run or arm"), ("encoders get", "Which encoders"),
    ("export x", "which one?"), ("train", "Which photos?"),
])  # fmt: skip
def test_what_is_missing_is_asked_for_in_words_that_say_what_it_is(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err


def test_the_plans_are_listed_and_none_is_guessed_by_its_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "table9"]) == 2
    said = capsys.readouterr().err
    assert "table1, table3" in said and "Did you mean" not in said


def test_an_encoder_that_is_not_here_is_brought_by_a_command_of_ours(monkeypatch):
    from dreambooth.core.errors import SettingError
    from dreambooth.metrics.networks import NETWORKS

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("dino", "clip", "dinov2", "siglip"):
        with pytest.raises(SettingError) as refused:
            NETWORKS[name].load(NETWORKS[name].published)
        assert f"dreambooth encoders get {name}" in str(refused.value) and "hf download" not in str(refused.value)
