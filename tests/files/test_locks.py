"""One command at a time in a folder, whoever asks and however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.files.leftovers import prefix
from dreambooth.files.locks import HOLDER, LOCK, claimed, forget_dead_holder, held

HOLD = """
import sys, time
from pathlib import Path
from dreambooth.files.locks import claimed
with claimed(Path(sys.argv[1]), "train"):
    time.sleep(60)
"""


def holder(folder):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)])
    deadline = time.monotonic() + 60
    while not (folder / HOLDER).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def test_a_second_command_in_a_folder_is_refused_with_the_name_of_the_first(tmp_path):
    process = holder(tmp_path / "run")
    try:
        with pytest.raises(SettingError) as refused, claimed(tmp_path / "run", "evaluate"):
            pass
    finally:
        process.kill()
        process.wait()
    assert refused.value.setting == "--output_dir" and str(process.pid) in str(refused.value) and "dreambooth train" in str(refused.value)


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path):
    process = holder(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with claimed(tmp_path / "run", "train"):
        pass


def test_the_name_of_a_killed_holder_is_forgotten_and_that_of_a_living_one_stays(tmp_path):
    """A command that was killed at its very end leaves a finished run, in which nothing is claimed again."""
    process = holder(tmp_path / "run")
    forget_dead_holder(tmp_path / "run")
    assert (tmp_path / "run" / HOLDER).exists()
    process.kill()
    process.wait()
    forget_dead_holder(tmp_path / "run")
    assert not (tmp_path / "run" / HOLDER).exists()


def test_what_a_killed_command_has_left_half_written_is_swept_wherever_commands_write(tmp_path):
    dead, others = prefix().replace(str(os.getpid()), "999999999"), [".partial-of-another-program", f"{prefix()}mine.png"]
    for place in (tmp_path, tmp_path / "samples" / "final", tmp_path / "samples" / "evaluation" / "untuned"):
        place.mkdir(parents=True, exist_ok=True)
        for name in (f"{dead}0a1b2c3d.png", *others):
            (place / name).touch()
    with claimed(tmp_path, "train"):
        left = sorted(path.name for path in tmp_path.rglob(".partial*"))
    assert left == sorted(3 * others)


def test_two_starts_in_one_process_exclude_each_other_too(tmp_path):
    with claimed(tmp_path, "train"), pytest.raises(SettingError), claimed(tmp_path, "train"):
        pass
    with claimed(tmp_path, "train"):
        pass


def test_a_folder_that_nothing_was_written_into_is_gone_again(tmp_path):
    for folder in (tmp_path / "new", tmp_path / "projects" / "dog" / "run"):
        with pytest.raises(KeyError), claimed(folder, "train"):
            raise KeyError
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "new", "train"):
        (tmp_path / "new" / "result").touch()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [LOCK, "result"]


def test_a_waiting_lock_is_passed_on(tmp_path):
    with held(tmp_path / "lock"):
        pass
    with held(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
