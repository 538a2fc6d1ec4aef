"""The files of a photo folder, recognised by their first bytes and never by trust in their names.

Nothing outside the folder is read: links that lead out of it are listed as skipped, sub-folders are not entered.
"""

import difflib
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.text import as_text
from dreambooth.photos.entries import CAPTION_SUFFIXES, is_inside, natural_key, no_photo, why_not

MAX_FILE_BYTES = 512 * 2**20
"""More than any camera writes for one picture; a bound on what one file can make us read."""
MAX_CAPTION_BYTES = 16_384


class PhotoError(SettingError):
    """A photo cannot be used: names the file, the reason and the fix."""

    def __init__(self, path: Path, reason: str, *, fix: str = ""):
        self.path = path
        super().__init__(shown(path), reason, fix=fix)


@dataclass(frozen=True)
class PhotoFolder:
    """A folder's photos in natural order, and every other entry with the reason why it is not one of them."""

    root: Path
    photos: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]


def scan(folder: str | Path, *, limit: int = 10_000, needs_photo: bool = True) -> PhotoFolder:
    """The photos directly in a folder, by their first bytes; everything else but their captions is listed with its reason.

    Raises SettingError, with the fix, for a folder that is missing, empty, too full (over `limit` entries), and, with
    `needs_photo`, for one without a photo.
    """
    root = Path(folder).expanduser()
    _must_be_folder(root)
    photos: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    try:
        with os.scandir(root) as entries:
            for number, entry in enumerate(entries):
                if number >= limit:
                    raise SettingError(
                        shown(root), f"holds more than {limit:,} files.",
                        fix="A subject needs 3 to 20 photos: point at a folder that holds only these.",
                    )  # fmt: skip
                path = root / entry.name
                reason = why_not(path, root)
                if reason:
                    skipped.append((path, reason))
                else:
                    photos.append(path)
    except OSError as error:
        raise SettingError(shown(root), f"cannot be listed ({error.strerror}).", fix="Allow yourself to read it.") from None
    if needs_photo and not photos:
        raise no_photo(root, skipped)
    stems = {path.stem for path in photos}
    skipped = [(path, why) for path, why in skipped if not (path.suffix.lower() in CAPTION_SUFFIXES and path.stem in stems)]
    return PhotoFolder(root, tuple(sorted(photos, key=natural_key)), tuple(sorted(skipped, key=lambda s: natural_key(s[0]))))


def read_bytes(path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """A file's bytes; raises PhotoError for what is missing, unreadable, no ordinary file (a pipe would hang) or over `limit`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError(path, "is not an ordinary file.", fix="Remove it from the folder.")
        if status.st_size > limit:
            raise PhotoError(path, f"is too large: at most {size(limit)} are read.", fix="Save it smaller.")
        with path.open("rb") as file:
            return file.read(limit + 1)[:limit]
    except FileNotFoundError:
        raise PhotoError(path, "does not exist.", fix="Check the name.") from None
    except PermissionError:
        raise PhotoError(path, "may not be read.", fix="Give yourself the right to read it (chmod u+r).") from None
    except PhotoError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError(path, f"cannot be read ({error}).", fix="Copy the photo again from where it came.") from None


def photo_hash(path: str | Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits: two files with the same one are the same file."""
    return hashlib.sha256(read_bytes(Path(path))).hexdigest()


def caption_beside(path: Path) -> str | None:
    """The caption of a photo as one line; None where there is none, or an empty one. Raises PhotoError as `caption_of` does."""
    found = caption_of(path)
    return found[1] if found else None


def captions_in(folder: Path) -> dict[str, list[str]]:
    """The names of a folder's caption files, by that of the photo without its ending."""
    found: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries):
            for suffix in CAPTION_SUFFIXES:
                if name[-len(suffix) :].lower() == suffix:
                    found.setdefault(name[: -len(suffix)], []).append(name)
    return found


def caption_of(path: Path, *, among: Mapping[str, list[str]] | None = None) -> tuple[Path, str] | None:
    """The file with a photo's caption, and the caption as one line: the photo's name with `.txt` or `.caption`, in letters of any case.

    Raises PhotoError for a file that is no text (`read_text`), leaves the folder or is too large, and for two that say different things.
    """
    found: list[tuple[Path, str]] = []
    for name in (captions_in(path.parent) if among is None else among).get(path.stem, ()):
        beside = path.with_name(name)
        if beside.is_symlink() and not is_inside(beside, path.parent):
            raise PhotoError(beside, "is a link that leaves the folder or leads nowhere.", fix="Put the file itself there.")
        if not beside.is_file():
            continue
        try:
            text = " ".join(as_text(read_bytes(beside, limit=MAX_CAPTION_BYTES)).split())
        except ValueError as error:
            if isinstance(error, PhotoError):
                raise
            raise PhotoError(beside, f"{error}.", fix="Save the caption again as UTF-8.") from None
        if text:
            found.append((beside, text))
    if len({text for _, text in found}) > 1:
        raise PhotoError(found[1][0], f"and {shown(found[0][0].name)} are two captions of {shown(path.name)}.", fix="Remove one of them.")
    return found[0] if found else None


def _must_be_folder(root: Path) -> None:
    try:
        if root.is_dir():
            return
        exists = root.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingError(shown(root), f"cannot be opened ({error}).", fix="Give a folder with the subject's photos.") from None
    if not exists:
        parent = root.parent
        names = [p.name for p in sorted(parent.iterdir())[:1000] if p.is_dir()] if parent.is_dir() else []
        near = [n for n in names if n.casefold() == root.name.casefold()] or [n for n in names if root.name and root.name in n]
        near = near or difflib.get_close_matches(root.name, names, n=1)
        fix = f"Did you mean {shown(parent / near[0])}?" if near else "Give the folder that holds the subject's photos."
        raise SettingError(shown(root), "does not exist.", fix=fix)
    raise SettingError(shown(root), "is a file, not a folder.", fix=f"Give the folder that it is in: {shown(root.parent)}.")
