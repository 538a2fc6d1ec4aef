"""Files and folders take each other's place in one step."""

import sys
from pathlib import Path

import pytest

from dreambooth.files import atomic
from dreambooth.files.atomic import whole_folder


def write(folder: Path, text: str) -> None:
    with whole_folder(folder) as partial:
        (partial / "weights").write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names in one operation")
def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path, monkeypatch):
    write(tmp_path / "checkpoint-4", "old")
    renamed = []
    monkeypatch.setattr(Path, "rename", lambda path, target: renamed.append((path, target)))
    write(tmp_path / "checkpoint-4", "new")
    assert renamed == [] and (tmp_path / "checkpoint-4" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_where_names_cannot_be_exchanged_a_folder_is_replaced_by_two_renames(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchanged", lambda one, other: False)
    write(tmp_path / "checkpoint-4", "old")
    write(tmp_path / "checkpoint-4", "new")
    assert (tmp_path / "checkpoint-4" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
