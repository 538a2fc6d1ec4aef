"""Bytes that changed since they were saved are noticed, and are named."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dreambooth.core.errors import RunError
from dreambooth.files.sums import SUMS, Damaged, SumsMeanwhile, differing, read_sums, verified, write_sums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(bytes(range(256)) * 400)
    (tmp_path / "config.json").write_text("{}")
    write_sums(tmp_path)
    return tmp_path


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0, 51_200, -1])
def test_a_single_flipped_bit_is_found(folder, place):
    assert differing(folder) == []
    flip(folder / "unet" / "weights.safetensors", place)
    assert differing(folder) == ["unet/weights.safetensors"]


def test_a_missing_and_a_shorter_file_are_found(folder):
    (folder / "config.json").unlink()
    (folder / "unet" / "weights.safetensors").write_bytes(b"short")
    assert differing(folder) == ["config.json", "unet/weights.safetensors"]
    assert differing(folder, suffixes=(".safetensors",)) == ["unet/weights.safetensors"]


def test_what_a_damaged_file_breaks_is_reported_as_damage(folder):
    flip(folder / "unet" / "weights.safetensors", 3)
    with pytest.raises(Damaged) as refused, verified(folder, fix="Resume."):
        raise RuntimeError("a library's own words")
    assert refused.value.setting.endswith("weights.safetensors")
    with verified(folder, fix="Resume.", enabled=False):
        pass


def test_an_error_beside_whole_files_stays_what_it_is(folder):
    with pytest.raises(RuntimeError, match="something else"), verified(folder, fix="Resume."):
        raise RuntimeError("something else")


def test_coreutils_reads_the_list(folder):
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    assert subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=folder).returncode == 0


@pytest.mark.parametrize("line", ["nonsense", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd", f"{'0' * 63}  short"])
def test_a_list_that_leads_elsewhere_or_says_nothing_is_refused(folder, line):
    (folder / SUMS).write_text(f"{line}\n")
    with pytest.raises(Damaged):
        read_sums(folder)


def test_a_folder_without_a_list_is_taken_as_it_is(tmp_path):
    assert read_sums(tmp_path) == {} and differing(tmp_path) == []


def test_digests_are_noted_while_the_program_goes_on_and_the_next_folder_waits_for_them(tmp_path: Path) -> None:
    sums = SumsMeanwhile()
    for name in ("checkpoint-1", "checkpoint-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(name.encode())
        sums.note(tmp_path / name)
    assert read_sums(tmp_path / "checkpoint-1").keys() == {"weights"}
    sums.finish()
    assert differing(tmp_path / "checkpoint-2") == [] and read_sums(tmp_path / "checkpoint-2").keys() == {"weights"}


def test_digests_that_could_not_be_noted_are_an_error_of_the_next_saving(tmp_path: Path) -> None:
    sums = SumsMeanwhile()
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / SUMS).mkdir()
    sums.note(tmp_path / "checkpoint-1")
    with pytest.raises(RunError, match=SUMS):
        sums.finish()
    sums.finish()
