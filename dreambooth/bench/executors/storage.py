"""A job's folders near, while it is done. A folder with "://" is on shared storage, one without it is used where it is."""

import fcntl
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from dreambooth.bench.executors.mirror import Mirror
from dreambooth.bench.job import Job
from dreambooth.core.errors import SettingError
from dreambooth.files.places import private_folder, remove

ORPHAN_SECONDS = 30.0
"""A worker whose bench has died lives half as long."""


def is_url(folder: str) -> bool:
    """Whether a folder is on shared storage, and no path of this machine."""
    return "://" in folder


@contextmanager
def localised(job: Job) -> Iterator[Job]:
    """The same job with its folders on this machine; what it leaves, even by an error, is in its place when the block ends."""
    if is_url(job.shared):
        job = replace(job, shared=str(_own_shared(job.shared)))
    with _photos(job) as job:
        if not is_url(job.folder):
            with _after_orphans(Path(job.folder)):
                yield job
            return
        with _scratch(job.folder) as near:
            mirror = Mirror(near, job.folder)
            mirror.fetch()
            with mirror.sending():
                yield replace(job, folder=str(near))


@contextmanager
def _photos(job: Job) -> Iterator[Job]:
    """The job with photos that can be opened as files."""
    if not is_url(job.photos):
        yield job
        return
    with _scratch(job.photos) as near:
        Mirror(near, job.photos).fetch()
        if not any(near.iterdir()):
            raise SettingError("photos", f"{job.photos} holds no files.", fix=f"Put the photos of {job.subject} there.")
        yield replace(job, photos=str(near))


@contextmanager
def _after_orphans(folder: Path) -> Iterator[None]:
    """A block that begins when a worker whose bench was killed, and which saves its last checkpoint, has left the job's folder.

    Where the folder cannot be made or its disk knows no locks, it begins at once: the work itself tells what is wrong.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder, seconds=ORPHAN_SECONDS))
        yield


def _own_shared(url: str) -> Path:
    """This machine's own folder of what jobs make for one another: each machine makes it once, and nothing of it travels."""
    folder = private_folder(Path(tempfile.gettempdir()) / f"dreambooth-bench-shared-{os.getuid()}") / _digest(url)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:12]


@contextmanager
def _scratch(url: str) -> Iterator[Path]:
    """An empty folder of this machine (under TMPDIR), gone afterwards; what killed workers have left there is cleared, too."""
    home = private_folder(Path(tempfile.gettempdir()) / f"dreambooth-bench-{os.getuid()}")
    with _locked(home, seconds=math.inf):  # so that nobody clears a folder which is not yet locked
        for old in home.iterdir():
            with _locked(old) as is_free:
                if is_free:
                    _clear(old, home)
        folder = Path(tempfile.mkdtemp(prefix=_digest(url) + "-", dir=home))
        lock = _locked(folder)
        lock.__enter__()
    try:
        (folder / "work").mkdir()
        yield folder / "work"
    finally:
        _clear(folder, home)
        lock.__exit__(None, None, None)


def _clear(folder: Path, home: Path) -> None:
    with suppress(OSError):  # the next one tries again
        remove(folder, root=home)


@contextmanager
def _locked(folder: Path, *, seconds: float = 0.0) -> Iterator[bool]:
    """Hold a folder's lock, which the system drops when its holder dies; False where somebody else still holds it after so long."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # it is gone, or no folder of ours
        yield False
        return
    try:
        yield _got(handle, until=time.monotonic() + seconds)
    finally:
        os.close(handle)


def _got(handle: int, *, until: float) -> bool:
    """Whether a lock was to be had until then; raises OSError where the disk knows none."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)
