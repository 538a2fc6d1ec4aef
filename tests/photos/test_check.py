"""The check finds what spoils a training, says why and what to do, and leaves good photos alone."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.photos import damage
from dreambooth.core.errors import SettingError
from dreambooth.photos.check import PhotosCheck, check, quick
from dreambooth.photos.finding import CheckReport
from dreambooth.toybox.world import held_out_subjects, render_photos
from tests.photos.conftest import scene


def checks(report: CheckReport, file: str | None) -> set[str]:
    return {finding.check for finding in report.of(file)}


def test_good_photos_are_left_alone(album):
    report = quick(album)
    assert not report.has_errors and report.exit_code == 0
    assert all(not report.of(path.name) for path in report.photos), report.table()
    assert report.verdict().startswith(f"{album}: 5 pictures, ")


def test_no_real_photo_gets_an_error_and_the_known_faults_are_found(dreambench):
    reports = {folder.name: quick(folder) for folder in (dreambench / name for name in ("dog", "dog5", "dog6", "red_cartoon", "vase"))}
    assert not any(report.has_errors for report in reports.values())
    assert checks(reports["dog5"], "03.jpg") == {"near duplicate"}, "the publisher mirrored one photo"
    assert "one background" in checks(reports["dog6"], None) and "plain background" in checks(reports["red_cartoon"], None)
    assert not reports["dog"].findings and not reports["vase"].findings


@pytest.mark.parametrize(
    ("found", "spoil"),
    [
        ("blur", lambda i: damage.blur(i, 3)),
        ("shake", lambda i: damage.shake(i, 15, 0)),
        ("dark", lambda i: damage.expose(i, -3.5)),
        ("burnt", lambda i: damage.expose(i, 2.5)),
        ("contrast", lambda i: damage.fog(i, 0.75)),
        ("greyscale", damage.grey),
        ("compression", lambda i: damage.jpeg(i, 8)),
        ("border", damage.frame),
        ("size", lambda i: i.resize((300, 300), Image.Resampling.LANCZOS)),
        ("shape", lambda i: i.crop((0, 200, 640, 420))),
        ("empty", lambda i: Image.new("RGB", i.size, (40, 40, 40))),
    ],
)
def test_each_damage_is_found_by_its_check(dreambench, album, found, spoil):
    spoil(Image.open(dreambench / "robot_toy" / "02.jpg").convert("RGB")).save(album / "bad.png")
    report = quick(album)
    assert found in checks(report, "bad.png"), report.table()
    assert report.has_errors == (found == "empty")
    assert all(f.reason and f.fix for f in report.of("bad.png"))


def test_lines_in_one_direction_are_no_jpeg_squares(album):
    """Planks and walls have lines on every eighth pixel now and then; JPEG's squares have two directions."""
    planks = np.random.default_rng(0).integers(90, 160, (160, 160, 3)).astype(np.uint8)
    planks[:, ::8] //= 2
    for name, pixels in {"planks": planks, "boards": planks.transpose(1, 0, 2)}.items():
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture.save(album / f"{name}.png")
        picture.save(album / f"{name}.jpg", quality=8)
    report = quick(album, 128)
    assert not any("compression" in checks(report, f"{name}.png") for name in ("planks", "boards"))
    assert all("compression" in checks(report, f"{name}.jpg") for name in ("planks", "boards"))


def test_rendered_photos_have_no_jpeg_squares_until_they_are_saved_hard(album):
    truth = next(one for one in held_out_subjects() if one.name == "dog_spots")
    for number, pixels in enumerate(render_photos(truth)):
        Image.fromarray(pixels).save(album / f"r{number}.png")
        for quality in (95, 10):
            Image.fromarray(pixels).save(album / f"r{number}-{quality}.jpg", quality=quality)
    report = quick(album, 128, at_most=40)
    found = {file for file in (one.file for one in report.findings if one.check == "compression") if file}
    assert found == {f"r{number}-10.jpg" for number in range(5)}


def test_what_a_file_holds_is_reported_as_information(album):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(7).save(album / "turned.jpg", exif=exif, quality=92)
    scene(8).convert("CMYK").save(album / "print.jpg", quality=92)
    scene(9).save(album / "web.webp", quality=92)
    report = quick(album)
    assert (
        "orientation" in checks(report, "turned.jpg") and "mode" in checks(report, "print.jpg") and "format" in checks(report, "web.webp")
    )
    assert all(f.severity == "info" for name in ("turned.jpg", "print.jpg", "web.webp") for f in report.of(name) if f.check != "burnt")


def test_cut_outs_and_animations_are_warned_about(album):
    cut = scene(7).convert("RGBA")
    cut.putalpha(Image.fromarray(((np.indices((640, 640)) - 320) ** 2).sum(0) < 150**2).convert("L"))
    cut.save(album / "cut.png")
    scene(8).save(album / "moving.gif", save_all=True, append_images=[scene(9)])
    report = quick(album)
    assert "alpha" in checks(report, "cut.png") and "animation" in checks(report, "moving.gif")
    assert abs(report.places["cut.png"].box[0] - (320 - 150) / 640) < 0.03, "the alpha channel says where the subject is"


