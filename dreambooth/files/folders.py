"""What the folders of a request are for: none is two things at once, or lies where another is written or read whole.

Folders are compared as the disk knows them: through links, `..`, relative names, and the letters' case where a disk ignores it. The
rules, for a folder that lies in another:

- Below photos, masks and a model nothing is written: photos are only read, and a model is known by all that is below it.
- In a folder of class images lies nothing else: it is filled here, and may be deleted to be drawn again.
- In an output folder may lie what the run reads (photos in RUN/photos, class images in RUN/class_images), but not under a name that the
  run itself writes or deletes (RUN/samples, RUN/checkpoint-5, RUN/unet).
- Folders that are only read may lie in each other, as PHOTOS/masks does: sub-folders are not entered.
"""

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from dreambooth.core.errors import RunError, SettingError

Holds = Literal["photos", "masks", "class images", "a model", "output"]
Key = tuple[object, str | int]


@dataclass(frozen=True)
class Place:
    """A folder of a request: the setting that names it, and what it is for."""

    setting: str
    path: Path
    holds: Holds
    content: str | None = None
    """Two places that hold the same, content included, may be one folder: class images of one prompt. None: it is never shared."""
    writes: tuple[str, ...] = ()
    """Of an output: patterns of the names below it that are written or deleted."""


def refuse_mixing(places: Sequence[Place]) -> None:
    """Raise SettingError, naming both settings, for two folders of a request that are one or lie in each other wrongly."""
    at: dict[Key, list[Place]] = {}
    chains = [chain(place.path) for place in places]
    for place, keys in zip(places, chains, strict=True):
        for other in at.setdefault(keys[-1], []):
            _refuse_same(place, other)
        at[keys[-1]].append(place)
    for place, keys in zip(places, chains, strict=True):
        for above, key in enumerate(reversed(keys[:-1]), start=1):
            for outer in at.get(key, ()):
                _refuse_nesting(place, outer, below=above)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, as the disk knows them; neither needs to be there."""
    return chain(folder)[-1] in chain(path)


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one folder, as the disk knows them."""
    return chain(path)[-1] == chain(other)[-1]


def expanded(name: str, setting: str) -> Path:
    """A folder's path with `~` filled in; raises SettingError for a `~user` whom nobody here knows."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        user = Path(name).parts[0][1:]
        reason = f"there is no user {user} here." if user else "HOME is not set, and the system does not know this user."
        raise SettingError(
            setting, f"{name}: {reason}", fix="Give the path in full." if user else "Set HOME, or give the path in full."
        ) from None


def refuse_unwritable(path: Path, setting: str, *, needed_bytes: int = 0) -> None:
    """See that a folder can be made and written and has room; nothing is made. Raises SettingError, or RunError where room is lacking."""
    try:
        nearest = next(folder for folder in (path, *path.absolute().parents) if _is_there(folder))
        if nearest != path and path.is_symlink():
            raise ValueError("it is a link that leads nowhere")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(setting, f"{path} cannot be written ({reason}).", fix="Choose another folder.") from None
    free = shutil.disk_usage(nearest).free
    if free < needed_bytes:
        lack = f"{path} has {free / 2**30:.1f} GiB free; this run needs about {needed_bytes / 2**30:.1f} GiB."
        raise RunError(f"{lack} Free some space, choose another {setting}, or keep fewer checkpoints (--checkpoints_total_limit 1).")


@contextmanager
def tidy(folder: Path) -> Iterator[None]:
    """A block that may make a folder, and all that it lies in: those of them that are empty when it ends are removed again."""
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        yield
    finally:
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def chain(path: Path) -> list[Key]:
    """What identifies a folder and all that it lies in, from the root on: device and number on the disk, else its parent and its name."""
    try:
        real = Path(os.path.realpath(path.expanduser()))
    except (OSError, ValueError, RuntimeError):
        return [(None, str(path))]
    keys: list[Key] = []
    ignores_case = False
    for folder in (*reversed(real.parents), real):
        try:
            found = folder.stat()
            keys.append((found.st_dev, found.st_ino))
            ignores_case = _ignores_case(folder)
        except (OSError, ValueError):
            name = unicodedata.normalize("NFC", folder.name).casefold() if ignores_case else folder.name
            keys.append((keys[-1] if keys else None, name))
    return keys


def _refuse_same(place: Place, other: Place) -> None:
    if place.holds == other.holds and place.content is not None and place.content == other.content:
        return
    fix = "Give each a folder of its own." if place.holds == other.holds else f"Give {_named(other)} and {_named(place)} a folder each."
    raise SettingError(place.setting, f"{place.path} is the folder of {other.setting}, too.", fix=fix)


def _refuse_nesting(inner: Place, outer: Place, *, below: int) -> None:
    """Raise SettingError for a folder that must not lie where it does, `below` folders deep in another."""
    parts = Path(os.path.realpath(inner.path.expanduser())).parts[-below:]
    lies = f"{inner.path} lies in the folder of {outer.setting}"
    fix = f"Name a folder outside {outer.path}."
    if outer.holds == "class images":
        raise SettingError(inner.setting, f"{lies}, which is for class images alone.", fix=fix)
    if outer.holds != "output" and inner.holds in ("output", "class images"):
        raise SettingError(inner.setting, f"{lies}, where nothing is written.", fix=fix)
    own = next((name for name in _starts(parts) if any(fnmatch(name, pattern) for pattern in outer.writes)), None)
    if own:
        raise SettingError(inner.setting, f"{lies}, which itself writes {own}.", fix="Name another folder.")


def _named(place: Place) -> str:
    """What it holds, as a sentence calls it."""
    return "the model" if place.holds == "a model" else "the output" if place.holds == "output" else place.holds


def _starts(parts: Sequence[str]) -> Iterator[str]:
    """`a`, `a/b`, `a/b/c`."""
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def _is_there(path: Path) -> bool:
    """Whether something is at a path; raises OSError for a name that cannot be one, and for a file where a folder would be needed."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _ignores_case(folder: Path) -> bool:
    """Whether the disk that a folder lies on takes its name in other letters for the same."""
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    if other.name == folder.name:
        return bool(folder.name) and _ignores_case(folder.parent)
    try:
        return other.samefile(folder)
    except OSError:
        return False
