"""One attempt at a job, the same in every place: folders brought near, work done, its row kept, or the reason why there is none."""

import sys
import traceback
from collections.abc import Generator
from pathlib import Path

from dreambooth.bench.executors.base import Keep
from dreambooth.bench.executors.storage import is_url, near
from dreambooth.bench.job import Failed, Finished, Job, JobProgress, Row, Stop, Work
from dreambooth.core.errors import DreamboothError, Interrupted, SettingError, first_line, redacted
from dreambooth.files.atomic import write_text
from dreambooth.files.disk import failing, in_words

LAST_MOVES = 4
"""Moves that a job may still make after it was asked to stop: time for a training to reach its own check, and to save."""


def attempt(job: Job, work: Work, keep: Keep | None, stop: Stop) -> Generator[JobProgress, None, Finished | Failed | None]:
    """Do the job once. Its row is kept before it is returned, and after everything that the job leaves is in its place.

    Closed, it lets the job save, as when `stop` says so; returns None for a job that was stopped before its end.
    """
    is_closed = False
    try:
        with near(job) as (own, send):
            moves, left = work(own, lambda: is_closed or stop()), LAST_MOVES
            while True:
                try:
                    moved = next(moves)
                except StopIteration as done:
                    row: Row = done.value
                    break
                if moved.saved:
                    send()
                left -= is_closed or stop()
                if left < 0:
                    moves.close()
                    return None
                if not is_closed:
                    try:
                        yield moved
                    except GeneratorExit:
                        is_closed = True
        if keep:
            keep(row)
        return Finished(job, row)
    except Interrupted:
        return None
    except SettingError as error:
        return Failed(job, str(error), "request")
    except DreamboothError as error:
        return Failed(job, str(error), "run")
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        return _unforeseen(job, error)


def _unforeseen(job: Job, error: BaseException) -> Failed:
    """What was not raised on purpose: memory and disk in their own words, anything else as a fault whose traceback is kept."""
    from dreambooth.core.device import is_out_of_memory  # torch: a worker's start need not wait for it

    if is_out_of_memory(error):
        return Failed(job, f"Out of memory: {first_line(error)}. Fewer jobs at a time, or a smaller --resolution, need less.", "run")
    problem = in_words(error, Path(job.folder))
    if problem:
        return Failed(job, f"{problem}{'' if failing(error) else _kept(job)}", "run")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"({Path(frame.filename).name}, line {frame.lineno})"
    return Failed(job, f"{type(error).__name__}: {first_line(error)} {where}{_kept(job)}", "error")


def _kept(job: Job) -> str:
    """The traceback beside the job's files, where that is a folder of this machine; where it is, in words."""
    path, text = Path(job.folder) / "traceback.txt", redacted(traceback.format_exc())
    if is_url(job.folder) or not path.parent.is_dir():
        print(text, file=sys.stderr)  # the worker's own log is all there is
        return ""
    try:
        write_text(path, text)
    except (OSError, DreamboothError):
        return ""
    return f"; see {path}"
