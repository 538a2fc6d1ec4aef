"""What the system says about disks, files and homes, in one sentence: what failed, at which file, what is whole, what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.core.errors import DreamboothError, RunError
from dreambooth.files.leftovers import PREFIX

EARLIER = "Files that were finished before are whole."
SENTENCES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("The disk is full: {file} was not written.", "Free some space, and start again."),
    errno.EDQUOT: ("Your quota of this disk is used up: {file} was not written.", "Free some space, and start again."),
    errno.EFBIG: ("{file} may not become as large as it has to be.", "Raise this shell's limit (ulimit -f), or use another disk."),
    errno.EROFS: ("{file} lies on a disk that can only be read.", "Choose another folder, or mount the disk for writing."),
    errno.EIO: ("The disk fails at {file} (input/output error).", "Ask the system's log about it, and go on from a copy elsewhere."),
    errno.ESTALE: ("The network disk has lost {file} (stale file handle).", "Mount it anew, and start again."),
    errno.EACCES: ("{file} may not be read or written (permission denied).", "Give yourself the right, or choose another folder."),
    errno.EPERM: ("{file} may not be changed (the system does not permit it).", "Choose another folder."),
    errno.ENAMETOOLONG: ("The name of {file} is too long for its disk.", "Choose shorter names."),
    errno.EMFILE: ("Too many files are open for {file}.", "Raise this shell's limit (ulimit -n)."),
    errno.ENFILE: ("The system has too many files open for {file}.", "Close other programs."),
    errno.ELOOP: ("{file} is a link, and nothing is written through it.", "Remove it."),
    errno.ENOENT: ("{file} is not there.", "Somebody may have moved or deleted it: put it back, or name another."),
}
NO_INODES = "The disk has room, but takes no more files, for all its inodes are in use: {file} was not written."
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)
"""After which people ask what is left."""
FAILING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""What no file or model can be blamed for, however deep inside a library it happened."""
BY_LIBRARY = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust say it."""
LONGEST = 200


def in_words(error: BaseException, path: Path | None = None) -> RunError | None:
    """What a disk has said, also through a library, as a RunError; None for an error of another kind.

    `path` is what was being written, for calls of the system that do not know the name.
    """
    found = _number(error)
    if found is None:
        return _home(error)
    number, cause = found
    name = getattr(cause, "filename", None)
    own = name if isinstance(name, str) and PREFIX not in name else path
    file = _cut(str(own)) if own else "a file"
    what, fix = SENTENCES.get(number, (f"{{file}}: {os.strerror(number)}.", ""))
    if number == errno.ENOSPC and _has_no_inodes(Path(own) if own else Path()):
        what = NO_INODES
    sentence = what.format(file=file)
    parts = (sentence if own else sentence[:1].upper() + sentence[1:], EARLIER if number in WRITING else "", fix)
    return RunError(" ".join(filter(None, parts)))


def failing(error: BaseException, path: Path | None = None) -> RunError | None:
    """The same, but for what a disk says of files that are not there or not as they should be: those have better words elsewhere."""
    found = _number(error)
    return in_words(error, path) if found and found[0] in FAILING else None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A block that writes `path`: what the disk says is raised as a RunError, everything else as it is."""
    try:
        yield
    except DreamboothError:
        raise
    except Exception as error:
        problem = in_words(error, path)
        if problem is None:
            raise
        raise problem from error


def _number(error: BaseException) -> tuple[int, BaseException] | None:
    """The system's number, and the error that has it: this one, one that it was raised from, or a failing disk on the way to it."""
    on_purpose, seen = True, error
    while seen is not None:
        number = _own_number(seen)
        if number is not None and (on_purpose or number in FAILING):
            return number, seen
        on_purpose = on_purpose and seen.__cause__ is not None
        seen = seen.__cause__ or seen.__context__
    return None


def _own_number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return error.errno
    said = None if isinstance(error, OSError) else BY_LIBRARY.search(str(error))
    return int(said[1]) if said and int(said[1]) in errno.errorcode else None


def _home(error: BaseException) -> RunError | None:
    """A home that is not known: of `~name`, or of a user without HOME and without an entry in the system's list."""
    text = str(error)
    if "home directory" in text and isinstance(error, RuntimeError):
        return RunError("A path begins with ~, and there is no such user, or HOME is not set. Set HOME, or give the path in full.")
    if "uid not found" in text and isinstance(error, KeyError | OSError):
        return RunError("The system does not know this user: its number has no name. Set USER and HOME.")
    return None


def _has_no_inodes(path: Path) -> bool:
    """Whether the disk of a path could hold more bytes, but no more files; some disks do not count files."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except (OSError, AttributeError):
        return False
    return found.f_files > 0 and found.f_favail == 0


def _cut(name: str) -> str:
    """A name fit for a line of a terminal."""
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST // 2]} ... {plain[-LONGEST // 2 :]}"
