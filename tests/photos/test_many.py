"""Many photos and many subjects: seconds instead of hours, and the same findings as of few."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.photos import set_checks
from dreambooth.photos.check import QUICK_IN_ALL, QUICK_PHOTOS, check_folder, shared_out
from dreambooth.photos.files import PhotoFolder, caption_of, captions_in, scan
from dreambooth.photos.likeness import hashes
from dreambooth.photos.manifest import names_of
from dreambooth.run import request
from dreambooth.run.provenance import contents
from dreambooth.setup.given import train_config
from dreambooth.training.subjects import read_photos, subjects
from tests import tiny


def folders(*counts: int) -> list[PhotoFolder]:
    return [PhotoFolder(Path(), (Path("a.png"),) * count, ()) for count in counts]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5], [60]), ([5000], [60]), ([60, 60], [60, 60]), ([5] * 24, [60] * 24), ([50] * 40, [3] * 40), ([5] * 240, [1, 0] * 120)],
)
def test_few_folders_are_checked_whole_and_of_many_a_few_photos_in_all(counts, expected):
    found = shared_out(folders(*counts))
    assert found == expected
    assert sum(min(count, at_most) for count, at_most in zip(counts, found, strict=True)) <= max(QUICK_IN_ALL, QUICK_PHOTOS)


@pytest.fixture
def many(tmp_path) -> Path:
    """150 subjects of three photos, each folder a copy of one of two."""
    for name, side in (("good", 96), ("small", 10)):
        tiny.photos(tmp_path / name, count=3, size=(side, side))
    entries = []
    for number in range(150):
        place = tmp_path / "subjects" / f"{number:03d}"
        shutil.copytree(tmp_path / ("small" if number == 0 else "good"), place)
        entries.append({"instance_prompt": f"a sks{number} thing", "instance_data_dir": str(place)})
    (tmp_path / "concepts.json").write_text(json.dumps(entries))
    return tmp_path / "concepts.json"


def asked(many: Path, **settings):
    given = {"concepts_list": many, "resolution": 32, "with_prior_preservation": False, "ignore_photo_errors": True, **settings}
    return train_config(**given)


def test_of_many_subjects_a_dozen_words_are_said_and_one_line_of_all(many):
    messages = [record.text for record in request.read(asked(many))]
    assert len(messages) <= request.FEW_FOLDERS + 1
    assert "450 photos of 150 subjects, 75 of which" in messages[-1]


def test_a_photo_that_cannot_be_read_is_found_also_where_no_photo_was_checked_in_depth(many):
    broken = many.parent / "subjects" / "001" / "2.png"
    broken.write_bytes((many.parent / "good" / "2.png").read_bytes()[:100])
    assert shared_out([scan(many.parent / "subjects" / f"{number:03d}") for number in range(150)])[1] == 0
    with pytest.raises(SettingError, match=r"001.2\.png"):
        list(request.read(asked(many, resolution=16, ignore_photo_errors=False)))
    reading = request.read(asked(many))
    while True:
        try:
            next(reading)
        except StopIteration as done:
            material = done.value
            break
    assert len(material.photos) == 449 and broken not in {photo.path for photo in material.photos}
    names = contents(asked(many), material, "base")["photos"]
    assert len(names) == 449 and "2/1.png" in names and "150/2.png" in names


def test_copies_among_thousands_are_found_as_among_few():
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((48, 48)) for _ in range(300)]
    pictures += [pictures[7].resize((40, 40)), pictures[9].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    looks = [set_checks.PhotoFeatures(Path(f"{n}.png"), str(n), hashes(picture), None) for n, picture in enumerate(pictures)]
    found, kept = set_checks._copies(looks)
    assert [(f.file, f.value, "mirror" in f.reason) for f in found] == [("300.png", "7.png", False), ("301.png", "9.png", True)]
    bits = np.stack([look.hashes[0] for look in kept])
    apart = (bits[:, None] != bits[None]).sum(2) + 64 * np.eye(len(kept), dtype=int)
    assert apart.min() > set_checks.NEAR_BITS


def test_captions_and_names_of_ten_thousand_photos_take_a_second(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "77.TXT").write_text("a red dog")
    (tmp_path / "a.png.txt").write_text("of another name")
    folder = PhotoFolder(tmp_path, tuple(tmp_path / f"{number}.png" for number in range(10_000)), ())
    clock = time.perf_counter()
    (subject,) = subjects(train_config(instance_data_dir=tiny.photos(tmp_path / "few"), instance_prompt="a dog").photos, None)
    photos = read_photos(type(subject)("a dog", None, folder), use_captions=True, identifier=None)
    assert [photo.path.name for photo in photos if photo.prompt == "a red dog"] == ["77.png"]
    assert len(set(names_of(folder).values())) == 10_000
    assert time.perf_counter() - clock < 5
    assert captions_in(tmp_path)["a.png"] == ["a.png.txt"] and caption_of(tmp_path / "77.png") == (tmp_path / "77.TXT", "a red dog")


def test_a_folder_of_which_no_photo_is_decoded_is_still_checked_by_its_files(tmp_path):
    tiny.photos(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"")
    report = check_folder(scan(tmp_path), resolution=16, concept="object", at_most=0)
    assert report.has_errors and not report.places and {finding.file for finding in report.findings} == {None, "broken.png"}
