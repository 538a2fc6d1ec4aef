"""Where a path leads, links included; and deleting, which neither leaves its root nor follows a link."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.core.errors import RunError, SettingError
from dreambooth.core.wording import HALF, written_out

TRIES = 3
FORBIDDEN = frozenset("/\\\0:" if os.name == "nt" else "/\\\0")
"""Letters of no plain name; with a colon in it, Windows takes it for a drive's."""


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path lies in a folder when all links on its way have been followed; a link that goes round in circles does not."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def is_plain_name(name: object) -> bool:
    """Whether a word from somebody's file is the name of an entry of a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & FORBIDDEN


@contextmanager
def readable_name(path: Path | str) -> Iterator[str]:
    """A path that is UTF-8, as libraries in Rust, TensorBoard and wandb need it: its own, or a link's, in the block."""
    if not HALF.search(str(path)):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="dreambooth-") as place:
        link = Path(place) / f"named{Path(written_out(str(path))).suffix}"
        link.symlink_to(Path(path).absolute(), target_is_directory=Path(path).is_dir())
        yield str(link)


def private_folder(path: Path) -> Path:
    """A folder of this user alone, made where there is none: its name may be known to everybody, as below a shared /tmp.

    One that others could only read, as of an earlier version, is closed to them. Raises SettingError for a link, and for what is
    another user's or may be written by others: who made it could put anything there.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingError("TMPDIR", f"{path} cannot be made ({error.strerror}).", fix="Set it to a folder of your own.") from None
    found, posix = path.lstat(), hasattr(os, "getuid")  # on Windows a temporary folder is its user's own, and modes say nothing
    others = posix and bool(stat.S_IMODE(found.st_mode) & 0o022)
    what = {
        "is a link": stat.S_ISLNK(found.st_mode), "is no folder": not stat.S_ISDIR(found.st_mode),
        "belongs to another user": posix and found.st_uid != os.getuid(), "may be written by other users": others,
    }  # fmt: skip
    wrong = next((words for words, is_so in what.items() if is_so), None)
    if wrong:
        raise SettingError("TMPDIR", f"{path} {wrong}, so it is not used.", fix="Delete it, or set TMPDIR to a folder of your own.")
    path.chmod(0o700)
    return path


def remove(path: Path, *, root: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link (never what it leads to); one that is not there is no error.

    Raises RunError, with nothing deleted, for what does not lie below `root`.
    """
    place, limit = path.absolute().parent.resolve() / path.name, root.resolve()
    if not is_plain_name(path.name) or place == limit or not place.is_relative_to(limit):
        raise RunError(f"{path} does not lie in {root}, so it is not deleted. A link may lead out of there; look at it by hand.")
    for _ in range(TRIES):  # somebody else may be deleting the same
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        except FileNotFoundError:
            continue
        return
