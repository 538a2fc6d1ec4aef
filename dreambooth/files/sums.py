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
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SUMS]
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(file_digest, paths)
        lines = [f"{digest}  {path.relative_to(folder).as_posix()}\n" for path, digest in zip(paths, digests, strict=True)]
    write_text(folder / SUMS, "".join(lines))


class SumsMeanwhile:
    """Notes the digests of finished folders, one after the other, while the program goes on.

    A folder whose digests are not noted yet is one without digests: whole, and loaded unchecked.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def note(self, folder: Path) -> None:
        """Begin with a folder, once the one before is done. Raises what went wrong with that, such as a full disk."""
        self.finish()
        self.pending = self.pool.submit(write_sums, folder)

    def finish(self) -> None:
        """Wait until all is noted; raises RunError where it could not be."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()


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
