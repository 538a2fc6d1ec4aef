"""Records on a terminal: sentences, a bar for everything long; plain lines where there is no terminal."""

import os
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from dreambooth.core.wording import counted, duration
from dreambooth.training import records

WORTH_SAYING = 3.0
"""Seconds from which on it is said how long something took."""


class Done(MofNCompleteColumn):
    """How much is done of how much; of what has no measure, the seconds since it began."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total is not None else Text(duration(task.elapsed or 0.0), style="progress.elapsed")


class Lasting(Console):
    """A console that falls silent when its reader has gone (`| head`), where rich would end the program in the middle of its work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # what is written later finds a place, too


class Terminal:
    """Shows records as they come; `close` leaves the last state on the screen."""

    def __init__(self) -> None:
        self.console = Lasting(highlight=False, soft_wrap=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            Done(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bars = Progress(*columns, console=self.console) if self.console.is_terminal else None
        self.task: tuple[str, TaskID] | None = None
        self.waiting: tuple[str, TaskID, float] | None = None
        """What is being done with no known end, and since when."""
        self.loud = os.environ.get("RANK", "0") == "0"
        self.last_line = 0.0
        self.began: tuple[str, float, int] | None = None
        """The phase of the lines, when it was first seen, and how much was done by then."""
        if self.bars and self.loud:
            self.bars.start()

    def take(self, record: object) -> None:
        """Show one record."""
        if not self.loud:
            return
        self._waited()
        if isinstance(record, records.Waiting) and self.bars:
            self.waiting = (record.text, self.bars.add_task(record.text, total=None, text=""), time.monotonic())
        elif isinstance(record, records.Message):
            self.say(record.text, important=record.important)
        elif isinstance(record, records.Progress):
            self._bar(record.phase, record.done, record.total, "")
        elif isinstance(record, records.Step):
            self._bar("training", record.step, record.total, _numbers(record.values))
        elif isinstance(record, records.Scores):
            self._bar("training", record.step, record.total, "")
        elif isinstance(record, records.Preview):
            self.say(f"{counted(len(record.paths), 'picture')} in {record.paths[0].parent}")
        elif isinstance(record, records.Saved):
            self.say(f"saved {record.path}{f' ({record.why})' if record.why else ''}")

    def say(self, text: str, *, important: bool = False) -> None:
        """A line above the bars."""
        if self.loud:
            self.console.print(text, style="yellow" if important else None, markup=False)

    def close(self) -> None:
        """Stop drawing bars."""
        self._waited()
        if self.bars and self.loud:
            self.bars.stop()

    def _waited(self) -> None:
        """What was waited for has ended: a sentence stays of it, with its seconds where they were many."""
        if self.waiting and self.bars:
            text, task, began = self.waiting
            self.waiting = None
            self.bars.remove_task(task)
            self.bars.refresh()
            took = time.monotonic() - began
            self.say(f"{text} {duration(took)}" if took >= WORTH_SAYING else text)

    def _bar(self, phase: str, done: int, total: int, text: str) -> None:
        if self.bars is None:
            self._line(phase, done, total, text)
            return
        if self.task is None or self.task[0] != phase:
            self.task = (phase, self.bars.add_task(phase, total=total, text=""))
        self.bars.update(self.task[1], completed=done, total=total)
        if text:
            self.bars.update(self.task[1], text=text)

    def _line(self, phase: str, done: int, total: int, text: str) -> None:
        """Without a terminal: a line every ten seconds with the time left, and the last."""
        now = time.monotonic()
        if self.began is None or self.began[0] != phase:
            self.began = (phase, now, done)
        if (text or done == total) and (done == total or now - self.last_line > 10):
            self.last_line = now
            moved = done - self.began[2]
            left = f"{duration((now - self.began[1]) / moved * (total - done))} left" if moved > 0 and done < total else ""
            self.say(" ".join(filter(None, (f"{phase} {done}/{total}", text, left))))


def _numbers(values: dict[str, float]) -> str:
    if not values:
        return ""
    text = [f"loss {values['loss']:.4f}"] if "loss" in values else []
    if "loss_prior" in values:
        text.append(f"(subject {values['loss_subject']:.4f}, prior {values['loss_prior']:.4f})")
    if "images_per_second" in values:
        text.append(f"{values['images_per_second']:.3g} images/s")
    return " ".join(text)
