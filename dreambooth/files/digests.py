"""Digests of files, each read once in a process as long as nobody touches it: weights are gigabytes, and are asked after often."""

import hashlib
from functools import lru_cache
from pathlib import Path


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes as 64 hexadecimal digits; read again when its size, its time or its place on the disk has changed."""
    found = path.stat()
    return _read(str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino)


@lru_cache(maxsize=10_000)
def _read(path: str, *seen: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
