"""The files of a photo folder, recognised by their first bytes and never by trust in their names.

Nothing outside the folder is read: links that lead out of it are listed as skipped, sub-folders are not entered.
"""

import difflib
import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.text import as_text

MAX_FILE_BYTES = 512 * 2**20
"""More than any camera writes for one picture; a bound on what one file can make us read."""
MAX_CAPTION_BYTES = 16_384
SUPPORTED = "JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, and HEIC with dreambooth[photos]"

PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif",
    ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".hif", ".mpo",
})  # fmt: skip
RAW_SUFFIXES = frozenset({
    ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng",
    ".orf", ".rw2", ".raf", ".pef", ".x3f", ".rwl", ".3fr", ".iiq", ".kdc", ".dcr",
})  # fmt: skip
CAPTION_SUFFIXES = (".txt", ".caption")
VIDEO_SUFFIXES = frozenset({
    ".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts",
})  # fmt: skip
TEXT_SUFFIXES = frozenset({
    ".txt", ".caption", ".json", ".jsonl", ".csv", ".yaml", ".yml", ".toml",
    ".md", ".xml", ".aae", ".xmp", ".npz", ".safetensors",
})  # fmt: skip
KNOWN_STRANGERS = {b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF", b"<svg": "an SVG drawing", b"<!DO": "a web page"}
STRAY_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})


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


def kind_of(head: bytes) -> str | None:
    """The picture format that a file's first 32 bytes announce, by the name Pillow has for it; None for anything else."""
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, 32, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"} else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    starts = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
    starts |= {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
    for start, name in starts.items():
        if head.startswith(start):
            return name
    return "BMP" if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" else None


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts `2.jpg` before `10.jpg`, and never depends on the locale."""
    pieces = re.split(r"([0-9]+)", path.name)
    return [(1, int(p), p) if p.isdigit() and p.isascii() else (0, 0, p.casefold()) for p in pieces] + [(0, 0, path.name)]


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
                reason = _why_not(path, root)
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
        if beside.is_symlink() and not _is_inside(beside, path.parent):
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


def _is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root.resolve(strict=True))
    except (OSError, RuntimeError):
        return False


def _why_not(path: Path, root: Path) -> str | None:
    """The reason why an entry of the folder is not taken as a photo, or None when it looks like one."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.startswith(".") or name in STRAY_NAMES:
        return "a hidden or system file"
    if path.is_symlink():
        if not _is_inside(path, root):
            return "a link that leaves the folder or leads nowhere; put the photo itself there"
        if path.resolve().parent == root.resolve():
            return f"a link to {shown(path.resolve().name)}, which is in this folder already"
    if path.is_dir():
        return "a folder; only photos directly in the folder are used"
    if suffix in TEXT_SUFFIXES:
        return "no picture (captions belong to the photo of the same name)"
    if suffix in RAW_SUFFIXES:
        return "a camera's raw file; export it as JPEG or PNG"
    if suffix in VIDEO_SUFFIXES:
        return "a video; save the frames you want as JPEG or PNG"
    return _why_not_readable(path)


def _why_not_readable(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "not an ordinary file"
        with path.open("rb") as file:
            head = file.read(32)
    except PermissionError:
        return "may not be read (no permission)"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    if not head:
        return "empty: 0 bytes"
    if kind_of(head):
        return None
    found = next((what for start, what in KNOWN_STRANGERS.items() if head.startswith(start)), "no picture that is known here")
    return f"{found}; supported: {SUPPORTED}"


def is_meant_as_photo(path: Path) -> bool:
    """Whether a skipped file's name says that it was meant to be a photo, so that losing it deserves a warning."""
    name = path.name
    return not name.startswith(".") and path.suffix.lower() in PICTURE_SUFFIXES | RAW_SUFFIXES and not path.is_dir()


def no_photo(root: Path, skipped: Sequence[tuple[Path, str]]) -> SettingError:
    """Why a folder has none, and what to do."""
    if not skipped:
        return SettingError(shown(root), "is empty.", fix="Put 3 to 20 photos of the subject into it.")
    folders = [path for path, _ in skipped if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")]
    for folder in sorted(folders, key=natural_key)[:100]:
        if _holds_picture(folder):
            return SettingError(shown(root), "holds only folders, no photos.", fix=f"Give the folder inside: {shown(folder)}.")
    reasons = "; ".join(f"{shown(path.name)}: {reason}" for path, reason in skipped[:3])
    return SettingError(shown(root), f"holds no photo that can be read ({reasons}).", fix="Copy or export them again.")


def _holds_picture(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(e.name).suffix.lower() in PICTURE_SUFFIXES for e, _ in zip(entries, range(1000), strict=False))
    except OSError:
        return False
