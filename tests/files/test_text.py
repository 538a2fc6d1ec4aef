"""Text files as editors of all systems save them."""

import codecs
import os

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.files.text import read_text

TEXT = "# Straßen\na [V] dog\n一只 😀\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_mark_in_front_is_no_text_and_every_line_end_is_a_newline(tmp_path, encoding, end):
    file = tmp_path / "prompts.txt"
    file.write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_text(file, "--prompts") == TEXT


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE])
def test_the_other_byte_order_is_read_too(tmp_path, mark):
    file = tmp_path / "prompts.txt"
    file.write_bytes(mark + TEXT.encode("utf-16-be" if len(mark) == 2 else "utf-32-be"))
    assert read_text(file, "--prompts") == TEXT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("one\ntwo\nStraße\n".encode("latin-1"), r"UTF-8 \(line 3\)"),
        (codecs.BOM_UTF16_LE + b"a\0b\0\n\0c", r"UTF-16 \(line 2\)"),
        ("a [V] dog".encode("utf-16-le"), "zero bytes"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "UTF-8"),
    ],
)
def test_what_is_no_such_text_is_named_with_its_line_and_what_to_do(tmp_path, data, reason):
    file = tmp_path / "list.json"
    file.write_bytes(data)
    with pytest.raises(SettingError, match=reason) as raised:
        read_text(file, "--concepts_list")
    assert raised.value.setting == "--concepts_list" and str(file) in raised.value.reason and "UTF-8" in raised.value.fix


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "folder", "loop", "missing", "a\0b", "x" * 300):
        with pytest.raises(SettingError):
            read_text(tmp_path / name, "--config")


def test_a_file_too_large_to_have_been_written_is_not_read(tmp_path):
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(SettingError, match="at most 64 MiB"):
        read_text(tmp_path / "huge.txt", "--prompts")
