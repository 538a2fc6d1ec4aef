"""What is a photo in a folder and what is not, and that nothing outside is read."""

import os
from pathlib import Path

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.photos.load import PhotoError, caption_beside, caption_of, photo_hash, scan
from tests.photos.conftest import scene


def names(paths) -> list[str]:
    return [path.name for path in paths]


def test_photos_come_in_natural_order_whatever_their_names_say(tmp_path):
    for name in ("10.jpg", "2.jpg", "1.png", "IMG_3", "ü😀.jpg"):
        scene(0, (64, 64)).save(tmp_path / name, format="PNG")
    assert names(scan(tmp_path).photos) == ["1.png", "2.jpg", "10.jpg", "IMG_3", "ü😀.jpg"]


def test_stray_files_are_skipped_and_each_says_why(album):
    for name, data in {".DS_Store": b"x", "Thumbs.db": b"x", "notes.txt": b"x", "clip.mov": b"x", "raw.cr2": b"II*\0",
                       "empty.jpg": b"", "really a zip.png": b"PK\x03\x04" + b"0" * 40, "page.html": b"<!DOCTYPE"}.items():  # fmt: skip
        (album / name).write_bytes(data)
    (album / "more").mkdir()
    (album / "0.txt").write_text("a caption")
    found = scan(album)
    why = {path.name: reason for path, reason in found.skipped}
    assert names(found.photos) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert "hidden" in why[".DS_Store"] and "system" in why["Thumbs.db"] and "raw" in why["raw.cr2"] and "video" in why["clip.mov"]
    assert "0 bytes" in why["empty.jpg"] and "zip" in why["really a zip.png"] and "folder" in why["more"]
    assert "0.txt" not in why, "a photo's caption is not a stray file"


def test_links_that_leave_the_folder_or_loop_are_not_followed(album, tmp_path):
    outside = tmp_path / "outside.jpg"
    scene(9, (64, 64)).save(outside)
    (album / "out.jpg").symlink_to(outside)
    (album / "loop.jpg").symlink_to(album / "loop.jpg")
    (album / "again.jpg").symlink_to(album / "0.jpg")
    found = scan(album)
    assert len(found.photos) == 5
    why = {path.name: reason for path, reason in found.skipped}
    assert "leaves" in why["out.jpg"] and "nowhere" in why["loop.jpg"] and "already" in why["again.jpg"]


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda p: p / "nowhere", "does not exist"),
        (lambda p: (p / "file").write_bytes(b"x") and p / "file", "is a file"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "is empty"),
        (lambda p: (p / "texts").mkdir() or ((p / "texts" / "a.txt").write_text("x") and p / "texts"), "no photo that can be read"),
        (lambda p: Path("a\0b"), "does not exist"),
    ],
)
def test_a_folder_that_will_not_do_is_refused_with_the_fix(tmp_path, make, output):
    with pytest.raises(SettingError, match=output) as raised:
        scan(make(tmp_path))
    assert raised.value.fix


def test_a_folder_of_a_folder_names_the_folder_inside(tmp_path, album):
    with pytest.raises(SettingError, match="album"):
        scan(tmp_path)


FILES = {
    "cut.jpg": b"", "notes.txt": b"x", "clip.mov": b"x", "two.MP4": b"x", "raw.cr2": b"II*\0", "photos.zip": b"PK\x03\x04" + b"0" * 40,
    ".DS_Store": b"x", "page.html": b"<!DOCTYPE", "noise.png": b"\0" * 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "inside", "said", "fix"),
    [
        ([], [], "is empty", "Put 3 to 20"),
        ([".DS_Store"], [], "only hidden files", "Put 3 to 20"),
        ([".DS_Store"], ["rex"], "holds only folders, no photos", "Give the folder inside"),
        ([], ["rex", "mimi"], "holds only folders, no photos", "Give one of the folders inside"),
        (["cut.jpg"], ["rex"], "holds no photo itself, only in rex (cut.jpg: empty: 0 bytes)", "Give the folder inside"),
        (["notes.txt", "clip.mov"], ["rex"], "only in rex (clip.mov: a video; notes.txt: no picture", "Give the folder inside"),
        ([], ["masks"], "holds only folders, none with photos", "Put 3 to 20"),
        ([], ["broken"], "holds only folders, none with photos", "Put 3 to 20"),
        (["notes.txt"], ["masks"], "(notes.txt: no picture", "Put 3 to 20"),
        (["clip.mov", "two.MP4"], [], "(clip.mov and 1 more: a video)", "Save the frames"),
        (["raw.cr2", ".DS_Store"], [], "(raw.cr2: a camera's raw file)", "Export them as JPEG or PNG."),
        (["photos.zip"], [], "(photos.zip: a zip archive)", "Unpack it"),
        (["cut.jpg", "noise.png"], [], "(cut.jpg: empty: 0 bytes; noise.png: no picture that is known here)", "Copy or export them again"),
        (["raw.cr2", "clip.mov"], [], "(clip.mov: a video; raw.cr2: a camera's raw file)", "as JPEG or PNG"),
        (["cut.jpg", "noise.png", "clip.mov", "raw.cr2"], [], "; ...)", "as JPEG or PNG"),
    ],
)
def test_a_folder_without_a_photo_says_what_it_holds_and_what_helps(tmp_path, names, inside, said, fix):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(FILES[name])
    for name in inside:
        (folder / name).mkdir()
        scene(0, (64, 64)).save(folder / name / "0.png")
    if "broken" in inside:
        (folder / "broken" / "0.png").write_bytes(b"\0" * 64)
    with pytest.raises(SettingError) as raised:
        scan(folder)
    assert said in raised.value.reason and fix in raised.value.fix
    assert all(name in raised.value.fix for name in inside if "folder" in fix), "a folder that is named can be pasted"


