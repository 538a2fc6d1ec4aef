"""Files that are either there whole or not there: written beside their place, flushed to the disk, then renamed."""

import ctypes
import errno
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreambooth.core.errors import RunError
from dreambooth.core.wording import written_out
from dreambooth.files.disk import disk_errors
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.leftovers import prefix, sweep
from dreambooth.files.places import remove


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well and vanishes when it does not."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = beside(path, lambda free: free.touch(exist_ok=False))
        mode = _permissions(partial)
        with unfinished(partial, path):
            yield partial
            flush(partial)
            _permit(partial, mode)
            partial.replace(path)
            flush_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which replaces it when the block ends well; an older folder stays until that moment."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = beside(path, Path.mkdir)
        with unfinished(partial, path):
            yield partial
            settle(partial)
            _take_place(partial, path)
            flush_folder(path.parent)


def _take_place(partial: Path, path: Path) -> None:
    """A folder takes another's place. Linux exchanges the two names at once; elsewhere there is a moment with neither under its name."""
    if not path.exists():
        partial.rename(path)
    elif not _exchanged(partial, path):
        doomed = Path(tempfile.mkdtemp(prefix=prefix(), dir=path.parent)) / path.name
        path.rename(doomed)
        partial.rename(path)
        remove(doomed.parent, root=path.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names could be exchanged in one operation (`renameat2`); not every system and disk knows it."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; bytes of names that are no UTF-8 are written out in it."""
    with whole_file(path) as partial:
        partial.write_text(written_out(text), encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """A JSON file for people to read, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def writable_folder(path: Path, setting: str, *, needed_bytes: int = 0) -> None:
    """See that a folder can be written and has room, and delete what the dead have left half written; the first file makes the folder.

    Raises SettingError or RunError if not.
    """
    refuse_unwritable(path, setting, needed_bytes=needed_bytes)
    sweep(path)


@contextmanager
def unfinished(partial: Path, path: Path) -> Iterator[None]:
    """A block that writes what is to become `path`; what does not become it is gone afterwards, and what a disk says is said of `path`."""
    try:
        with disk_errors(path):
            yield
    except RunError as error:
        if str(partial) not in str(error):
            raise
        raise RunError(str(error).replace(str(partial), str(path))) from error
    finally:
        with suppress(OSError):  # that it cannot be taken away is no news: what kept it from being finished is reported
            remove(partial, root=partial.parent)


def permit_as_folder(folder: Path) -> None:
    """Let whoever may read a folder read all that is in it: safetensors' library makes files that nobody but their owner can open."""
    mode = _permissions(folder)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            _permit(path, mode if path.is_dir() else mode & 0o666)


def settle(folder: Path) -> None:
    """Everything under a folder is on the disk, with ordinary permissions."""
    for path in folder.rglob("*"):
        if path.is_file():
            flush(path)
    permit_as_folder(folder)


def beside(path: Path, make: Callable[[Path], None]) -> Path:
    """A temporary file or folder beside `path`, with the permissions that umask gives to any other (those of `tempfile` are private)."""
    while True:
        free = path.with_name(f"{prefix()}{secrets.token_hex(4)}{path.suffix}")
        with suppress(FileExistsError):
            make(free)
            return free


def _permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o777


def _permit(path: Path, mode: int) -> None:
    """Set permissions where they differ: some disks keep none, and refuse to be asked."""
    if _permissions(path) != mode:
        path.chmod(mode)


def flush(path: Path) -> None:
    """A file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """What was renamed in a folder is on the disk, too, where the system opens folders for that; Windows and some network disks do not."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # a disk that fails is another matter
            raise
    finally:
        os.close(handle)
