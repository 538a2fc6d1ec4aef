"""One attempt at a job, the same in every place: folders brought near, work done, its row kept, or a word about what went wrong."""

import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreambooth.bench.executors.base import Keep
from dreambooth.bench.executors.bringing import FarRows
from dreambooth.bench.executors.storage import localised
from dreambooth.bench.job import Job, JobProgress, Row, Work
from dreambooth.core.errors import DreamboothError, Interrupted, SettingError, first_line, redacted
from dreambooth.files.atomic import write_text
from dreambooth.files.disk import failing, in_words

LAST_WORDS = 4
"""Moves that a job may still tell after it was asked to stop: time for a training to reach its own check, and to save."""
SECONDS_BETWEEN_MOVES = 0.2

_asked: ContextVar[Callable[[], bool]] = ContextVar("asked_to_stop")


@dataclass(frozen=True)
class Trouble:
    """Why an attempt left no row; the words are those of `Failed`."""

    reason: str
    kind: Literal["request", "run", "error"]


def stopping() -> bool:
    """Whether the job that asks was told to save and stop: what a work function gives `stream.train(..., stop=stopping)`."""
    return _asked.get(lambda: False)()


def attempt(job: Job, work: Work, keep: Keep | None, *, tell: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Row | Trouble:
    """Do the job once. Its row is kept before it is returned, and after everything that the job leaves is in its place."""
    token = _asked.set(stop)
    try:
        if isinstance(keep, FarRows) and (row := keep.find(job.key)):
            return row  # its worker died with the good news on its lips, or the bench did
        with localised(job) as near:
            row = work(near, _Teller(tell, stop))
        if keep:
            keep(row)
        return row
    except SettingError as error:
        return Trouble(str(error), "request")
    except DreamboothError as error:
        return Trouble(str(error), "run")
    except (Exception, SystemExit) as error:
        return _unforeseen(job, error)
    finally:
        _asked.reset(token)


class _Teller:
    """What the work calls: passes on a few moves a second, and ends work that does not end by itself when asked to."""

    def __init__(self, tell: Callable[[JobProgress], None], stop: Callable[[], bool]):
        self.tell, self.stop = tell, stop
        self.last_words = LAST_WORDS
        self.phase, self.due = "", 0.0

    def __call__(self, moved: JobProgress) -> None:
        if self.stop():
            self.last_words -= 1
            if self.last_words < 0:
                raise Interrupted("Stopped; the job goes on from its last checkpoint when the bench is started again.")
        now = time.monotonic()
        if moved.phase != self.phase or moved.done == moved.total or now >= self.due:
            self.phase, self.due = moved.phase, now + SECONDS_BETWEEN_MOVES
            self.tell(moved)


def _unforeseen(job: Job, error: BaseException) -> Trouble:
    """What was not raised on purpose: memory and disk in their own words, anything else as a fault whose traceback is kept."""
    from dreambooth.core.device import is_out_of_memory  # torch: a worker's start need not wait for it

    if is_out_of_memory(error):
        return Trouble(f"Out of memory: {first_line(error)}. Fewer jobs at a time, or a smaller --resolution, need less.", "run")
    problem = in_words(error, Path(job.folder))
    if problem:
        return Trouble(f"{problem}{'' if failing(error) else _kept(job)}", "run")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Trouble(f"{type(error).__name__}: {first_line(error)} ({Path(frame.filename).name}, line {frame.lineno}){_kept(job)}", "error")


def _kept(job: Job) -> str:
    """The traceback beside the job's files, where that is a folder of this machine; where it is, in words."""
    if "://" in job.folder or not Path(job.folder).is_dir():
        print(redacted(traceback.format_exc()), file=sys.stderr)  # the worker's own log is all there is
        return ""
    path = Path(job.folder) / "traceback.txt"
    try:
        write_text(path, redacted(traceback.format_exc()))
    except (OSError, DreamboothError):
        return ""
    return f"; see {path}"
