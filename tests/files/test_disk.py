"""What disks, quotas and homes say is told in one sentence with the file and exit code 1, wherever it happens, and earlier files stay."""

import errno
import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import ModelSource
from dreambooth.files import disk, tensors
from dreambooth.files.atomic import whole_file, whole_folder, writable_folder, write_text
from dreambooth.files.disk import failing, in_words
from dreambooth.files.entries import whole_entries
from dreambooth.run import train as stream
from tests.cli.test_bad_input import command, refused
from tests.training.runs import config

__all__ = ["command"]

DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
OTHERS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOLCK, errno.ENODEV, errno.EBUSY)


def raised(number: int, library: bool = False) -> Exception:
    text = os.strerror(number)
    return SafetensorError(f"Error while serializing: I/O error: {text} (os error {number})") if library else OSError(number, text)


@pytest.mark.parametrize("library", [False, True], ids=["system", "library"])
@pytest.mark.parametrize("number", [*DISKS, *OTHERS], ids=errno.errorcode.get)
def test_a_block_that_writes_says_which_file_was_not_written_and_leaves_the_old_one(number, library, tmp_path):
    path = tmp_path / "run" / "model.bin"
    write_text(path, "old")
    with pytest.raises(RunError) as printed, whole_file(path) as partial:
        partial.write_text("new")
        raise raised(number, library)
    assert str(path) in str(printed.value) and ".partial" not in str(printed.value) and printed.value.exit_code == 1
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    assert ("finished before are whole" in str(printed.value)) == (number in disk.WRITING)


@pytest.mark.parametrize("whole", [whole_folder, whole_entries])
def test_what_fails_deep_in_an_unfinished_folder_is_named_as_it_would_have_been(whole, tmp_path):
    with pytest.raises(RunError) as printed, whole(tmp_path / "run") as partial, whole_file(partial / "unet" / "model.bin"):
        raise raised(errno.ENOSPC)
    assert str(tmp_path / "run" / "unet" / "model.bin") in str(printed.value) and ".partial" not in str(printed.value)


def test_a_name_that_the_system_says_counts_more_than_the_one_that_is_written(tmp_path):
    with pytest.raises(RunError, match="elsewhere/a is not there"), whole_file(tmp_path / "x"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "elsewhere/a")


def test_a_fault_of_the_code_is_not_taken_for_one_of_a_disk(tmp_path):
    with pytest.raises(KeyError), whole_file(tmp_path / "x"):
        raise KeyError("step")
    try:
        try:
            Path(tmp_path / "missing").read_text()
        except FileNotFoundError:
            raise ValueError("3 is no 4")  # noqa: B904 - as it happens where nobody thinks of it
    except ValueError as error:
        assert in_words(error) is None
    assert in_words(OSError("a library's own words")) is None and in_words(RuntimeError("os error")) is None


def test_a_disk_that_fails_on_the_way_into_a_librarys_error_is_found():
    for cause in (True, False):
        try:
            try:
                raise raised(errno.EIO)
            except OSError as error:
                raise ValueError("the config cannot be loaded") from (error if cause else None)
        except ValueError as error:
            assert failing(error, Path("model")) is not None and "model" in str(failing(error, Path("model")))


