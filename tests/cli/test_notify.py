"""`--notify CMD` runs the user's own command once when a run has ended, however it has."""

import shlex
import sys

import pytest

from dreambooth.cli import main
from dreambooth.cli.notify import notifying
from dreambooth.core.errors import Interrupted, RunError, SettingError
from dreambooth.setup.record import RunRecord, recorded
from tests.setup.test_runs import made


@pytest.fixture
def command(tmp_path):
    """A command that writes down what its environment says."""
    script = tmp_path / "notice.py"
    script.write_text(
        "import os, pathlib\n"
        f"with open({str(tmp_path / 'notice')!r}, 'a') as out:\n"
        "    print(*(os.environ['DREAMBOOTH_' + name] for name in ('RUN', 'STATE', 'CAUSE')), sep='|', file=out)\n"
    )
    return shlex.join([sys.executable, str(script)])


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, "finished|"), (RunError("Out of memory."), "failed|Out of memory"), (Interrupted("x"), "interrupted|asked to stop")],
)
def test_a_command_runs_once_with_the_state_that_the_run_has_come_to(tmp_path, command, error, said):
    folder = tmp_path / "my run; rm -rf $HOME"
    folder.mkdir()
    try:
        with notifying(command, folder), recorded(RunRecord(folder, {})):
            if error:
                raise error
    except (RunError, Interrupted) as raised:
        assert raised is error
    assert (tmp_path / "notice").read_text() == f"{folder}|{said}\n"


def test_a_request_that_is_refused_notifies_nobody(tmp_path, command):
    with pytest.raises(SettingError), notifying(command, tmp_path):
        raise SettingError("--rank", "is wrong.")
    assert not (tmp_path / "notice").exists()


@pytest.mark.parametrize("wrong", ["", "no-such-program now", "'half a quote"])
def test_a_command_that_is_not_there_is_refused_before_anything_is_done(tmp_path, refused, wrong):
    refused("train", "--class_noun", "dog", "--output_dir", tmp_path / "run", "--notify", wrong, words=("--notify",))


def test_a_command_that_fails_is_reported_and_fails_nothing(tmp_path, capsys):
    with notifying(shlex.join([sys.executable, "-c", "raise SystemExit(3)"]), made(tmp_path / "run")):
        pass
    assert "exit code 3" in capsys.readouterr().out


def test_a_file_cannot_name_the_command(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("notify: touch here\n")
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    assert "notify" in capsys.readouterr().err
