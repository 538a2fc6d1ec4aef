"""Where a path leads, links included; and deleting, which neither leaves its root nor follows a link."""

import shutil
from pathlib import Path

from dreambooth.core.errors import RunError

TRIES = 3


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path lies in a folder when all links on its way have been followed; a link that goes round in circles does not."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def is_plain_name(name: object) -> bool:
    """Whether a word from somebody's file is the name of an entry of a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


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