def test_unreadable_photos_are_errors_and_stray_files_are_not(album):
    data = (album / "0.jpg").read_bytes()
    (album / "cut short.jpg").write_bytes(data[: len(data) // 3])
    (album / "empty.jpg").write_bytes(b"")
    (album / ".DS_Store").write_bytes(b"x")
    report = check(PhotosCheck(folder=str(album)))
    assert report.exit_code == 1
    severity = {f.file: f.severity for f in report.findings if f.check in ("unreadable", "stray")}
    assert severity == {"cut short.jpg": "error", "empty.jpg": "error", ".DS_Store": "info"}
    assert report.findings[0].severity == "error", "the gravest come first"
    assert "cut short.jpg" in report.verdict() and "empty.jpg" in report.table()


def test_a_folder_in_which_nothing_can_be_read_gives_findings_like_any_other(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    report = check(PhotosCheck(folder=str(tmp_path), sheet=str(tmp_path / "sheet" / "sheet.png")))
    assert [(f.file, f.check) for f in report.findings] == [("broken.jpg", "unreadable"), (None, "no photo")]
    assert report.exit_code == 1 and (tmp_path / "sheet" / "sheet.png").is_file()


def test_exact_and_near_and_mirrored_copies_are_reported_once_against_the_first(album, dreambench):
    photo = Image.open(dreambench / "robot_toy" / "00.jpg")
    photo.save(album / "a.png")
    shutil.copy(album / "a.png", album / "b.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(album / "c.png")
    photo.resize((600, 600)).save(album / "d.jpg", quality=60)
    found = {f.file: (f.check, f.value) for f in quick(album).findings if "duplicate" in f.check}
    assert found == {"b.png": ("duplicate", "a.png"), "c.png": ("near duplicate", "a.png"), "d.jpg": ("near duplicate", "a.png")}


def test_a_mark_at_one_place_of_all_photos_is_found_and_shown(album, dreambench):
    for number, path in enumerate(sorted((dreambench / "can").iterdir())[:5]):
        damage.stamp(Image.open(path), "@photo_studio", (255, 255, 255)).save(album / f"{number}.jpg", quality=92)
    report = quick(album)
    assert [f.value for f in report.of(None) if f.check == "watermark"] == ["bottom right"]
    assert report.mark and report.mark[0] > 0.4 and report.mark[1] > 0.7


@pytest.mark.parametrize(
    ("count", "concept", "output"), [(1, "object", True), (3, "object", False), (3, "style", True), (5, "style", False)]
)
def test_the_number_of_photos_is_judged_by_what_they_share(tmp_path, count, concept, output):
    for number in range(count):
        scene(number).save(tmp_path / f"{number}.jpg", quality=92)
    assert ("count" in checks(quick(tmp_path, concept=concept), None)) == output


def test_cropping_is_advised_for_a_photo_off_its_centre(tmp_path):
    scene(3, (1200, 640), centre=(0.16, 0.5)).save(tmp_path / "a.jpg", quality=92)
    assert "off centre" in checks(quick(tmp_path), "a.jpg")


def test_findings_as_json_have_exactly_the_promised_keys(album):
    (album / "notes.md").write_text("x")
    found = json.loads(quick(album).to_json())
    assert [set(f) for f in found] == [{"file", "check", "severity", "value", "reason", "fix"}] * len(found) and found
    assert all(f["severity"] in ("info", "warning", "error") for f in found)


def test_the_contact_sheet_shows_every_photo_also_the_unreadable_ones(album, tmp_path):
    (album / "broken 😀\n.jpg").write_bytes(b"\xff\xd8\xff")
    report = check(PhotosCheck(folder=str(album), sheet=str(tmp_path / "new" / "sheet.png")))
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 500
    assert report.has_errors


def test_a_large_folder_is_checked_in_part_and_says_so(tmp_path):
    scene(0, (200, 200)).save(tmp_path / "0.jpg")
    for number in range(1, 90):
        shutil.copy(tmp_path / "0.jpg", tmp_path / f"{number}.jpg")
    report = quick(tmp_path, resolution=128)
    assert len(report.places) == 60 and {f.value for f in report.findings if f.check == "quick"} == {60}


def test_five_photos_take_a_moment(album):
    quick(album)
    started = time.process_time()
    quick(album)
    assert time.process_time() - started < 5 * 0.3


def test_importing_the_check_loads_neither_torch_nor_the_extras():
    modules = "dreambooth.photos.check, dreambooth.photos.prepare, dreambooth.prompts.tokens"
    code = f"import sys, {modules}; dreambooth.prompts.tokens.meanings('sks'); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{name}'" in loaded for name in ("torch", "transformers", "cv2", "imagehash", "pillow_heif", "scipy"))


@pytest.mark.parametrize(("place", "output"), [("0.png", "among the photos"), (".", "is a folder")])
def test_a_sheet_does_not_take_the_place_of_a_photo(album, place, output):
    before = sorted(path.read_bytes() for path in album.iterdir() if path.is_file())
    with pytest.raises(SettingError, match=f"--sheet: .*{output}"):
        check(PhotosCheck(folder=str(album), sheet=str(album / place)))
    assert sorted(path.read_bytes() for path in album.iterdir() if path.is_file()) == before


@pytest.mark.parametrize("number", [0, 5, 18])
def test_the_toyboxs_own_photos_are_not_called_overexposed(number, tmp_path):
    from dreambooth.toybox.world import held_out_subjects, render

    subject = held_out_subjects()[number]
    for place, shown in enumerate(subject.photo_scenes()):
        Image.fromarray(render(subject, shown, 128)).save(tmp_path / f"{place}.png")
    found = check(PhotosCheck(folder=str(tmp_path))).findings
    assert "burnt" not in {finding.check for finding in found}
