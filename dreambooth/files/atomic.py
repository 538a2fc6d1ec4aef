"""Files that are either there whole or not there: written beside their place, flushed to the disk, then renamed."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreambooth.core.errors import RunError, SettingError
from dreambooth.core.wording import size, written_out

PREFIX = ".partial-"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well and vanishes when it does not."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _flush(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which replaces it when the block ends well; an older folder stays until that moment."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent))
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


@contextmanager
def whole_entries(folder: Path) -> Iterator[Path]:
    """A temporary folder whose entries move into `folder` one by one when the block ends well; other entries there stay."""
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        try:
            yield partial
            _settle(partial)
            for entry in sorted(partial.iterdir()):
                place = folder / entry.name
                if place.is_dir() and entry.is_dir():
                    old = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
                    place.rename(old / entry.name)
                    entry.rename(place)
                    shutil.rmtree(old)
                else:
                    entry.replace(place)
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
    """Make a folder and see that it can be written and has room, before any work starts; raises SettingError or RunError if not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        for leftover in path.glob(f"{PREFIX}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(setting, f"{path} cannot be written ({reason}).", fix="Choose another folder.") from None
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        lack = f"{path} has {size(free)} free; this run needs about {size(needed_bytes)}."
        raise RunError(f"{lack} Free some space, choose another {setting}, or keep fewer checkpoints (--checkpoints_total_limit 1).")


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


def _settle(folder: Path) -> None:
    """Everything under a folder is on the disk, with ordinary permissions."""
    folder.chmod(0o777 & ~_umask())
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
