"""The other end of a worker process: jobs come over a line, events go back, and nobody works on for a caller who has died."""

import os
import signal
import threading
import time
from multiprocessing import connection, parent_process

from dreambooth.bench.executors.attempt import Trouble, attempt
from dreambooth.bench.executors.base import Keep
from dreambooth.bench.executors.slots import GRACE_SECONDS, Begun
from dreambooth.bench.job import Job, JobProgress, Row, Work


def serve(line: connection.Connection, work: Work, keep: Keep | None, where: str) -> None:
    """Do jobs until the line is closed. SIGTERM lets the present one save and end; Ctrl-C is for the one who gave the jobs."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ending_signals():
        signal.signal(number, lambda number, frame: stop.set())
    threading.Thread(target=_watch_caller, args=(stop,), daemon=True).start()

    def say(word: Begun | JobProgress | Row | Trouble) -> None:
        try:
            line.send(word)
        except OSError:
            stop.set()  # the caller has died; its end is seen by the watch, and the job gets the time to save

    while not stop.is_set():
        try:
            job: Job = line.recv()
        except (EOFError, OSError):
            return
        say(Begun(where))
        say(attempt(job, work, keep, tell=say, stop=stop.is_set))


def ending_signals() -> list[int]:
    """Signals that ask a process to end: SIGTERM, and the terminal's good-bye unless it is ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)
    return [signal.SIGTERM, *([hangup] if hangup and signal.getsignal(hangup) is not signal.SIG_IGN else [])]


def _watch_caller(stop: threading.Event) -> None:
    """End this process some time after the caller died: another bench may go on in the same folders."""
    caller = parent_process()
    assert caller, "a worker is a child"
    connection.wait([caller.sentinel])
    stop.set()
    time.sleep(GRACE_SECONDS)
    os._exit(1)
