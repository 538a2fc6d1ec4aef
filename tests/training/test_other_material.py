"""A run that goes on with other photos, captions, masks, class images or another base model says so by name, and refuses unless allowed."""

import json
import shutil
from pathlib import Path

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config

SHORT = {"max_train_steps": 1, "checkpointing_steps": 1, "method": "lora", "masked_loss": True}


def drain(**settings) -> None:
    for _ in train(config(**settings)):
        pass


@pytest.fixture(scope="module")
def trained(pipelines, tmp_path_factory):
    """A folder with photos, masks, a caption, class images, a base model and a run of theirs that has taken one update."""
    root = tmp_path_factory.mktemp("material") / "root"
    photos = tiny.photos(root / "dog")
    tiny.photos(photos / "masks")
    (photos / "1.txt").write_text("a sks dog in snow")
    shutil.copytree(pipelines("stable_diffusion"), root / "base")
    drain(**settings(root))
    shutil.copytree(root, root.with_name("untouched"))
    return root


@pytest.fixture
def root(trained):
    """The same, as it was, for every test."""
    yield trained
    shutil.rmtree(trained)
    shutil.copytree(trained.with_name("untouched"), trained)


def settings(root: Path, **more) -> dict:
    """Of the run below a folder."""
    folders = {"output_dir": root / "run", "class_data_dir": root / "class", "instance_data_dir": str(root / "dog")}
    return {"model": root / "base", "root": root, **folders, **SHORT, **more}


@pytest.fixture
def begun(root):
    """Settings with which the run goes on to its second update."""
    return settings(root, resume_from_checkpoint="latest", max_train_steps=2)


def swapped(folder: Path, one: str, other: str) -> None:
    (folder / one).write_bytes((folder / other).read_bytes())


def renamed(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / other)


def both(root: Path, change, one: str, other: str) -> None:
    """The same with a photo and with its mask."""
    for folder in (root / "dog", root / "dog" / "masks"):
        change(folder, one, other)


