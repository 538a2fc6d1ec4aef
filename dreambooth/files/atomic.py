"""Files that are either there whole or not there: written beside their place, flushed to the disk, then renamed."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.disk import disk_errors
from dreambooth.files.leftovers import prefix, sweep
from dreambooth.files.places import remove


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well and vanishes when it does not."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=prefix(), suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        with _unfinished(partial, path):
            yield partial
            _flush(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which replaces it when the block ends well; an older folder stays until that moment."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=prefix(), dir=path.parent))
        with _unfinished(partial, path):
            yield partial
            _settle(partial)
            if path.exists():
                doomed = Path(tempfile.mkdtemp(prefix=prefix(), dir=path.parent)) / path.name
                path.rename(doomed)
                partial.rename(path)
                remove(doomed.parent, root=path.parent)
            else:
                partial.rename(path)
            _flush_folder(path.parent)


@contextmanager
def whole_entries(folder: Path) -> Iterator[Path]:
    """A temporary folder whose entries move into `folder` one by one when the block ends well; other entries there stay."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=prefix(), dir=folder))
        with _unfinished(partial, folder):
            yield partial
            _settle(partial)
            for entry in sorted(partial.iterdir()):
                place = folder / entry.name
                if place.is_dir() and entry.is_dir():
                    old = Path(tempfile.mkdtemp(prefix=prefix(), dir=folder))
                    place.rename(old / entry.name)
                    entry.rename(place)
                    remove(old, root=folder)
                else:
                    entry.replace(place)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """A JSON file for people to read, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def writable_folder(path: Path, setting: str, *, needed_bytes: int = 0) -> None:
    """Make a folder and see that it can be written and has room, before any work starts; raises SettingError or RunError if not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        sweep(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(setting, f"{path} cannot be written ({reason}).", fix="Choose another folder.") from None
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        lack = f"{path} has {_size(free)} free; this run needs about {_size(needed_bytes)}."
        raise RunError(f"{lack} Free some space, choose another {setting}, or keep fewer checkpoints (--checkpoints_total_limit 1).")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


@contextmanager
def _unfinished(partial: Path, path: Path) -> Iterator[None]:
    """A block that writes what is to become `path`; what does not become it is gone afterwards, and what a disk says is said of `path`."""
    try:
        with disk_errors(path):
            yield
    except RunError as error:
        if str(partial) not in str(error):
            raise
        raise RunError(str(error).replace(str(partial), str(path))) from error
    finally:
        with suppress(OSError):  # that it cannot be taken away is no news: what kept it from being finished is told
            remove(partial, root=partial.parent)


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
