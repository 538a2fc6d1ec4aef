"""The other end on a Ray cluster: an actor that does one job at a time, and can be asked how far it is while it computes."""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from dreambooth.bench.executors.attempt import Trouble, attempt
from dreambooth.bench.executors.base import Keep
from dreambooth.bench.executors.slots import Begun
from dreambooth.bench.job import Job, JobProgress, Row, Work

TOKEN = ".bench-seen-"
SECONDS_BETWEEN_NEWS = 0.5
SECONDS_TO_SEE = 60.0
"""How long a network disk may take to show a file that another machine has just written."""


class JobActor:
    """An actor: `do` runs in one of its threads, `news` and `stop` in others."""

    def __init__(self, work: Work, keep: Keep | None, at: str = "", has_gpu: bool = True):
        self.work, self.keep = work, keep
        if not has_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all of a machine's GPUs in sight of an actor that has asked for none
        if at and Path(at).is_dir():
            os.chdir(at)  # relative paths then mean what they mean where the bench was started
        self.asked = threading.Event()
        self.lock, self.woken = threading.Lock(), threading.Event()
        self.begun: Begun | None = None
        self.moved: JobProgress | None = None

    def do(self, job: Job, token: str) -> Row | Trouble:
        """The job's row, or what went wrong. `token` is a file in the job's folder where that is on a disk that this machine shares."""
        with self.lock:
            self.begun = Begun(_here())
            self.woken.set()
        if token and not _is_seen(Path(job.folder) / token):
            return Trouble(
                f"--output_dir: {job.folder} is not the same folder on the worker's machine as where the bench was started. "
                "Use a disk that all machines share, or --storage with a URL such as s3://bucket/bench.",
                "request",
            )
        try:
            return attempt(job, self.work, self.keep, tell=self._tell, stop=self.asked.is_set)
        finally:
            self.woken.set()

    def news(self, *, patient: bool = True) -> list[Begun | JobProgress]:
        """What has happened since the last time: the beginning, told at once, and of all moves the last, told twice a second."""
        self.woken.wait(timeout=SECONDS_BETWEEN_NEWS if patient else 0.0)
        with self.lock:
            self.woken.clear()
            news = [word for word in (self.begun, self.moved) if word]
            self.begun = self.moved = None
        return news

    def stop(self) -> None:
        """Let the present job save and end."""
        self.asked.set()

    def _tell(self, moved: JobProgress) -> None:
        with self.lock:
            self.moved = moved


def _here() -> str:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"{socket.gethostname()}, {f'GPU {gpu}' if gpu else 'CPU'}"


def _is_seen(path: Path) -> bool:
    """Whether the file is there."""
    until = time.monotonic() + SECONDS_TO_SEE
    while time.monotonic() < until:
        with suppress(OSError):  # a network disk has its moods
            if path.exists():
                with suppress(OSError):
                    path.unlink()
                return True
        time.sleep(0.2)
    return False
