"""One at a time: locks on files, which the system releases when their holder dies, however it dies."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import writable_folder, write_json
from dreambooth.files.folders import tidy
from dreambooth.files.leftovers import sweep

DEPTH = 4
"""How far below its folder a command may write files: `samples/evaluation/untuned/` is three."""
LOCK, HOLDER = ".dreambooth.lock", ".dreambooth.lock.json"
"""In a folder that is worked on: the lock, and who holds it (Windows lets nobody else read a locked file)."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A block that only one process is in; others wait for their turn. The lock file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, thread_local=False):
        yield


def waiting_for(lock: FileLock, *, seconds: float = 1.0) -> Iterator[None]:
    """Take a lock; yields every now and then while somebody else holds it, and ends with the lock held."""
    while True:
        try:
            lock.acquire(timeout=seconds)
            return
        except Timeout:
            yield


def is_held(folder: Path) -> bool:
    """Whether somebody is at work in a folder; where that cannot be asked, it may be."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0, thread_local=False):
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def claimed(folder: Path, verb: str, *, setting: str = "--output_dir") -> Iterator[None]:
    """A block in which no other process trains, evaluates or exports in `folder`; the folder is made where it is missing.

    Raises SettingError, which says who is at work there, since when and at what. A folder that was made here and in which nothing was
    written is removed again.
    """
    is_new = not folder.exists()
    writable_folder(folder, setting)
    with tidy(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            fix = "Wait for it, stop it, or choose another folder."
            raise SettingError(setting, f"{folder} is in use: {_holder(folder)}.", fix=fix) from None
        except OSError as error:
            reason = f"{folder} lies where files cannot be locked ({error.strerror or error})."
            raise SettingError(setting, reason, fix="Choose a folder on a disk of this machine.") from None
        try:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            sweep(folder, levels=DEPTH)
            write_json(folder / HOLDER, {"command": verb, "pid": os.getpid(), "host": socket.gethostname(), "since": now})
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)
            if is_new and {path.name for path in folder.iterdir()} <= {LOCK}:
                with suppress(PermissionError):  # Windows deletes no open file, and this one itself when it is released
                    (folder / LOCK).unlink(missing_ok=True)
            lock.release()


def forget_dead_holder(folder: Path) -> None:
    """Take away what a killed command has left of its claim, where nobody is at work; a folder that is only read stays as it is."""
    if not (folder / HOLDER).exists():
        return
    with suppress(Timeout, OSError), FileLock(folder / LOCK, timeout=0, thread_local=False):
        (folder / HOLDER).unlink(missing_ok=True)


def _holder(folder: Path) -> str:
    """Who holds the lock of a folder, as it says itself."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        since = datetime.fromisoformat(holder["since"]).astimezone().strftime("%H:%M on %d %B")
        return f"`dreambooth {holder['command']}` has been at work there since {since} (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another dreambooth command is at work there"
