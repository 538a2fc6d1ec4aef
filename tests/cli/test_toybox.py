"""`dreambooth toybox`: its verbs' help, and what they refuse."""

import pytest

from dreambooth.cli import main


@pytest.mark.parametrize("verb", ["subjects", "render", "pretrain", "verify"])
def test_every_verb_has_help_that_names_it_and_writes_nothing(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["toybox", verb, "--help"]) == 0
    assert f"dreambooth toybox {'pretrain' if verb == 'render' else verb}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        (("subjects", "--oops"), "--oops"),
        (("verify", "--parts", "encodres"), "invalid choice: 'encodres'"),
        (("pretrain", "vae", "--minutes", "0"), "--minutes"),
        (("pretrain", "clip", "--work_dir", "nowhere"), "Make them first: dreambooth toybox render"),
        (("paint",), "subjects, render, pretrain and verify"),
    ],
)
def test_what_cannot_be_done_is_named(argv, output, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["toybox", *argv]) == 2
    assert output in capsys.readouterr().err
