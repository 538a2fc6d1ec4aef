"""Files that are either there whole or not there: written beside their place, flushed to the disk, then renamed."""

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreambooth.core.errors import RunError
from dreambooth.core.wording import written_out
from dreambooth.folders import refuse_unwritable

PREFIX = ".partial-"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well and vanishes when it does not."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(path, lambda free: free.touch(exist_ok=False))
        mode = _permissions(partial)
        try:
            yield partial
            _flush(partial)
            _permit(partial, mode)
            partial.replace(path)
            _flush_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which replaces it when the block ends well; an older folder stays until that moment."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(path, Path.mkdir)
        try:
            yield partial
            _settle(partial)
            if path.exists():
                doomed = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent)) / path.name
                path.rename(doomed)
                partial.rename(path)
                shutil.rmtree(doomed.parent)
            else:
                partial.rename(path)
            _flush_folder(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; bytes of names that are no UTF-8 are written out in it."""
    with whole_file(path) as partial:
        partial.write_text(written_out(text), encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """A JSON file for people to read, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def writable_folder(path: Path, setting: str, *, needed_bytes: int = 0) -> None:
    """See that a folder can be written and has room, and delete what an interruption left half written; the first file makes the folder.

    Raises SettingError or RunError if not.
    """
    refuse_unwritable(path, setting, needed_bytes=needed_bytes)
    for leftover in path.glob(f"{PREFIX}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """A full disk, or one that may not be written, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"The disk is full: {path} was not written. Earlier files are untouched; free some space and resume.") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise RunError(f"{path} may not be written ({error.strerror}). Earlier files are untouched.") from error
        raise


def permit_as_folder(folder: Path) -> None:
    """Let whoever may read a folder read all that is in it: safetensors' library makes files that nobody but their owner can open."""
    mode = _permissions(folder)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            _permit(path, mode if path.is_dir() else mode & 0o666)


def _settle(folder: Path) -> None:
    """Everything under a folder is on the disk, with ordinary permissions."""
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)
    permit_as_folder(folder)


def _beside(path: Path, make: Callable[[Path], None]) -> Path:
    """A temporary file or folder beside `path`, with the permissions that umask gives to any other (those of `tempfile` are private)."""
    while True:
        free = path.with_name(f"{PREFIX}{secrets.token_hex(4)}{path.suffix}")
        with suppress(FileExistsError):
            make(free)
            return free


def _permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o777


def _permit(path: Path, mode: int) -> None:
    """Set permissions where they differ: some disks keep none, and refuse to be asked."""
    if _permissions(path) != mode:
        path.chmod(mode)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """What was renamed in a folder is on the disk, too."""
    if os.name == "nt":  # which opens no folders, and has no need to
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
