"""Deleting and writing stay where they belong: no link is followed, no other process's or program's file is touched."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dreambooth.core.errors import RunError, SettingError
from dreambooth.files import leftovers
from dreambooth.files.atomic import whole_file, whole_folder, writable_folder, write_text
from dreambooth.files.leftovers import DAY, is_left_over, prefix
from dreambooth.files.locks import held
from dreambooth.files.places import is_inside, is_plain_name, private_folder, remove
from tests.bench import works


@pytest.fixture
def precious(tmp_path):
    """A folder that nobody may touch."""
    folder = tmp_path / "precious"
    write_text(folder / "deep" / "file", "kept")
    yield folder
    assert (folder / "deep" / "file").read_text() == "kept"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "inner").mkdir(parents=True)
    return tmp_path / "root"


def test_a_link_is_deleted_and_not_what_it_leads_to(root, precious):
    (root / "folder").symlink_to(precious)
    (root / "file").symlink_to(precious / "deep" / "file")
    (root / "inner" / "nested").symlink_to(precious)
    for name in ("folder", "file", "inner", "not there"):
        remove(root / name, root=root)
    assert not list(root.iterdir())


@pytest.mark.parametrize("way", ["above", "root itself", "through a link", "dots", "another place"])
def test_what_lies_elsewhere_is_not_deleted(way, root, precious):
    (root / "out").symlink_to(precious)
    places = {
        "above": root / "..", "root itself": root, "through a link": root / "out" / "deep", "another place": precious / "deep",
        "dots": root / "inner" / ".." / ".." / "precious",
    }  # fmt: skip
    with pytest.raises(RunError, match="not deleted"):
        remove(places[way], root=root)


def test_a_root_that_is_a_link_itself_is_where_it_leads(root, tmp_path):
    (tmp_path / "name").symlink_to(root)
    remove(tmp_path / "name" / "inner", root=tmp_path / "name")
    assert (tmp_path / "name").is_symlink() and not list(root.iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", None, 3, ["a"]])
def test_names_that_lead_elsewhere_are_no_names(name):
    assert not is_plain_name(name)


def test_a_link_that_goes_round_in_circles_is_deleted_like_any_other(root):
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    remove(root / "a", root=root)
    assert not (root / "a").is_symlink() and (root / "b").is_symlink()


def test_a_path_lies_where_its_links_lead(root, precious):
    (root / "out").symlink_to(precious)
    (root / "in").symlink_to(root / "inner")
    assert is_inside(root / "in" / "x", root) and not is_inside(root / "out" / "deep", root) and not is_inside(root / "..", root)


def test_nothing_is_written_through_a_link(root, precious):
    (root / "metrics.jsonl").symlink_to(precious / "deep" / "file")
    with pytest.raises(OSError, match="symbolic links"), held(root / "metrics.jsonl"):
        pass
    assert (precious / "deep" / "file").read_bytes()
    write_text(root / "metrics.jsonl", "whole")  # takes the link's place
    assert not (root / "metrics.jsonl").is_symlink() and (root / "metrics.jsonl").read_text() == "whole"


def test_a_folder_whose_name_everybody_knows_is_ours_alone(tmp_path):
    place = private_folder(tmp_path / "dreambooth-bench-0")
    assert place.stat().st_mode & 0o777 == 0o700 and private_folder(place) == place
    place.chmod(0o755)  # as a version before this one made it
    assert private_folder(place).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["a link", "a link to nowhere", "a file", "open", "another user's"])
def test_a_folder_that_somebody_else_has_put_there_is_not_used(what, tmp_path, precious):
    place = tmp_path / "dreambooth-bench-0"
    if what == "another user's" and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    if what.startswith("a link"):
        place.symlink_to(precious if what == "a link" else tmp_path / "nowhere")
    elif what == "a file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
        place.chmod(0o770 if what == "open" else 0o700)
        os.chown(place, os.getuid() if what == "open" else 12345, -1)
    with pytest.raises(SettingError, match="TMPDIR"):
        private_folder(place)


def test_a_storages_folder_here_is_no_link_of_somebody_elses(tmp_path, monkeypatch, precious):
    from dreambooth.bench.executors import storage

    monkeypatch.setattr(storage.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("work", "shared"):
        (tmp_path / f"dreambooth-bench-{name}-{os.getuid()}").symlink_to(precious)
    with pytest.raises(SettingError, match="is a link"), storage._scratch():
        pass
    with pytest.raises(SettingError, match="is a link"), storage.near(replace(works.job("memory://x"), shared="memory://y")):
        pass


def test_a_link_among_the_folders_of_dead_workers_is_not_followed(tmp_path, monkeypatch, precious):
    from dreambooth.bench.executors import storage

    monkeypatch.setattr(storage.tempfile, "gettempdir", lambda: str(tmp_path))
    home, (machine, process) = private_folder(tmp_path / f"dreambooth-bench-work-{os.getuid()}"), (prefix().split("-")[1], dead())
    (home / "old").symlink_to(precious)
    (home / f".partial-{machine}-{process}-link").symlink_to(precious)
    (home / f".partial-{machine}-{process}-folder").mkdir()
    with storage._scratch() as place:
        assert place.is_dir() and sorted(path.name for path in home.iterdir()) == [place.parent.name, "old"]
    assert [path.name for path in home.iterdir()] == ["old"]


def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def begun(folder: Path, name: str, *, age: float = 0.0) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_living_process_writes_is_not_swept_and_what_a_dead_one_left_is(tmp_path):
    machine, process = prefix().split("-")[1], dead()
    ours = begun(tmp_path, f"{prefix()}abc")
    init = begun(tmp_path, f".partial-{machine}-1-abc")
    gone = begun(tmp_path, f".partial-{machine}-{process}-abc")
    elsewhere = begun(tmp_path, f".partial-01234567-{process}-abc")
    old = begun(tmp_path, ".partial-01234567-77-old", age=DAY + 60)
    reused = begun(tmp_path, f".partial-{machine}-1-old", age=DAY + 60)
    link = tmp_path / f".partial-{machine}-{process}-link"
    link.symlink_to(ours)
    assert [is_left_over(path) for path in (ours, init, gone, elsewhere, old, reused, link)] == [
        False,
        False,
        True,
        False,
        True,
        True,
        True,
    ]
    writable_folder(tmp_path, "--output_dir")
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, init.name, elsewhere.name}


def test_another_start_of_the_machine_has_other_processes(tmp_path, monkeypatch):
    mine = begun(tmp_path, f"{prefix()}abc")
    monkeypatch.setattr(leftovers, "_machine", lambda: "76543210")
    assert not is_left_over(mine), "who knows what it is: it waits for a day"
    os.utime(mine, (time.time() - DAY - 60,) * 2)
    assert is_left_over(mine)


def test_a_second_writer_does_not_take_away_what_the_first_is_writing(tmp_path):
    with whole_file(tmp_path / "a.txt") as partial, whole_folder(tmp_path / "b") as folder:
        partial.write_text("a")
        (folder / "c.txt").write_text("c")
        writable_folder(tmp_path, "--output_dir")
    assert (tmp_path / "a.txt").read_text() == "a" and (tmp_path / "b" / "c.txt").read_text() == "c"
    assert not list(tmp_path.glob(".partial*"))
