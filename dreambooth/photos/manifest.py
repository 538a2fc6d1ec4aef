"""The output folder of `photos prepare`: which of its files are ours, and writing that never touches anybody else's."""

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.files.disk import disk_errors
from dreambooth.files.folders import Place, refuse_mixing, refuse_unwritable
from dreambooth.files.leftovers import prefix
from dreambooth.files.places import is_plain_name
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.photos.files import PhotoFolder, shown


@open_shape
class Entry(TypedDict):
    """One photo in the record."""

    files: dict[str, str]


RECORD = "preview/record.json"
"""Photo -> where its copy comes from and which files were made of it."""


def refuse_overlap(source: Path, out: Path, masks: Path | None = None) -> None:
    """Raise where writing could touch the originals or their masks, or would lead out of the output folder through a link."""
    given = [Place("DIR (the originals)", source, "photos"), *([Place("--masks", masks, "masks")] if masks else [])]
    refuse_mixing([*given, Place("OUT", out, "output", writes=("preview", "masks"))])
    for part in ("preview", "masks"):
        if (out / part).is_symlink():
            raise SettingError(shown(out / part), "is a link; nothing is written through it.", fix="Remove it.")
    refuse_unwritable(out, "OUT")


def names_of(folder: PhotoFolder) -> dict[Path, str]:
    """For each photo the name of its copy: its own with .png, and the old ending in it where two would be equal."""
    stems = [_plain(path.stem).casefold() for path in folder.photos]
    counts, taken, names = Counter(stems), set[str](), {}
    for path, stem in zip(folder.photos, stems, strict=True):
        own = _plain(path.stem) if counts[stem] == 1 else f"{_plain(path.stem)}_{path.suffix.lower().lstrip('.') or 'file'}"
        while own.casefold() in taken:
            own += "_"
        taken.add(own.casefold())
        names[path] = f"{own}.png"
    return names


def _plain(stem: str) -> str:
    """The name without control characters, and never hidden."""
    return "".join(c if c.isprintable() else "_" for c in stem).lstrip(".") or "photo"


def read_record(out: Path) -> dict[str, Any]:
    """What an earlier run noted about its copies; nothing where there is no record, or none that can be read."""
    record = out / RECORD
    if not record.is_file() or record.is_symlink():
        return {}
    try:
        return read_json(record, dict[str, Entry])
    except (FileNotFoundError, Damaged):
        return {}


def as_json(entries: Mapping[str, Any]) -> bytes:
    """The record as it is written."""
    return (json.dumps(entries, indent=1, sort_keys=True) + "\n").encode()


def made_before(entries: Mapping[str, Any]) -> dict[str, str]:
    """The files that an earlier run wrote, with the digests of their bytes; names that lead elsewhere are not believed."""
    files = {name: value for entry in entries.values() for name, value in entry["files"].items()}
    return {name: value for name, value in files.items() if _is_ours(name)}


def digest(data: bytes) -> str:
    """By which a file is known again."""
    return hashlib.sha256(data).hexdigest()


def is_edited(out: Path, relative: str, ours: Mapping[str, str], *, unless: bytes = b"") -> bool:
    """Whether a file of ours has been changed since it was written: a caption that was mended, a copy that was retouched.

    One that holds what is about to be written (`unless`) has not: its writing was the last thing before an interruption.
    """
    path = out / relative
    if relative not in ours or not path.is_file() or path.is_symlink():
        return False
    return digest(path.read_bytes()) not in (ours[relative], digest(unless))


def _is_ours(name: str) -> bool:
    parts = name.split("/")
    return is_plain_name(parts[-1]) and (len(parts) == 1 or (len(parts) == 2 and parts[0] == "masks"))


def write(out: Path, relative: str, data: bytes, ours: Collection[str]) -> bool:
    """Whole or not at all, and only when the bytes differ; raises SettingError for a file that was there before and is not ours."""
    path = out / relative
    if path.is_symlink() or path.exists():
        if path.is_file() and not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
        if relative not in ours:
            raise SettingError(shown(path), "is there already and was not made here.", fix="Name an empty folder for the copies.")
    with disk_errors(path):
        partial = path.with_name(f"{prefix()}{secrets.token_hex(4)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return True