CHANGES = {
    "other bytes by the same name": (lambda root: swapped(root / "dog", "0.png", "3.png"), ("0.png is another",)),
    "a photo that is gone": (lambda root: (root / "dog" / "2.png").unlink(), ("2.png is gone",)),
    "a photo more": (lambda root: both(root, swapped, "9.png", "3.png"), ("9.png is new",)),
    "another name, by which crops are drawn": (lambda root: both(root, renamed, "0.png", "00.png"), ("0.png is gone", "00.png is new")),
    "another caption": (lambda root: (root / "dog" / "1.txt").write_text("a sks dog asleep"), ("1.png", "asleep", "in snow")),
    "a caption that was not there": (lambda root: (root / "dog" / "0.txt").write_text("a sks dog asleep"), ("0.png", "asleep")),
    "a caption that is gone": (lambda root: (root / "dog" / "1.txt").unlink(), ("1.png", "in snow")),
    "another mask": (lambda root: swapped(root / "dog" / "masks", "2.png", "1.png"), ("the mask of 2.png",)),
    "a class image of the user's": (lambda root: swapped(root / "class", "mine.png", "../dog/0.png"), ("mine.png is new",)),
    "a class image with other bytes": (lambda root: swapped(root / "class", "00001.png", "00000.png"), ("image 00001.png is another",)),
    "a class image that is gone": (lambda root: (root / "class" / "00001.png").unlink(), ("image 00001.png is gone",)),
    "a base model with other weights": (lambda root: tiny.stable_diffusion("v_prediction").save_pretrained(root / "base"), ("base model",)),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_is_named_and_refused(begun, root, what):
    change, words = CHANGES[what]
    change(root)
    if "base" in what:
        shutil.rmtree(root / "class")  # its pictures are of the model before, which is refused for itself
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    with pytest.raises(SettingError) as refused:
        drain(**begun)
    assert refused.value.setting == "--resume_from_checkpoint" and "--allow_changed_settings" in refused.value.fix
    assert all(word in refused.value.reason for word in words), refused.value.reason
    assert {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()} == before


def test_what_was_allowed_is_in_the_record_and_stays_there(begun, root):
    photos = root / "dog"
    old = json.loads((root / "run" / "run.json").read_text())["photos"]
    (photos / "2.png").unlink()
    (photos / "masks" / "2.png").unlink()
    swapped(photos, "0.png", "3.png")
    drain(**begun, allow_changed_settings=True)
    record = json.loads((root / "run" / "run.json").read_text())
    assert [photo["name"] for photo in record["photos"]] == ["0.png", "1.png", "3.png"]
    (earlier,) = record["earlier"]
    assert earlier["until"] == 1 and earlier["photos"] == old and earlier["changed"] == ["2.png is gone", "0.png is another"]
    drain(**{**begun, "max_train_steps": 3})  # nothing has changed since, and what was before is still known
    again = json.loads((root / "run" / "run.json").read_text())
    assert again["earlier"] == [earlier] and again["photos"] == record["photos"] and again["step"] == 3


def test_a_photo_that_came_later_says_since_when(begun, root):
    photos = root / "dog"
    tiny.photos(root / "more", count=6)
    shutil.copy(root / "more" / "5.png", photos / "5.png")
    shutil.copy(photos / "masks" / "0.png", photos / "masks" / "5.png")
    drain(**begun, allow_changed_settings=True)
    record = json.loads((root / "run" / "run.json").read_text())
    assert {photo["name"]: photo.get("since") for photo in record["photos"]} == {
        "0.png": None, "1.png": None, "2.png": None, "3.png": None, "5.png": 1,
    }  # fmt: skip


def test_an_untouched_run_goes_on_also_when_its_class_images_are_drawn_anew(begun, root):
    shutil.rmtree(root / "class")
    drain(**begun)
    assert "earlier" not in json.loads((root / "run" / "run.json").read_text())


def test_a_checkpoint_of_a_version_that_kept_no_digests_goes_on(begun, root):
    state = root / "run" / "checkpoint-1" / "training_state" / "state.json"
    output = json.loads(state.read_text())
    del output["material"]
    state.write_text(json.dumps(output))
    for sums in (root / "run" / "checkpoint-1").rglob("SHA256SUMS"):
        sums.unlink()
    swapped(root / "dog", "0.png", "3.png")
    drain(**begun)
    assert json.loads((root / "run" / "run.json").read_text())["state"] == "finished"


def test_the_content_of_a_list_of_concepts_is_held_against_the_checkpoint(pipelines, tmp_path):
    names = ("one", "two")
    folders = [tiny.photos(tmp_path / name) for name in names]
    concepts = [{"instance_prompt": f"a sks {noun}", "instance_data_dir": str(f)} for noun, f in zip(("dog", "cat"), folders, strict=True)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(concepts))
    given = {
        "model": pipelines("stable_diffusion"), "root": tmp_path, "output_dir": tmp_path / "run", "concepts_list": str(path),
        "instance_data_dir": None, "instance_prompt": None, "with_prior_preservation": False, "num_class_images": None,
        **SHORT, "masked_loss": False,
    }  # fmt: skip
    drain(**given)
    given |= {"resume_from_checkpoint": "latest", "max_train_steps": 2}
    changed = [{**concepts[0], "instance_prompt": "a sks puppy"}, concepts[1]]
    for content, words in ((changed, ("1/0.png", "puppy", "a sks dog")), (concepts[::-1], ("a sks cat",)), (concepts[:1], ("2/0.png",))):
        path.write_text(json.dumps(content))
        with pytest.raises(SettingError) as refused:
            drain(**given)
        assert all(word in refused.value.reason for word in words) or content == concepts[:1], refused.value.reason
    swapped(folders[1], "0.png", "1.png")
    path.write_text(json.dumps(concepts))
    with pytest.raises(SettingError, match=r"2/0\.png is another"):
        drain(**given)
