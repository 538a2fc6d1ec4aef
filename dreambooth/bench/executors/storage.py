"""A job's folders near, while it is done; and a bench whose machines share no disk but a storage.

A folder with "://" is on a storage, one without it is used where it is. What is on a storage is brought at the start of a job; what is
new goes there whenever a checkpoint is saved, and at the end, with the job's row in it: a folder is one tar file there, which is replaced
as a whole.
"""

import getpass
import hashlib
import logging
import os
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from filelock import FileLock

from dreambooth.bench.executors.base import Keep
from dreambooth.bench.job import Event, Failed, Finished, Job
from dreambooth.core.errors import DreamboothError, RunError, SettingError, first_line
from dreambooth.files.atomic import whole_file, writable_folder
from dreambooth.files.digests import tree_digest
from dreambooth.files.leftovers import PREFIX, prefix, sweep
from dreambooth.files.locks import LOCK
from dreambooth.files.places import is_inside, private_folder, remove

TRIES = 3
ORPHAN_SECONDS = 30.0
"""A worker whose bench has died is gone sooner."""
AT_A_TIME = 4
"""Finished jobs that are brought home at a time, while others go on."""

log = logging.getLogger(__name__)
Rest = ParamSpec("Rest")
Answer = TypeVar("Answer")


def is_url(folder: str) -> bool:
    """Whether a folder is on shared storage, and no path of this machine."""
    return "://" in folder


@contextmanager
def near(job: Job) -> Iterator[tuple[Job, Callable[[], None]]]:
    """The same job with its folders on this machine, and what sends its new files to where they are kept.

    What the job leaves, even by an error, is in its place when the block ends. Raises SettingError for folders that cannot be used.
    """
    with ExitStack() as held:
        if is_url(job.shared):  # what jobs make for one another does not travel: each machine makes it once
            own = private_folder(_temporary("shared")) / hashlib.sha256(job.shared.encode()).hexdigest()[:12]
            own.mkdir(mode=0o700, exist_ok=True)
            job = replace(job, shared=str(own))
        if is_url(job.photos):
            photos = held.enter_context(_scratch())
            if not fetch(job.photos, photos):
                raise SettingError("photos", f"{job.photos} is not there.", fix=f"Put the photos of {job.subject} there.")
            job = replace(job, photos=str(photos))
        if not is_url(job.folder):
            _after_orphans(Path(job.folder), held)
            yield job, lambda: None
            return
        folder = held.enter_context(_scratch())
        fetch(job.folder, folder)

        def try_to_send() -> None:
            try:
                send(job.folder, folder)
            except RunError as error:  # the next time sends it, too
                log.warning("%s", error)

        try:
            yield replace(job, folder=str(folder)), try_to_send
        except BaseException:
            try_to_send()  # the error that brought us here is the one to tell
            raise
        send(job.folder, folder)


def retried(action: Callable[Concatenate[str, Rest], Answer]) -> Callable[Concatenate[str, Rest], Answer]:
    """An action on a URL, tried a few times, since networks stumble; a storage that stays away is a RunError."""

    @wraps(action)
    def tried(url: str, /, *rest: Rest.args, **options: Rest.kwargs) -> Answer:
        for number in range(TRIES):
            try:
                return action(url, *rest, **options)
            except SettingError:
                raise
            except Exception as error:
                if number + 1 == TRIES:
                    what = f"{type(error).__name__}: {first_line(error)}"
                    raise RunError(f"{url} cannot be used, tried {TRIES} times: {what}. What was finished is kept.") from error
                time.sleep(4.0**number)
        raise AssertionError("one of the tries returns or raises")

    return tried


@retried
def send(url: str, folder: Path) -> None:
    """A folder as one file on a storage, whole or not at all. Half-written files and links that lead out of it stay."""
    with _written(url) as target, tarfile.open(fileobj=target, mode="w|", dereference=True) as tar:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if is_inside(path, folder) and not any(part.startswith(PREFIX) or part == LOCK for part in name.parts):
                tar.add(path, name, recursive=False)


@retried
def fetch(url: str, folder: Path) -> bool:
    """Bring what was sent into a folder; False where there is nothing."""
    files, place = open_url(url)
    if not files.exists(place):
        return False
    with files.open(place, "rb") as source, tarfile.open(fileobj=source, mode="r|") as tar:
        tar.extractall(folder, filter="data")  # no name or link in it leads out of the folder
    return True


