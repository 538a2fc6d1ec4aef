"""This process, one job after the other."""

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Literal

from dreambooth.bench.executors.attempt import Trouble, attempt
from dreambooth.bench.executors.base import Executor, Keep
from dreambooth.bench.executors.slots import Begun, Pool, Slot, drive
from dreambooth.bench.job import Event, Job, JobProgress, Row, Work

NAME = "bench job "


class Inline(Executor):
    """This process, one job after the other."""

    kind: Literal["inline"] = "inline"

    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None) -> Iterator[Event]:
        """The jobs' events as they come; the work runs in a thread, so that it can be told to stop while it computes."""
        return drive(jobs, _Here(work, keep), retries=0)


def is_at_work() -> bool:
    """Whether a job of this process still computes: after a second Ctrl-C, say."""
    return any(thread.name.startswith(NAME) for thread in threading.enumerate())


class _Here(Pool):
    """One slot, which is a thread of this process."""

    def __init__(self, work: Work, keep: Keep | None):
        self.work, self.keep = work, keep

    def share(self, job: Job) -> float:
        return 0.0

    def limit(self, share: float) -> int:
        return 1

    def open(self, share: float) -> Slot:
        return _Thread(self.work, self.keep)

    def wait(self, slots: list[Slot]) -> None:
        for slot in slots:
            assert isinstance(slot, _Thread)
            slot.has_news.wait(timeout=1.0)


class _Thread(Slot):
    """A job in a thread of its own."""

    def __init__(self, work: Work, keep: Keep | None):
        self.work, self.keep = work, keep
        self.stop, self.has_news = threading.Event(), threading.Event()
        self.words: SimpleQueue[JobProgress | Row | Trouble | Begun] = SimpleQueue()

    def give(self, job: Job) -> None:
        self._say(Begun("here"))
        threading.Thread(target=self._do, args=(job,), daemon=True, name=f"{NAME}{job.key}").start()

    def news(self) -> Iterator[Begun | JobProgress | Row | Trouble]:
        self.has_news.clear()
        while True:
            try:
                word = self.words.get_nowait()
            except Empty:
                return
            yield word

    def ask_to_stop(self) -> None:
        self.stop.set()

    def end(self) -> None:
        self.stop.set()  # a thread cannot be ended from outside: the next word of its work ends it

    def _do(self, job: Job) -> None:
        try:
            self._say(attempt(job, self.work, self.keep, tell=self._say, stop=self.stop.is_set))
        except BaseException as error:  # a panic of a library in Rust is no Exception; a thread that ends without a word is waited for
            self._say(Trouble(f"{type(error).__name__}: {error}", "error"))

    def _say(self, word: Begun | JobProgress | Row | Trouble) -> None:
        self.words.put(word)
        self.has_news.set()
