"""What an entry of a photo folder is: a photo by its first bytes, or none, and why; and what to do about a folder without one."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown

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
HIDDEN = "a hidden or system file"
FOLDER = "a folder; only photos directly in the folder are used"
TEXT = "no picture (captions belong to the photo of the same name)"
RAW = "a camera's raw file; export it as JPEG or PNG"
VIDEO = "a video; save the frames you want as JPEG or PNG"
LINK = "a link that leaves the folder or leads nowhere; put the photo itself there"
LOCKED = "may not be read (no permission)"
ZIP = "a zip archive"
FILL = "Put 3 to 20 photos of the subject into it."
AGAIN = "Copy or export them again, as JPEG or PNG."
REMEDIES = {
    RAW: "Export them as JPEG or PNG.", VIDEO: "Save the frames that you want as JPEG or PNG.", LINK: "Put the photos themselves there.",
    LOCKED: "Give yourself the right to read them (chmod u+r).", ZIP: "Unpack it there.",
}  # fmt: skip
"""What helps where all that a folder holds is such files; AGAIN for others."""
MASKS = "masks"
"""Below the photos, where `dreambooth photos prepare --masks` puts them."""
KNOWN_STRANGERS = {b"PK\x03\x04": ZIP, b"%PDF": "a PDF", b"<svg": "an SVG drawing", b"<!DO": "a web page"}
STRAY_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})


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


def is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root.resolve(strict=True))
    except (OSError, RuntimeError):
        return False


def why_not(path: Path, root: Path) -> str | None:
    """The reason why an entry of the folder is not taken as a photo, or None when it looks like one."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.startswith(".") or name in STRAY_NAMES:
        return HIDDEN
    if path.is_symlink():
        if not is_inside(path, root):
            return LINK
        if path.resolve().parent == root.resolve():
            return f"a link to {shown(path.resolve().name)}, which is in this folder already"
    if path.is_dir():
        return FOLDER
    if suffix in TEXT_SUFFIXES:
        return TEXT
    if suffix in RAW_SUFFIXES:
        return RAW
    if suffix in VIDEO_SUFFIXES:
        return VIDEO
    return _why_not_readable(path)


def _why_not_readable(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "not an ordinary file"
        with path.open("rb") as file:
            head = file.read(32)
    except PermissionError:
        return LOCKED
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
    """Why a folder has none, and what to do: it is empty, its photos lie one folder deeper, or its files are no photos."""
    seen = sorted(((path, reason) for path, reason in skipped if reason != HIDDEN), key=lambda one: natural_key(one[0]))
    if not seen:
        return SettingError(shown(root), "holds only hidden files, no photos." if skipped else "is empty.", fix=FILL)
    folders = [path for path, reason in seen if reason == FOLDER]
    files = [(path, reason) for path, reason in seen if reason != FOLDER]
    if inside := [folder for folder in folders[:100] if folder.name != MASKS and _holds_photo(folder)]:
        what = f"holds no photo itself, only in {_named(inside)} ({_grouped(files)})" if files else "holds only folders, no photos"
        fix = "Give the folder inside" if len(inside) == 1 else "Give one of the folders inside"
        return SettingError(shown(root), f"{what}.", fix=f"{fix}: {', '.join(shown(folder) for folder in inside[:3])}.")
    if not files:
        return SettingError(shown(root), "holds only folders, none with photos.", fix=FILL)
    remedies = {_remedy(reason) for _, reason in files if reason != TEXT}
    fix = remedies.pop() if len(remedies) == 1 else AGAIN if remedies else FILL
    return SettingError(shown(root), f"holds no photo that can be read ({_grouped(files)}).", fix=fix)


def _grouped(files: Sequence[tuple[Path, str]]) -> str:
    """Files by the reason why they are no photos: a.mov and 2 more: a video; notes.txt: no picture."""
    groups: dict[str, list[Path]] = {}
    for path, reason in files:
        groups.setdefault(reason.partition(";")[0], []).append(path)
    return "; ".join([f"{_named(paths)}: {reason}" for reason, paths in groups.items()][:3] + ["..."] * (len(groups) > 3))


def _named(paths: Sequence[Path]) -> str:
    return shown(paths[0].name) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _remedy(reason: str) -> str:
    """What makes photos of files that are none."""
    return next((fix for start, fix in REMEDIES.items() if reason.startswith(start)), AGAIN)


def _holds_photo(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(why_not(folder / entry.name, folder) is None for entry, _ in zip(entries, range(1000), strict=False))
    except OSError:
        return False
