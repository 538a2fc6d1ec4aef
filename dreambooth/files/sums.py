"""`SHA256SUMS` beside weights: which files belong together, and whether their bytes are still those that were saved.

The format is that of coreutils, so `sha256sum -c SHA256SUMS` checks a folder without this program.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.digests import file_digest

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
THREADS = 4
"""Files hashed at a time: hashing leaves Python's lock, and the largest part decides how long it takes."""


class Damaged(SettingError):
    """Files are missing or hold other bytes than were saved."""


def write_sums(folder: Path) -> None:
    """Note the digests of everything in a folder."""
    with Sums(folder) as sums:
        sums.take()


class Sums:
    """Digests of a folder's files, taken as they are finished, noted at the end of a block: while one is hashed the next is written."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pool = ThreadPoolExecutor(THREADS)
        self.found: dict[str, Future[str]] = {}

    def __enter__(self) -> "Sums":
        return self

    def take(self) -> None:
        """Begin to hash what is there and has not been taken."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and path.name != SUMS and name not in self.found:
                self.found[name] = self.pool.submit(file_digest, path)

    def know(self, path: Path, digest: str) -> None:
        """A file that was hashed as it was written."""
        self.found[path.relative_to(self.folder).as_posix()] = known = Future()
        known.set_result(digest)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.pool:
            if kind is None:
                self.take()
                write_text(self.folder / SUMS, "".join(f"{self.found[name].result()}  {name}\n" for name in sorted(self.found)))


def read_sums(folder: Path) -> dict[str, str]:
    """The digests noted in a folder by file name; empty where none were (folders of earlier versions). Raises Damaged for other lines."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    found = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    sums = {match[2]: match[1] for match in found if match}
    if len(sums) < len(found) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in sums):
        raise Damaged(str(path), "is damaged.", fix=f"Delete it to use {folder} unchecked.")
    return sums


def differing(folder: Path, *, suffixes: Iterable[str] = ()) -> list[str]:
    """Names of files in a folder that are missing or not as noted, in order; only those with one of `suffixes` where some are given."""
    wanted = tuple(suffixes) or ("",)
    sums = {name: digest for name, digest in read_sums(folder).items() if name.endswith(wanted)}
    with ThreadPoolExecutor(THREADS) as pool:
        same = pool.map(lambda name: (folder / name).is_file() and file_digest(folder / name) == sums[name], sums)
        return [name for name, is_same in zip(sums, same, strict=True) if not is_same]


@contextmanager
def verified(folder: Path, *, fix: str, suffixes: Iterable[str] = (".safetensors",), enabled: bool = True) -> Iterator[None]:
    """A block that loads the files of a folder, which are hashed meanwhile; raises Damaged at its end where bytes have changed.

    An error of the block itself gives way to that, since it is then the consequence.
    """
    if not enabled:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(differing, folder, suffixes=suffixes)
        try:
            yield
        finally:
            refuse(folder, checking.result(), fix=fix)


def refuse(folder: Path, names: list[str], *, fix: str) -> None:
    """Raise Damaged where there are names of files that are not as they were saved."""
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise Damaged(str(folder / names[0]), f"is damaged: its bytes are not those that were saved{others}.", fix=fix)