@dataclass(frozen=True)
class Storage:
    """What is where on a storage: jobs/KEY.tar and photos/DIGEST.tar."""

    url: str
    sent: set[str] = field(default_factory=set, compare=False, repr=False)
    """Photos that this bench has sent already: many jobs learn from the same."""

    def away(self, job: Job) -> Job:
        """The job as other machines can do it; its photos are sent unless they are on a storage already."""
        photos = Path(job.photos)
        if not is_url(job.photos) and photos.is_dir():
            job = replace(job, photos=_photos_url(self.url, photos))
            if job.photos not in self.sent:
                send(job.photos, photos)
                self.sent.add(job.photos)
        return replace(job, folder=_job_url(self.url, job.key), shared=f"{self.url.rstrip('/')}/shared")

    def brought(self, events: Generator[Event, None, None], keep: Keep | None) -> Generator[Event, None, None]:
        """The same events; a job is `Finished` when what it has left is here."""
        coming = deque[Future[Event]]()
        pool = ThreadPoolExecutor(AT_A_TIME)
        try:
            for event in events:
                if isinstance(event, Finished):
                    coming.append(pool.submit(self._bring, event, keep))
                else:
                    yield event
                while coming and (coming[0].done() or len(coming) > 2 * AT_A_TIME):
                    yield coming.popleft().result()
            yield from (one.result() for one in coming)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # stopped early: all is on the storage, and the next start brings it
            events.close()

    def _bring(self, finished: Finished, keep: Keep | None) -> Event:
        """What a job has left, in its folder here, and its row; the storage keeps its copy."""
        job = finished.job
        try:
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            fetch(_job_url(self.url, job.key), Path(job.folder))
            if keep:
                keep(finished.row)
        except (DreamboothError, OSError) as error:
            return Failed(job, f"It is finished, but could not be brought here: {error} Start the bench again to bring it.", "run")
        return finished


def forget(url: str, keys: Iterable[str], photos: Path) -> None:
    """Delete what a storage keeps of some jobs and of a folder of photos; raises RunError where it does not answer."""
    for key in keys:
        _delete(_job_url(url, key))
        _delete(f"{url.rstrip('/')}/rows/{key}.json")  # an earlier version put rows beside the folders
    if photos.is_dir():
        _delete(_photos_url(url, photos))


@retried
def _delete(url: str) -> None:
    files, place = open_url(url)
    if files.exists(place):
        files.rm(place)


def _job_url(url: str, key: str) -> str:
    return f"{url.rstrip('/')}/jobs/{key}.tar"


def _photos_url(url: str, photos: Path) -> str:
    """Where the photos of a folder lie on a storage: by their bytes, so that many jobs share them."""
    digest = tree_digest(photos, (path for path in photos.rglob("*") if path.is_file() and is_inside(path, photos)))
    return f"{url.rstrip('/')}/photos/{digest[:16]}.tar"


def open_url(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, as it is now, and the path there; raises SettingError for one that nothing here can open."""
    from fsspec.core import url_to_fs

    try:
        files, place = url_to_fs(url)
    except (ImportError, ValueError) as error:
        fix = "Install fsspec's package for it on every machine, such as s3fs, gcsfs or adlfs."
        raise SettingError("--storage", f"{url} cannot be opened: {first_line(error)}.", fix=fix) from None
    files.invalidate_cache()
    return files, place


@contextmanager
def _written(url: str) -> Iterator[IO[bytes]]:
    """A file on a storage, open to be written; it takes the place of the one before when the block ends well, and not otherwise."""
    files, place = open_url(url)
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        with whole_file(Path(place)) as partial, partial.open("wb") as target:
            yield target
        return
    files.makedirs(place.rpartition("/")[0], exist_ok=True)
    with files.transaction, files.open(place, "wb") as target:
        yield target


def _after_orphans(folder: Path, held: ExitStack) -> None:
    """Make a job's folder and hold its lock: a worker whose bench was killed may be leaving it just now."""
    writable_folder(folder, "--output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # its disk knows no locks, or somebody stays: the work itself says what is wrong then
        held.enter_context(FileLock(folder / LOCK, timeout=ORPHAN_SECONDS, thread_local=False))


def _temporary(name: str) -> Path:
    """This user's own folder of that name for all benches of this machine."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"dreambooth-bench-{name}-{user}"


@contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder of this machine (under TMPDIR), gone afterwards; what killed workers have left there is cleared, too."""
    home = private_folder(_temporary("work"))
    sweep(home)
    folder = Path(tempfile.mkdtemp(prefix=prefix(), dir=home))
    try:
        (folder / "work").mkdir()
        yield folder / "work"
    finally:
        with suppress(OSError):  # the next one tries again
            remove(folder, root=home)
