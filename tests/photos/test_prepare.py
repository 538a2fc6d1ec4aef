"""Clean copies: square around the subject, the same on every run, and the originals only read."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.photos import prepare as preparing
from dreambooth.photos.load import load, scan
from dreambooth.photos.prepare import PhotosPrepare, prepare
from tests.photos.conftest import scene


def state(folder) -> dict[str, tuple[str, int]]:
    """By path, the hash and the time of change of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


@pytest.fixture
def wide(tmp_path):
    """Long photos with the subject at one end."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for number, x in enumerate((0.2, 0.5, 0.8)):
        scene(number, (900, 500), centre=(x, 0.5)).save(folder / f"{number}.jpg", quality=95)
    return folder


def test_the_copies_are_square_of_one_size_and_hold_the_subject(wide, tmp_path):
    report = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), resolution=256))
    for one, x in zip(report.photos, (0.2, 0.5, 0.8), strict=True):
        copy = load(one.target)
        assert copy.size == (256, 256) and one.target.suffix == ".png"
        assert one.box[0] <= (x * 900 - 110) and (x * 900 + 110) <= one.box[2], "the ball of 220 pixels is inside"
    assert len(scan(tmp_path / "out").photos) == 3 and report.preview.is_file(), "the preview is not taken for a photo"


def test_the_originals_are_only_read_and_a_second_run_changes_nothing(wide, tmp_path):
    settings = PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), caption="a photo of [V] ball")
    before = state(wide)
    assert all(p.written for p in prepare(settings).photos)
    first = state(tmp_path / "out")
    assert not any(p.written for p in prepare(settings).photos)
    assert state(tmp_path / "out") == first and state(wide) == before


def test_copies_of_photos_that_are_gone_are_removed_and_other_files_are_not(wide, tmp_path):
    settings = PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"))
    prepare(settings)
    (tmp_path / "out" / "mine.png").write_bytes(b"mine")
    (wide / "1.jpg").unlink()
    prepare(settings)
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"0.png", "2.png", "mine.png"}


def test_a_forged_record_cannot_remove_a_file_elsewhere(wide, tmp_path):
    settings = PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"))
    prepare(settings)
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    record = tmp_path / "out" / "preview" / "record.json"
    record.write_text(json.dumps({"x": {"files": ["../treasure", str(treasure), "masks/../../treasure"]}}))
    for copy in (tmp_path / "out").glob("*.png"):
        copy.unlink()
    prepare(settings)
    assert treasure.read_text() == "gold"


@pytest.mark.parametrize("where", ["wide", "wide/inside", "wide/../wide"])
def test_writing_into_the_originals_is_refused(wide, where):
    before = state(wide)
    with pytest.raises(SettingError, match="originals"):
        prepare(PhotosPrepare(folder=str(wide), out=str(wide.parent / where)))
    assert state(wide) == before


def test_files_of_others_are_not_overwritten_nor_written_through_links(wide, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.png").write_bytes(b"precious")
    with pytest.raises(SettingError, match="was not made here"):
        prepare(PhotosPrepare(folder=str(wide), out=str(out)))
    assert (out / "0.png").read_bytes() == b"precious"
    (out / "0.png").unlink()
    (out / "0.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(SettingError, match="was not made here"):
        prepare(PhotosPrepare(folder=str(wide), out=str(out)))
    assert not (tmp_path / "elsewhere.png").exists()
    (out / "preview").rmdir() if (out / "preview").exists() else None
    (out / "preview").symlink_to(tmp_path)
    with pytest.raises(SettingError, match="is a link"):
        prepare(PhotosPrepare(folder=str(wide), out=str(out)))


def test_captions_are_copied_else_made_from_the_template(wide, tmp_path):
    (wide / "0.txt").write_text("the ball on the left\n")
    prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), caption="a photo of [V] ball"))
    assert (tmp_path / "out" / "0.txt").read_text() == "the ball on the left\n"
    assert (tmp_path / "out" / "1.txt").read_text() == "a photo of [V] ball\n"


def test_fill_goes_nearer_but_never_below_the_resolution(wide, tmp_path):
    near = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "a"), resolution=256, fill=0.9)).photos
    sides = [p.box[2] - p.box[0] for p in near]
    assert all(256 <= side < 400 for side in sides)


def cut_out(folder) -> np.ndarray:
    rgba = np.dstack([np.full((300, 400, 3), (200, 40, 40), np.uint8), np.zeros((300, 400), np.uint8)])
    rgba[100:200, 250:350, 3] = 255
    folder.mkdir()
    Image.fromarray(rgba).save(folder / "cut.png")
    return rgba


@pytest.mark.parametrize(("background", "colour"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48)), ("average", (200, 40, 40))])
def test_transparent_parts_take_the_chosen_colour(tmp_path, background, colour):
    cut_out(tmp_path / "cut")
    prepare(PhotosPrepare(folder=str(tmp_path / "cut"), out=str(tmp_path / "out"), background=background, resolution=128))
    assert tuple(np.asarray(load(tmp_path / "out" / "cut.png"))[2, 2]) == colour


def test_masks_from_alpha_follow_the_crop(tmp_path):
    cut_out(tmp_path / "cut")
    report = prepare(PhotosPrepare(folder=str(tmp_path / "cut"), out=str(tmp_path / "out"), masks="alpha", fill=0.5, resolution=64))
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "cut.png"))
    left, top, right, bottom = report.photos[0].box
    assert left <= 250 and right >= 350 and top <= 100 and bottom >= 200
    assert mask.shape == (64, 64) and mask[32, 32] == 255 and mask[2, 2] == 0
    assert (mask > 127).mean() == pytest.approx(0.25, abs=0.04)


def test_masks_from_a_folder_place_the_crop_and_a_missing_one_is_reported(wide, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in (0, 1):
        mask = Image.new("L", (450, 250))
        mask.paste(255, (380, 100, 440, 160))
        mask.save(masks / f"{number}.png")
    report = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), masks=str(masks)))
    assert [p.box[2] for p in report.photos] == [900, 900], "the mask is at the right end, wherever the ball is"
    assert [path.name for path, why in report.left_out if "no mask" in why] == ["2.jpg"]


def test_photos_of_one_name_and_other_endings_do_not_overwrite_each_other(tmp_path):
    (tmp_path / "in").mkdir()
    scene(0).save(tmp_path / "in" / "a.jpg")
    scene(1).save(tmp_path / "in" / "a.png")
    scene(2).save(tmp_path / "in" / "A.webp")
    prepare(PhotosPrepare(folder=str(tmp_path / "in"), out=str(tmp_path / "out"), resolution=64))
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"a_jpg.png", "a_png.png", "A_webp.png"}


def test_a_wrong_colour_and_a_folder_of_broken_photos_are_refused(wide, tmp_path):
    with pytest.raises(SettingError, match="no colour"):
        prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), background="reddish"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SettingError, match="none of its photos"):
        prepare(PhotosPrepare(folder=str(tmp_path / "broken"), out=str(tmp_path / "out")))


def test_what_somebody_has_changed_stays_as_it_is(wide, tmp_path):
    out = tmp_path / "out"
    prepare(PhotosPrepare(folder=str(wide), out=str(out), resolution=64, caption="a photo of [V] dog"))
    (out / "0.txt").write_text("a photo of [V] dog, lying down")
    again = prepare(PhotosPrepare(folder=str(wide), out=str(out), resolution=64, caption="another caption"))
    assert again.edited == ("0.txt",) and (out / "0.txt").read_text() == "a photo of [V] dog, lying down"
    assert (out / "1.txt").read_text() == "another caption\n"
    assert prepare(PhotosPrepare(folder=str(wide), out=str(out), resolution=64)).edited == ("0.txt",)
    assert (out / "0.txt").is_file() and not (out / "1.txt").exists()


def test_what_an_interruption_leaves_is_known_as_ours(wide, tmp_path, monkeypatch):
    out, load = tmp_path / "out", preparing.load_with_facts

    def stopped(path, **options):
        if path.name == "2.jpg":
            raise KeyboardInterrupt
        return load(path, **options)

    monkeypatch.setattr(preparing, "load_with_facts", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(PhotosPrepare(folder=str(wide), out=str(out), resolution=64))
    monkeypatch.undo()
    assert len(prepare(PhotosPrepare(folder=str(wide), out=str(out), resolution=48)).photos) == 3


def test_an_opaque_photo_is_cut_around_its_subject_also_with_masks_of_transparency(wide, tmp_path):
    plain = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "plain"), resolution=64))
    masked = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "masked"), resolution=64, masks="alpha"))
    assert [(p.box, p.found) for p in masked.photos] == [(p.box, p.found) for p in plain.photos]


def test_a_folder_that_cannot_be_made_is_reported(wide, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"OUT.*cannot be written"):
        prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "file" / "out")))