@pytest.mark.parametrize("number", DISKS, ids=errno.errorcode.get)
def test_a_model_on_a_failing_disk_is_not_called_damaged(number, tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"")
    monkeypatch.setattr(tensors, "safe_open", lambda *_, **__: (_ for _ in ()).throw(raised(number)))
    with pytest.raises(RunError, match=r"a\.safetensors"):
        tensors.load_tensors(tmp_path / "a.safetensors")


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a small disk: options of tmpfs."""
    mounted = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a disk, and not everywhere")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.parametrize(
    ("options", "words"), [("size=8k", "disk is full: .*/run/"), ("size=120k", "optimizer"), ("size=9m,nr_inodes=6", "inodes")]
)
def test_a_disk_that_is_full_at_any_moment_of_a_run_is_reported(options, words, small_disk, pipelines, tmp_path, monkeypatch, capsys):
    place = small_disk(options)
    monkeypatch.setattr(stream, "needed_bytes", lambda *_: 0)  # another process takes what was free
    run = config(pipelines("stable_diffusion"), root=tmp_path, output_dir=place / "run", method="lora", checkpointing_steps=2)
    with pytest.raises(RunError, match=words):
        list(stream.train(run.updated({("loop", "max_train_steps"): 4, ("prior", "class_data_dir"): str(tmp_path / "class")})))
    assert not list(place.rglob(".partial*"))


def test_a_tracker_on_a_full_disk_ends_the_run_with_a_sentence(small_disk, command, capsys, tmp_path):
    place = small_disk("size=4k")
    logs = ["--report_to", "tensorboard", "--logging_dir", str(place / "logs"), "--max_train_steps", "40", "--log_interval", "1"]
    printed = refused(capsys, command(*logs), str(place / "logs"), "disk is full", code=1)
    assert "Thread" not in printed


def test_a_cache_that_can_only_be_read_is_named_with_the_flag_for_another(small_disk, command, capsys, monkeypatch):
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(small_disk("size=1m,ro")))
    words = ["--with_prior_preservation", "--class_prompt", "a dog", "--num_class_images", "2", "--prior_inference_steps", "1"]
    refused(capsys, command(*words, "--resolution", "16"), "--class_data_dir", "Read-only")


def test_a_cache_of_models_that_may_not_be_written_is_no_missing_network(monkeypatch):
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    def refuse(*_, **__):
        raise OSError("cannot be downloaded") from PermissionError(errno.EACCES, "Permission denied", "/cache/models--a--b")

    monkeypatch.setattr(DiffusionPipeline, "download", refuse)
    with pytest.raises(SettingError, match="--cache_dir: /cache/models--a--b") as printed:
        ModelSource(pretrained_model_name_or_path="a/b", revision="of this test").folder()
    assert "Hub" not in str(printed.value)


def test_a_user_without_a_home_is_reported_what_to_set(command, capsys, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DREAMBOOTH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(f"getpwuid(): uid not found: {uid}")))
    words = ["--with_prior_preservation", "--class_prompt", "a dog", "--resolution", "16"]
    refused(capsys, command(*words), "--class_data_dir", "HOME", "DREAMBOOTH_CACHE")
    refused(capsys, ["generate", "~/run", "a dog"], "~/run", "HOME")
    assert "USER" in str(in_words(KeyError("getpwuid(): uid not found: 77")))


def test_a_limit_on_the_size_of_files_is_reported(tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    code = "import sys\nfrom pathlib import Path\nfrom dreambooth.files.atomic import write_text\nwrite_text(Path(sys.argv[1]), 'x' * 9000)"
    words = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    done = subprocess.run(words, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert "RunError" in done.stderr and "a.txt may not become as large" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_output_to_a_full_disk_is_reported_and_not_complained_about_at_the_end(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "dreambooth", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "the output of this command was not written" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["nonsense"], ["generate", "/nowhere", "a dog"]])
def test_a_command_whose_complaint_cannot_be_written_either_ends_with_its_exit_code(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "dreambooth", *words], stdout=full, stderr=full, check=False)
    assert done.returncode == (1 if words == ["--help"] else 2)


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_a_name_that_is_too_long_is_reported_in_a_line(name, command, capsys, tmp_path):
    printed = refused(capsys, command("--output_dir", str(tmp_path / name)), "too long", code=1)
    assert len(printed.split("\r")[-1].splitlines()[-1]) < 400


def test_a_folder_in_which_another_program_keeps_what_it_has_not_finished_is_left_as_it_is(tmp_path):
    """Their files begin as ours do, but say nothing of this machine and its processes."""
    theirs = [tmp_path / ".partial-download", tmp_path / ".partial-abc.png", tmp_path / f".partial-zzzzzzzz-{os.getpid()}-x"]
    for path in theirs:
        path.mkdir()
        os.utime(path, (0, 0))
    writable_folder(tmp_path, "--output_dir")
    assert sorted(tmp_path.iterdir()) == sorted(theirs)


def test_a_command_that_fails_in_an_unknown_way_says_so(monkeypatch, capsys):
    monkeypatch.setattr("dreambooth.cli.photos.main", lambda argv: (_ for _ in ()).throw(ZeroDivisionError("by zero")))
    assert main(["photos"]) == 1 and "fault of dreambooth" in capsys.readouterr().err
