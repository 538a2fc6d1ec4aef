"""One at a time: a lock on a file, which the system lets go when its holder dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import writable_folder
from dreambooth.files.places import open_itself
from dreambooth.files.reading import parse_json


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A block that only one process is in; others wait for their turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_itself(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A block in which this bench is the only one on an output folder; raises SettingError naming the other one."""
    writable_folder(folder, "--output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    with open_itself(folder / ".bench.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "Wait for it, stop it, or choose another folder; finished rows can be copied from rows/ to rows/."
            raise SettingError("--output_dir", f"another bench is at work on {folder} ({_holder(file)}).", fix=fix) from None
        except OSError as error:
            reason = f"{folder} lies where files cannot be locked ({error.strerror}), so two benches could be at work on it."
            raise SettingError("--output_dir", reason, fix="Choose a folder of this machine.") from None
        file.truncate(0)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        file.write(json.dumps(holder))
        file.flush()
        yield


def _holder(file: IO[str]) -> str:
    """Who holds a lock, as it says itself."""
    file.seek(0)
    try:
        holder = parse_json(file.read(10_000))
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):
        return "it has not said who it is"