def test_a_wrong_case_or_part_of_a_name_finds_the_folder_meant(album):
    with pytest.raises(SettingError, match="Did you mean"):
        scan(album.parent / "Album")


def test_ten_thousand_files_are_listed_and_one_more_is_refused(tmp_path):
    for number in range(200):
        (tmp_path / f"{number}.txt").write_bytes(b"")
    scene(0, (64, 64)).save(tmp_path / "a.jpg")
    assert len(scan(tmp_path, limit=201).photos) == 1
    with pytest.raises(SettingError, match="more than 200 files"):
        scan(tmp_path, limit=200)


def test_control_characters_in_a_name_are_written_out_in_messages(tmp_path):
    bad = tmp_path / "a\nb\x1b[31m.jpg"
    bad.write_bytes(b"\xff\xd8\xff broken")
    from dreambooth.photos.load import load

    with pytest.raises(PhotoError) as raised:
        load(bad)
    assert "\n" not in str(raised.value) and "\\n" in str(raised.value) and "\x1b" not in str(raised.value)


def test_a_file_without_permission_is_reported_and_not_fatal(album):
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    (album / "0.jpg").chmod(0)
    assert "permission" in {path.name: why for path, why in scan(album).skipped}["0.jpg"]


def test_captions_are_read_as_one_bounded_line(album, tmp_path):
    photo = album / "0.jpg"
    assert caption_beside(photo) is None
    (album / "0.caption").write_text("  from the other tool \n")
    assert caption_beside(photo) == "from the other tool"
    (album / "0.caption").unlink()
    (album / "0.txt").write_bytes("\ufeffa photo of\n  [V] ball ".encode())
    assert caption_beside(photo) == "a photo of [V] ball"
    (album / "0.txt").write_bytes(b"x" * 20_000)
    with pytest.raises(PhotoError, match="at most"):
        caption_beside(photo)
    (album / "0.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PhotoError, match="UTF-8"):
        caption_beside(photo)
    (album / "0.txt").unlink()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (album / "0.txt").symlink_to(secret)
    with pytest.raises(PhotoError, match="leaves"):
        caption_beside(photo)


@pytest.mark.parametrize("suffix", [".TXT", ".Txt", ".tXT", ".CAPTION", ".Caption"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_captions_ending_may_be_in_letters_of_any_case(album, suffix, encoding):
    (album / f"0{suffix}").write_bytes("a [V] ball, größer".encode(encoding))
    assert caption_of(album / "0.jpg") == (album / f"0{suffix}", "a [V] ball, größer")
    assert scan(album).skipped == () and caption_beside(album / "1.jpg") is None


@pytest.mark.parametrize("other", ["0.TXT", "0.caption", "0.Caption"])
def test_two_captions_of_one_photo_are_named_unless_they_say_the_same(album, other):
    (album / "0.txt").write_text("a [V] ball")
    (album / other).write_text("a  [V]\nball")
    assert caption_beside(album / "0.jpg") == "a [V] ball"
    (album / other).write_text("another")
    with pytest.raises(PhotoError, match=r"0\.txt|0\.TXT") as raised:
        caption_beside(album / "0.jpg")
    assert other in str(raised.value) and "0.jpg" in str(raised.value)
    (album / other).write_text("\n")
    assert caption_beside(album / "0.jpg") == "a [V] ball"


def test_a_caption_of_another_photo_whose_name_begins_alike_is_not_taken(album):
    (album / "0.more.txt").write_text("of another")
    assert caption_beside(album / "0.jpg") is None


def test_a_hash_belongs_to_the_bytes(album):
    (album / "copy.jpg").write_bytes((album / "0.jpg").read_bytes())
    assert photo_hash(album / "copy.jpg") == photo_hash(album / "0.jpg") != photo_hash(album / "1.jpg")


def test_a_pipe_in_the_folder_does_not_hang(album):
    os.mkfifo(album / "pipe.jpg")
    assert "not an ordinary file" in {path.name: why for path, why in scan(album).skipped}["pipe.jpg"]
    with pytest.raises(PhotoError, match="ordinary"):
        photo_hash(album / "pipe.jpg")
