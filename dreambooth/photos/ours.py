"""The output folder of `photos prepare`: which of its files are ours, and writing that never touches anybody else's."""

import json
import os
import tempfile
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.photos.files import PhotoFolder, shown

RECORD = "preview/record.json"
"""Photo -> where its copy comes from and which files were made of it."""


def refuse_overlap(source: Path, out: Path) -> None:
    """Raise where writing could touch the originals, or would lead out of the output folder through a link."""
    inner, outer = source.resolve(), out.resolve()
    if outer == inner or inner in outer.parents:
        raise SettingError(shown(out), "lies in the folder of the originals, which are never touched.", fix="Name another folder.")
    if out.exists() and not out.is_dir():
        raise SettingError(shown(out), "is a file, not a folder.", fix="Name a folder for the copies.")
    for part in ("preview", "masks"):
        if (out / part).is_symlink():
            raise SettingError(shown(out / part), "is a link; nothing is written through it.", fix="Remove it.")


def names_of(folder: PhotoFolder) -> dict[Path, str]:
    """For each photo the name of its copy: its own with .png, and the old ending in it where two would be equal."""
    stems = [_plain(path.stem).casefold() for path in folder.photos]
    names = {}
    for path, stem in zip(folder.photos, stems, strict=True):
        own = _plain(path.stem) if stems.count(stem) == 1 else f"{_plain(path.stem)}_{path.suffix.lower().lstrip('.') or 'file'}"
        while any(own.casefold() == other[:-4].casefold() for other in names.values()):
            own += "_"
        names[path] = f"{own}.png"
    return names


def _plain(stem: str) -> str:
    """The name without control characters, and never hidden."""
    return "".join(c if c.isprintable() else "_" for c in stem).lstrip(".") or "photo"


def made_before(out: Path) -> set[str]:
    """The files that an earlier run wrote here, from its record; names that lead elsewhere are not believed."""
    record = out / RECORD
    if not record.is_file() or record.is_symlink():
        return set()
    try:
        entries = json.loads(record.read_text(encoding="utf-8"))
        names = {name for entry in entries.values() for name in entry["files"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()
    return {name for name in names if isinstance(name, str) and _is_ours(name)}


def _is_ours(name: str) -> bool:
    parts = name.split("/")
    return parts[-1] not in ("", ".", "..") and (len(parts) == 1 or (len(parts) == 2 and parts[0] == "masks"))


def write(out: Path, relative: str, data: bytes, ours: set[str]) -> bool:
    """Whole or not at all, and only when the bytes differ; raises SettingError for a file that was there before and is not ours."""
    path = out / relative
    if path.is_symlink() or path.exists():
        if path.is_file() and not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
        if relative not in ours:
            raise SettingError(shown(path), "is there already and was not made here.", fix="Name an empty folder for the copies.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return True
