"""Many jobs on a terminal: a bar over all of them, one for each that is under way, and a line for each that has ended."""

import time
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dreambooth.bench.job import Failed, Finished, Job, JobProgress, Row, Started
from dreambooth.bench.run import AlreadyDone
from dreambooth.cli.show import Lasting
from dreambooth.training.records import Message

SHOWN = ("dino", "clip_i", "clip_t", "pres", "div")


class Jobs:
    """Shows a bench's records as they come; without a terminal, plain lines."""

    def __init__(self, count: int | None, *, name: Callable[[Job], str] | None = None, result: Callable[[Row], str] | None = None):
        """`count`: of all jobs, where it is known; `name` and `result` say what a job is called and has come to, in a line."""
        self.name, self.result = name or _name, result or _scores
        self.finished = self.failed = self.there = 0
        self.console = Lasting(highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.bars = Progress(*columns, console=self.console) if self.console.is_terminal else None
        self.tasks: dict[str, TaskID] = {}
        self.names: dict[str, str] = {}
        if self.bars:
            self.bars.start()
            self.all = self.bars.add_task("jobs", total=count)

    def take(self, record: object) -> None:
        """Show one record."""
        if isinstance(record, Message):
            self.say(record.text)
        elif isinstance(record, AlreadyDone):
            self.there = record.count
            self._counted()
        elif isinstance(record, Started):
            self._started(record)
        elif isinstance(record, JobProgress):
            self._moved(record)
        elif isinstance(record, Finished):
            self.finished += 1
            self._ended(record.job, f"{self.result(record.row)} ({record.row.seconds.get('everything', 0):.0f} s)")
        elif isinstance(record, Failed):
            self.failed += 1
            self._ended(record.job, f"FAILED: {record.reason}")

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text, markup=False)

    def close(self) -> None:
        """Stop drawing."""
        if self.bars:
            self.bars.stop()

    def _started(self, started: Started) -> None:
        self.names[started.job.key] = self.name(started.job)
        if self.bars and started.job.key not in self.tasks:
            self.tasks[started.job.key] = self.bars.add_task(self.name(started.job), total=None)

    def _moved(self, moved: JobProgress) -> None:
        if self.bars and moved.key in self.tasks:
            words = f"{self.names[moved.key]}: {moved.phase}"
            self.bars.update(self.tasks[moved.key], description=words, completed=moved.done, total=moved.total or None)

    def _ended(self, job: Job, words: str) -> None:
        done = self.finished + self.failed
        self.say(f"{time.strftime('%H:%M:%S')} {done} {self.name(job)}: {words}")
        if self.bars and job.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(job.key))
        self._counted()

    def _counted(self) -> None:
        if self.bars:
            self.bars.update(self.all, completed=self.there + self.finished + self.failed)


def _name(job: Job) -> str:
    return f"{job.arm}, {job.subject}, seed {job.seed}"


def _scores(row: Row) -> str:
    return " ".join(f"{name} {row.scores[name]['value']:.3f}" for name in SHOWN if name in row.scores)
