"""Names of what is half written, and what becomes of it when its writer has died: deleted by the next one who writes there.

A name says who writes: this machine, its present start and its list of processes (8 hexadecimal digits), and the process. So that what
a living process writes, and what other programs call alike, stays.
"""

import hashlib
import os
import re
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from dreambooth.files.places import remove

PREFIX = ".partial-"
"""Files and folders that begin so are not finished, and not read."""
NAME = re.compile(r"\.partial-([0-9a-f]{8})-([1-9][0-9]*)-.+")
DAY = 24 * 60 * 60.0
"""Seconds after which what is half written is nobody's any more: a process's number may have passed to another one."""


def prefix() -> str:
    """How the names of this process's unfinished files begin."""
    return f"{PREFIX}{_machine()}-{os.getpid()}-"


def sweep(folder: Path, *, levels: int = 0) -> None:
    """Delete what processes that are no more have left half written in a folder, and in those inside it down to some levels."""
    for level in range(levels + 1):
        for path in folder.glob("*/" * level + f"{PREFIX}*"):
            if is_left_over(path):
                with suppress(OSError):  # it may be somebody else's, and harms nobody
                    remove(path, root=folder)


def is_left_over(path: Path) -> bool:
    """Whether a file or folder was begun here by a process that is gone, or, where that is not known, more than a day ago."""
    found = NAME.fullmatch(path.name)
    if not found:
        return False
    try:
        written = path.lstat().st_mtime
    except OSError:
        return False
    return time.time() - written > DAY or (found[1] == _machine() and not _is_alive(int(found[2])))


def _is_alive(process: int) -> bool:
    import psutil  # `os.kill(process, 0)` would press Ctrl-C on Windows

    try:
        return psutil.pid_exists(process)
    except OverflowError:  # no process has such a number here: nobody knows whose file it is
        return True


@cache
def _machine() -> str:
    """This machine since its start, as far as its processes can see one another: containers on it have lists of their own."""
    parts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: str(Path("/proc/self/ns/pid").readlink())):
        try:
            parts.append(read())
        except OSError:
            continue
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
