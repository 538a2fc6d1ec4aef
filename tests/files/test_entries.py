"""Entries that replace others together: an interruption at any file operation leaves all old or, after the next look, all new."""

import subprocess
import sys

import pytest

from dreambooth.files.entries import INCOMING, finish_entries, whole_entries

NAMES = ("model_index.json", "unet/weights", "vae/weights")
KILLED = """
import os, sys
from pathlib import Path
from tests.files.test_entries import fill
from dreambooth.files.entries import whole_entries
folder, wanted, seen = Path(sys.argv[1]), int(sys.argv[2]), 0
def hook(event, arguments):
    global seen
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open", "shutil.rmtree") and str(folder) in str(arguments[0]):
        seen += 1
        if seen == wanted:
            os._exit(9)
sys.addaudithook(hook)
with whole_entries(folder) as partial:
    fill(partial, "new")
"""


def fill(folder, text):
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def texts(folder):
    return {(folder / name).read_text() for name in NAMES}


def test_other_entries_stay_and_nothing_is_left_over(tmp_path):
    fill(tmp_path, "old")
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "unet" / "stale").touch()
    with whole_entries(tmp_path) as partial:
        fill(partial, "new")
    assert texts(tmp_path) == {"new"} and not (tmp_path / "unet" / "stale").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "model_index.json", "unet", "vae"]


def test_an_error_in_the_block_leaves_the_old_ones(tmp_path):
    fill(tmp_path, "old")
    with pytest.raises(KeyError), whole_entries(tmp_path) as partial:
        fill(partial, "new")
        raise KeyError
    assert texts(tmp_path) == {"old"} and not finish_entries(tmp_path)


def test_a_process_that_dies_at_any_operation_leaves_all_old_or_all_new(tmp_path):
    found, wanted = [], 0
    while len(found) < 60:
        wanted += 1
        folder = tmp_path / str(wanted)
        fill(folder, "old")
        process = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(wanted)])
        finish_entries(folder)
        assert len(texts(folder)) == 1 and not (folder / INCOMING).exists()
        found.append(texts(folder).pop())
        if process.returncode == 0:
            break
    assert found == sorted(found, reverse=True) and {"old", "new"} == set(found), "old until one moment, new from then on"
    assert process.returncode == 0 and found.count("new") > 3
