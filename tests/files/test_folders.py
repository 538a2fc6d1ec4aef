"""Folders of one request: which may be one, which may lie in which, however they are written; and seeing that one can be written."""

import os
from pathlib import Path

import pytest

from dreambooth.core.errors import RunError, SettingError
from dreambooth.files import folders
from dreambooth.files.folders import Place, is_inside, is_same, refuse_mixing, refuse_unwritable, tidy

PHOTOS, MASKS, CLASS, MODEL, OUTPUT = "photos", "masks", "class images", "a model", "output"


def place(path: Path, holds, content=None) -> Place:
    return Place(f"--{holds.replace(' ', '_')}", path, holds, content, ("samples", "checkpoint-*", "samples/final"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with photos/masks, a link to the photos, and a file."""
    (tmp_path / "photos" / "masks").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("spelling", ["photos", "./photos/", "link", "photos/masks/..", "../{name}/photos", "{root}/link/../photos"])
def test_one_folder_is_one_folder_however_it_is_written(here, spelling):
    path = Path(spelling.format(name=here.name, root=here))
    assert is_same(path, here / "photos") and is_inside(path / "new" / "folder", Path("photos"))
    with pytest.raises(SettingError, match=r"--output: .* is the folder of --photos, too"):
        refuse_mixing([place(Path("photos"), PHOTOS), place(path, OUTPUT)])


@pytest.mark.parametrize("ignores_case", [True, False])
def test_folders_that_are_not_there_yet_are_one_where_the_disk_ignores_case(here, monkeypatch, ignores_case):
    monkeypatch.setattr(folders, "_ignores_case", lambda folder: ignores_case)
    assert is_same(Path("Dogs/Caf\u00e9"), Path("dogs/cafe\u0301")) == ignores_case
    assert is_inside(Path("dogs/run"), Path("DOGS")) == ignores_case
    assert is_same(Path("Dogs"), here / "Dogs")


def test_whether_a_disk_ignores_case_is_asked_of_the_disk(tmp_path):
    (tmp_path / "Dog").mkdir()
    assert folders._ignores_case(tmp_path / "Dog") == (tmp_path / "dOG").exists()


@pytest.mark.parametrize(
    ("inner", "outer", "below"),
    [
        (OUTPUT, PHOTOS, "run"),
        (CLASS, PHOTOS, "class"),
        (OUTPUT, MASKS, "run"),
        (OUTPUT, MODEL, "deep/run"),
        (CLASS, MODEL, "class"),
        (PHOTOS, CLASS, "photos"),
        (MASKS, CLASS, "masks"),
        (OUTPUT, CLASS, "run"),
        (CLASS, CLASS, "dogs"),
        (PHOTOS, OUTPUT, "samples/generated"),
        (PHOTOS, OUTPUT, "checkpoint-5/photos"),
        (CLASS, OUTPUT, "samples"),
        (MODEL, OUTPUT, "checkpoint-500"),
    ],
)
def test_what_would_mix_is_refused_whichever_is_named_first(here, inner, outer, below):
    places = [place(Path("outer") / below, inner), place(Path("outer"), outer)]
    for given in (places, places[::-1]):
        with pytest.raises(SettingError) as refused:
            refuse_mixing(given)
        assert refused.value.setting == places[0].setting and places[1].setting in refused.value.reason


@pytest.mark.parametrize(
    ("inner", "outer", "below"),
    [
        (MASKS, PHOTOS, "masks"),
        (PHOTOS, PHOTOS, "second"),
        (PHOTOS, MASKS, "photos"),
        (PHOTOS, OUTPUT, "photos"),
        (CLASS, OUTPUT, "class_images"),
        (MODEL, OUTPUT, "base"),
        (MODEL, MODEL, "vae"),
        (PHOTOS, MODEL, "photos"),
    ],
)
def test_what_does_no_harm_is_allowed(inner, outer, below):
    refuse_mixing([place(Path("outer") / below, inner), place(Path("outer"), outer)])
    refuse_mixing([place(Path("one"), inner), place(Path("other"), outer)])


def test_a_folder_whose_name_begins_like_anothers_is_another():
    refuse_mixing([place(Path("dog"), PHOTOS), place(Path("dog2"), OUTPUT), place(Path("dog-class"), CLASS)])


def test_places_of_one_content_share_a_folder_and_photos_never_do():
    refuse_mixing([place(Path("dogs"), CLASS, "a dog"), place(Path("./dogs"), CLASS, "a dog")])
    for one, other in ((place(Path("x"), CLASS, "a dog"), place(Path("x"), CLASS, "a cat")), (place(Path("x"), PHOTOS),) * 2):
        with pytest.raises(SettingError, match="a folder of its own"):
            refuse_mixing([one, other])


@pytest.mark.parametrize("path", ["file", "file/run", "x" * 300, "dead", "/proc/dreambooth/run"])
def test_a_folder_that_cannot_be_made_is_refused(here, path):
    (here / "dead").symlink_to("nowhere")
    before = sorted(here.iterdir())
    with pytest.raises(SettingError, match=r"--output_dir: .* cannot be written"):
        refuse_unwritable(Path(path), "--output_dir")
    assert sorted(here.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(here):
    (here / "photos").chmod(0o500)
    with pytest.raises(SettingError, match="cannot be written"):
        refuse_unwritable(here / "photos" / "run", "--output_dir")


def test_room_is_asked_for_before_anything_is_made(here):
    refuse_unwritable(Path("new/run"), "--output_dir", needed_bytes=1)
    with pytest.raises(RunError, match="GiB free"):
        refuse_unwritable(Path("new/run"), "--output_dir", needed_bytes=2**70)
    assert not Path("new").exists()


def test_folders_that_stay_empty_are_gone_again_and_others_stay(here):
    with tidy(Path("new/deep/run")):
        Path("new/deep/run").mkdir(parents=True)
        (here / "new" / "mine").touch()
    assert not Path("new/deep").exists() and Path("new/mine").exists()
    with pytest.raises(KeyError), tidy(Path("photos/run")):
        Path("photos/run").mkdir()
        raise KeyError
    assert not Path("photos/run").exists() and Path("photos").exists()
