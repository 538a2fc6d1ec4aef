"""A local folder and its copy on shared storage (`s3://bucket/bench/KEY`, or whatever else fsspec knows).

Files are sent in the order in which they were written. So what is on the storage at any moment is what a process killed a little earlier
would have left on its disk, and going on from there needs no rules of its own. A checkpoint counts once all of it has been sent.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from dreambooth.core.errors import RunError, SettingError, first_line, redacted
from dreambooth.files.atomic import whole_file
from dreambooth.files.leftovers import PREFIX
from dreambooth.files.places import is_inside, is_plain_name, remove

SECONDS_BETWEEN_PASSES = 1.0
WHOLE = ".whole"
"""Sent last into a checkpoint's folder; one without it is not fetched."""
SENDING = f"{PREFIX}sending"
TRIES = 3

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass(frozen=True, order=True)
class _File:
    """A file as a walk found it; in order of time."""

    written_ns: int
    path: str
    """Relative, with forward slashes."""
    num_bytes: int
    inode: int


class Mirror:
    """The copy at `url` of the folder `near`; one worker at a time writes it."""

    def __init__(self, near: Path, url: str):
        self.near, self.url = near, url
        self.files, self.root = open_url(url)
        self.sent: dict[str, _File] = {}
        self.folders: set[str] = set()

    def fetch(self) -> None:
        """Bring everything near; remains of checkpoints that were never sent whole are cleared away."""
        paths = tried(self.url, self._far)
        whole = {unit(path) for path in paths if path.endswith(f"/{WHOLE}")}
        for path in paths:
            if unit(path) != path and unit(path) not in whole:
                self._remove(path)
            elif not path.endswith(f"/{WHOLE}"):
                if not all(map(is_plain_name, path.split("/"))):
                    raise RunError(f"{self.url} holds a file that is named {path!r}, which leads out of its folder. Delete it.")
                place = self.near / path
                place.parent.mkdir(parents=True, exist_ok=True)
                tried(self.url, lambda path=path, place=place: self.files.get_file(self._place(path), str(place)))
        self.sent = {file.path: file for file in self._walk()}

    @contextmanager
    def sending(self) -> Iterator[None]:
        """A block during which what is new is sent every second, and after which all of it is there."""
        over = threading.Event()

        def keep_sending() -> None:
            while not over.wait(SECONDS_BETWEEN_PASSES):
                try:
                    self.send()
                except Exception as error:  # the next pass tries again, and the last one tells
                    log.warning("%s cannot be written at the moment: %s", redacted(self.url), first_line(error))

        thread = threading.Thread(target=keep_sending, daemon=True, name="bench mirror")
        thread.start()
        try:
            yield
        except BaseException:
            over.set()
            thread.join()
            try:
                tried(self.url, self.send)
            except RunError as error:  # the error that brought us here is the one to tell
                log.warning("%s", error)
            raise
        over.set()
        thread.join()
        tried(self.url, self.send)

    def send(self) -> None:
        """One pass: what is new or has changed, oldest first, a checkpoint's files together; then what is gone here goes there."""
        found = self._walk()
        units: dict[str, list[_File]] = {}
        for file in found:
            if self.sent.get(file.path) != file:
                units.setdefault(unit(file.path), []).append(file)
        for name, files in sorted(units.items(), key=lambda pair: max(file.written_ns for file in pair[1])):
            if not self._send_unit(name, files):
                return  # it was replaced after the walk: to keep the order, the next pass goes on from here
        gone = set(self.sent) - {file.path for file in found}
        for name in {unit(path) for path in gone} - gone:
            self._remove(f"{name}/{WHOLE}")
        for path in gone:
            self._remove(path)
            del self.sent[path]

    def _send_unit(self, name: str, files: Iterable[_File]) -> bool:
        is_checkpoint = all(file.path != name for file in files)
        if not is_checkpoint:
            return self._send_files(self.near, files)
        try:
            held = self._held(files)
            if held is None:
                return False
            self._remove(f"{name}/{WHOLE}")
            if not self._send_files(held, files):
                return False
            self.files.pipe_file(self._place(f"{name}/{WHOLE}"), b"")
            return True
        finally:
            with suppress(OSError):
                remove(self.near / SENDING, root=self.near)

    def _send_files(self, near: Path, files: Iterable[_File]) -> bool:
        """Send files as the walk saw them; False when one has been replaced since."""
        for file in files:
            try:
                with (near / file.path).open("rb") as source:
                    if os.fstat(source.fileno()).st_ino != file.inode:
                        return False
                    self._put(source, file.path)
            except FileNotFoundError:
                return False
            self.sent[file.path] = file
        return True

    def _held(self, files: Iterable[_File]) -> Path | None:
        """A folder with second names of a checkpoint's files, so that training may replace it while it is sent; None where it has.

        Sending may take longer than training takes to the next checkpoint: none would ever arrive whole. A disk that knows no second
        names has the files themselves.
        """
        place = self.near / SENDING
        with suppress(OSError):
            remove(place, root=self.near)
        try:
            for file in files:
                (place / file.path).parent.mkdir(parents=True, exist_ok=True)
                os.link(self.near / file.path, place / file.path)
        except FileNotFoundError:
            return None
        except OSError:
            return self.near
        return place

    def _put(self, source: IO[bytes], path: str) -> None:
        put(self.files, self._place(path), source, self.folders)

    def _remove(self, path: str) -> None:
        try:
            self.files.rm_file(self._place(path))
        except FileNotFoundError:
            return

    def _place(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}"

    def _far(self) -> list[str]:
        """Relative paths of all files on the storage."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(self.root)
        except FileNotFoundError:
            return []
        paths = [path.removeprefix(self._place("")) for path in found]
        return [path for path in paths if not _is_partial(path)]

    def _walk(self) -> list[_File]:
        """All files here in order of time, as they stood at one moment: two walks that agree on what there is."""
        before, now = None, self._look()
        while before is None or [(file.path, file.inode) for file in before] != [(file.path, file.inode) for file in now]:
            before, now = now, self._look()
        return sorted(before)

    def _look(self) -> list[_File]:
        found: list[_File] = []
        for folder, _, names in os.walk(self.near):
            for name in names:
                path = Path(folder) / name
                relative = path.relative_to(self.near).as_posix()
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                is_away = path.is_symlink() and not is_inside(path, self.near)
                if not _is_partial(relative) and not is_away:
                    found.append(_File(state.st_mtime_ns, relative, state.st_size, state.st_ino))
        return sorted(found, key=lambda file: file.path)


def unit(path: str) -> str:
    """The checkpoint that a file is part of, which is of use as a whole only; else the file itself."""
    folders = PurePosixPath(path).parents
    return next((str(folder) for folder in folders if folder.name.startswith("checkpoint-")), path)


def put(files: Any, place: str, source: IO[bytes], known_folders: set[str]) -> None:
    """A file on a storage, whole or not at all."""
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        with whole_file(Path(place)) as partial, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        return
    folder = place.rpartition("/")[0]
    if folder not in known_folders:
        files.makedirs(folder, exist_ok=True)
        known_folders.add(folder)
    with files.open(place, "wb") as target:  # object stores show a file when it is closed, not before
        shutil.copyfileobj(source, target, 2**22)


def open_url(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path there; raises SettingError for one that nothing here can open."""
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        fix = "Install fsspec's package for it on every machine, such as s3fs, gcsfs or adlfs."
        raise SettingError("--storage", f"{url} cannot be opened: {first_line(error)}.", fix=fix) from None
    return files, root


def tried(url: str, action: Callable[[], Answer]) -> Answer:
    """The action's result, tried a few times, since networks stumble; a storage that stays away is a RunError."""
    for number in range(TRIES):
        try:
            return action()
        except Exception as error:
            if number + 1 == TRIES:
                what = f"{type(error).__name__}: {first_line(error)}"
                raise RunError(f"{url} cannot be used, tried {TRIES} times: {what}. What was finished is kept.") from error
            time.sleep(4.0**number)
    raise AssertionError("one of the tries returns or raises")


def _is_partial(path: str) -> bool:
    return any(part.startswith(PREFIX) for part in path.split("/"))
