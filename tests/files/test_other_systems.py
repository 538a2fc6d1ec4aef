"""The file layer where the system has less than Linux: no fcntl, pwd, resource, users' numbers, SIGHUP, nor folders that can be opened.

What only a real Windows or macOS can show is left to the workflow that runs the suite there (.github/workflows/check.yml).
"""

import errno
import os
import stat
import subprocess
import sys

import pytest

from dreambooth.core.errors import RunError
from dreambooth.files import atomic, leftovers
from dreambooth.files.atomic import whole_file, whole_folder, write_text
from dreambooth.files.entries import whole_entries

LESS = """
import os, shutil, signal, stat, sys
import psutil  # whose Linux part needs what its other parts do not
sys.modules.update(dict.fromkeys(("fcntl", "pwd", "grp", "resource", "termios")))
psutil.pid_exists = lambda process: process == os.getpid()
for name in ("getuid", "geteuid", "getgid", "fork", "forkpty", "setsid", "killpg", "statvfs", "O_NOFOLLOW", "O_DIRECTORY"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL"):
    delattr(signal, name)
shutil._use_fd_functions = False  # as on Windows, where this, too, does without statvfs:
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40)
opened = os.open
def no_folders(path, *how, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *how, **more)
os.open = no_folders
"""
WORK = """
from pathlib import Path
from dreambooth.cli.bench import interruptible
from dreambooth.cli.train import _signals
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import whole_file, whole_folder, writable_folder, write_json, write_text
from dreambooth.files.digests import file_digest
from dreambooth.files.entries import whole_entries
from dreambooth.files.leftovers import prefix
from dreambooth.files.locks import claimed, held
from dreambooth.files.places import private_folder, remove
from dreambooth.files.reading import read_json
from dreambooth.setup.journal import Journal
from dreambooth.setup.record import RunRecord, read_record, recorded
from dreambooth.training.records import Message

root = Path(sys.argv[1])
for text in ("old", "new"):
    write_json(root / "a.json", {"text": text})
    with whole_folder(root / "folder") as partial:
        (partial / text).write_text(text)
    with whole_entries(root / "entries") as partial:
        (partial / "one").mkdir()
        (partial / "one" / text).write_text(text)
assert read_json(root / "a.json") == {"text": "new"} and os.listdir(root / "folder") == ["new"] and len(file_digest(root / "a.json")) == 64
assert os.listdir(root / "entries" / "one") == ["new"]

mine, theirs = root / f"{prefix()}1", root / f"{prefix().rsplit('-', 2)[0]}-999999-1"
for path in (mine, theirs):
    path.touch()
writable_folder(root, "--output_dir", needed_bytes=1)
assert mine.exists() and not theirs.exists()
mine.unlink()

with held(root / "lock"):
    pass
with claimed(root / "run", "train"):
    try:
        with claimed(root / "run", "evaluate"):
            raise AssertionError("two commands in one folder")
    except SettingError as error:
        assert "dreambooth train" in str(error), error
    record = RunRecord(root / "run", {"seed": 1})
    journal = Journal(root / "run", 0)
    with recorded(record):
        journal.take(Message("hello"))
        record.phase("training")
        record.note(step=3)
    journal.close()
with claimed(root / "run", "evaluate"):
    assert read_record(root / "run")["step"] == 3

assert private_folder(root / "private").is_dir()
remove(root / "folder", root=root)
with interruptible():
    _signals()
assert not [path for path in root.rglob(".partial-*")], list(root.rglob(".partial-*"))
print("done")
"""


def test_files_locks_and_records_work_where_the_system_has_less(tmp_path):
    ended = subprocess.run([sys.executable, "-c", LESS + WORK, str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.endswith("done\n"), ended.stderr


@pytest.fixture
def closed_folders(monkeypatch):
    """Folders cannot be opened, as on Windows."""
    opened = os.open

    def no_folders(path, *how, **more):
        if os.path.isdir(path):  # noqa: PTH112  # a number, too
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(atomic.os, "open", no_folders)


def test_a_folder_that_cannot_be_opened_breaks_no_write(tmp_path, closed_folders):
    with whole_file(tmp_path / "a") as partial:
        partial.write_text("a")
    with whole_folder(tmp_path / "b") as partial:
        (partial / "inside").write_text("b")
    with whole_entries(tmp_path / "c") as partial:
        (partial / "inside").write_text("c")
    assert [(tmp_path / name).read_text() for name in ("a", "b/inside", "c/inside")] == ["a", "b", "c"]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders, so there is nothing to flush")
@pytest.mark.parametrize(("number", "is_told"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True), (errno.ENOSPC, True)])
def test_a_folder_that_cannot_be_flushed_breaks_no_write_but_a_failing_disk_does(tmp_path, monkeypatch, number, is_told):
    flushed = os.fsync

    def refuses(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flushed(handle)

    monkeypatch.setattr(atomic.os, "fsync", refuses)
    if is_told:
        with pytest.raises(RunError):
            write_text(tmp_path / "a", "a")
    else:
        write_text(tmp_path / "a", "a")
        assert (tmp_path / "a").read_text() == "a"


def test_whether_a_process_lives_is_asked_without_a_signal(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "kill")
    monkeypatch.setattr("psutil.pid_exists", lambda process: process == os.getpid())
    own = leftovers.prefix()
    machine = own.removeprefix(leftovers.PREFIX).split("-")[0]
    for name in (f"{own}x", f"{leftovers.PREFIX}{machine}-999999-x"):
        (tmp_path / name).touch()
    assert [leftovers.is_left_over(tmp_path / name) for name in (f"{own}x", f"{leftovers.PREFIX}{machine}-999999-x")] == [False, True]
