"""Several files and folders that replace others together: after any interruption all are the old ones, or all become the new ones."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import beside, flush_folder, settle, unfinished
from dreambooth.files.disk import disk_errors

INCOMING = ".incoming"
"""New entries that count already and are on their way to their places."""


@contextmanager
def whole_entries(folder: Path) -> Iterator[Path]:
    """A temporary folder whose entries take their places in `folder` when the block ends well; other entries there stay.

    One rename decides. What an interruption leaves on the way after it, `finish_entries` brings to its place.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        finish_entries(folder)
        partial = beside(folder / "entries", Path.mkdir)
        with unfinished(partial, folder):
            yield partial
            settle(partial)
            partial.rename(folder / INCOMING)
            flush_folder(folder)
            finish_entries(folder)


def finish_entries(folder: Path) -> bool:
    """Bring to their places what `whole_entries` was interrupted at; returns whether there was anything. Again does no harm.

    Raises SettingError for a link in the place of that folder: what it leads to would be moved away from there.
    """
    incoming = folder / INCOMING
    if incoming.is_symlink():
        raise SettingError(str(incoming), "is a link, which no result is; nothing is moved through it.", fix="Delete the link.")
    if not incoming.is_dir():
        return False
    for entry in sorted(incoming.iterdir()):
        place = folder / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        entry.replace(place)
    incoming.rmdir()
    flush_folder(folder)
    return True
