"""Digests of files, each read once as long as nobody touches it: weights are gigabytes, and are asked after often."""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.files.atomic import write_json
from dreambooth.files.cache import DIGESTS, cache_root
from dreambooth.files.reading import Damaged, TypedDict, read_json

WORTH_REMEMBERING = 2**20
"""Bytes from which on a digest is kept beyond this process."""


class Note(TypedDict):
    """What is remembered of a file: how it looked to the system, and its digest."""

    path: str
    seen: list[int]
    sha256: str


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes as 64 hexadecimal digits; read again when its size, its times or its place on the disk have changed."""
    return _read(str(path.absolute()), *_seen(path))


def remembered_digest(path: Path, *, again: bool = False) -> str:
    """The same for the files of a base model, which are read once and then known by size, time and place, also by later processes.

    `again` reads them all the same; raises SettingError for other bytes under the same time, which no program leaves.
    """
    seen = list(_seen(path))
    known = _known(path, seen)
    if known and not again:
        return known
    digest = file_digest(path)
    if known and known != digest:
        reason = "its bytes have changed since they were first read, and its date has not: the disk or a copy has damaged it."
        raise SettingError(str(path), reason, fix="Save or download the model again.")
    if seen[0] >= WORTH_REMEMBERING:
        with suppress(DreamboothError, OSError):  # a cache that cannot be written costs time, nothing else
            write_json(_place(path), Note(path=str(path.absolute()), seen=seen, sha256=digest))
    return digest


def is_remembered(path: Path) -> bool:
    """Whether `remembered_digest` knows a file as it is now, or it is so small that reading it is no matter."""
    seen = list(_seen(path))
    return seen[0] < WORTH_REMEMBERING or _known(path, seen) is not None


def tree_digest(
    root: Path, files: Iterable[Path], *, start: str = "", digest: Callable[[Path], str] = file_digest, short: bool = False
) -> str:  # fmt: skip
    """A digest of files below a folder, by their places in it and their bytes, behind `start`; the order they come in does not count.

    `short` writes a file's digest as bytes, as that of a single part does (`part_digest`).
    """
    found = hashlib.sha256(start.encode())
    for path in sorted(files):
        own = digest(path)
        end = bytes.fromhex(own) if short else f"{own}\0".encode()
        found.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0") + end)
    return found.hexdigest()


def _known(path: Path, seen: list[int]) -> str | None:
    """The digest that was noted of a file as it is now, where one was."""
    if seen[0] < WORTH_REMEMBERING:
        return None
    try:
        note = read_json(_place(path), Note)
    except (FileNotFoundError, Damaged, SettingError):
        return None
    return note["sha256"] if note["seen"] == seen else None


def _place(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_root() / DIGESTS / f"{name}.json"


def _seen(path: Path) -> tuple[int, int, int, int, int]:
    """How a file looks to the system. Archives and copies set the time of the last change (`cp -p`, 1980 for all), so the one that no
    program sets counts, too."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino


@lru_cache(maxsize=10_000)
def _read(path: str, *seen: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
