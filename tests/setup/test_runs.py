"""Runs are found below a folder by their own files, whatever else lies there."""

import json
import os
import sys

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.setup.runs import find_run, find_runs, folder_size
from dreambooth.setup.states import State


def made(folder, **values):
    """A folder that holds a run's record and nothing that takes time to make."""
    folder.mkdir(parents=True)
    record = {"state": "finished", "dreambooth": "0.1.0", "started": "2026-01-01T00:00:00+00:00", "step": 10, **values}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text("photos: {class_noun: dog}\n")
    return folder


def names(root, **settings):
    return [run.name for run in find_runs(root, **{"depth": 4, **settings}).runs]


def test_runs_are_found_below_the_root_the_newest_first_and_none_inside_another(tmp_path):
    made(tmp_path / "old")
    made(tmp_path / "group" / "new", started="2026-02-01T00:00:00+00:00")
    made(tmp_path / "old" / "inside")
    made(tmp_path / ".hidden" / "run")
    assert names(tmp_path) == ["group/new", "old"]
    assert names(tmp_path, depth=1) == ["old"]


def test_a_root_that_is_a_run_itself_is_listed(tmp_path):
    assert names(made(tmp_path / "alone")) == ["alone"]


def test_links_are_not_followed_and_a_circle_of_them_ends(tmp_path):
    made(tmp_path / "elsewhere" / "run")
    root = tmp_path / "root"
    made(root / "own")
    (root / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "circle").symlink_to(root, target_is_directory=True)
    assert names(root) == ["own"]
    (root / "own" / "big").symlink_to(tmp_path / "elsewhere" / "run" / "run.json")
    assert folder_size(root / "own") == sum((root / "own" / name).stat().st_size for name in ("run.json", "config.yaml"))


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="every folder may be read here")
def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_listed(tmp_path):
    made(tmp_path / "own")
    (closed := tmp_path / "closed").mkdir(mode=0)
    try:
        found = find_runs(tmp_path, depth=4)
    finally:
        closed.chmod(0o700)
    assert [run.name for run in found.runs] == ["own"] and found.unreadable == [closed]


def test_a_folder_whose_listing_fails_is_named_and_the_others_are_listed(tmp_path, monkeypatch):
    made(tmp_path / "own")
    (closed := tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path):
        if os.fspath(path) == os.fspath(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_runs(tmp_path, depth=4)
    assert [run.name for run in found.runs] == ["own"] and found.unreadable == [closed]


@pytest.mark.parametrize("text", ["[1, 2]", '{"state": "finished"}', '{"dreambooth": 3}', "{", ""])
def test_the_run_json_of_another_program_is_no_run(tmp_path, text):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(text)
    made(tmp_path / "other" / "below")
    assert names(tmp_path) == ["other/below"]
    with pytest.raises(SettingError, match="is no run"):
        find_run("other", tmp_path)


@pytest.mark.parametrize("text", ["{", '{"dreambooth": "0.1.0", "step": "many"}', '{"dreambooth": "0.1.0", "photos": [{}]}'])
def test_a_damaged_record_is_listed_as_damaged(tmp_path, text):
    (made(tmp_path / "run") / "run.json").write_text(text)
    run = find_runs(tmp_path, depth=1).runs[0]
    assert run.status is None and "damaged" in run.remark and run.plain()["state"] == "unknown"


def test_a_run_of_a_newer_version_is_listed_with_what_is_understood_of_it(tmp_path):
    made(tmp_path / "known", dreambooth="99.1")
    made(tmp_path / "strange", dreambooth="0.10.0", state="resting", step=7)
    made(tmp_path / "reshaped", dreambooth="99.1", step={"of": 3})
    made(tmp_path / "older", dreambooth="0.0.9")
    found = {run.name: run for run in find_runs(tmp_path, depth=1).runs}
    assert found["known"].status.state is State.FINISHED and found["strange"].status is None and found["strange"].plain()["steps"] == 7
    assert found["reshaped"].status is None and all("newer" in found[name].remark for name in ("known", "strange", "reshaped"))
    assert found["older"].remark == ""


@pytest.mark.skipif(sys.platform == "win32", reason="names of Windows' disks hold no newline")
def test_a_name_with_a_newline_takes_one_line_and_can_be_typed_as_it_is_shown(tmp_path):
    folder = made(tmp_path / "two\nlines\t!")
    assert names(tmp_path) == ["two\\nlines\\t!"]
    assert find_run("two\\nlines\\t!", tmp_path).folder == folder == find_run("two\nlines\t!", tmp_path).folder


def test_a_name_that_no_run_has_is_answered_with_the_nearest(tmp_path):
    made(tmp_path / "my-dog")
    with pytest.raises(SettingError, match="my-dog"):
        find_run("my-dgo", tmp_path)


def test_a_run_is_not_named_by_a_link(tmp_path):
    made(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    with pytest.raises(SettingError, match="is a link"):
        find_run("link", tmp_path)


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(SettingError, match="no folder"):
            find_runs(root, depth=1)


def test_the_newest_preview_stands_for_a_run_without_a_sheet(tmp_path):
    run = made(tmp_path / "run")
    assert find_run("run", tmp_path).picture() is None
    for step in ("step-000010", "step-000200"):
        (run / "samples" / step).mkdir(parents=True)
        (run / "samples" / step / "00-seed0.png").write_bytes(b"")
    assert find_run("run", tmp_path).picture() == run / "samples" / "step-000200" / "00-seed0.png"
    (run / "contact_sheet.png").write_bytes(b"")
    assert find_run("run", tmp_path).picture() == run / "contact_sheet.png"
