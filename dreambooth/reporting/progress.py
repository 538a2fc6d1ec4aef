"""`progress.html`: a run while it goes on, its pictures by step and its curves. A page that a browser reloads by itself, written whole."""

import math
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from dreambooth.core.errors import DreamboothError
from dreambooth.core.wording import duration
from dreambooth.files.atomic import write_text
from dreambooth.reporting.curves import charts, measured
from dreambooth.reporting.page import REPORT
from dreambooth.reporting.pictures import Series, Subject, step_prompt, step_series
from dreambooth.reporting.templates import template
from dreambooth.setup.journal import metric_rows
from dreambooth.setup.record import RunRecord
from dreambooth.setup.states import State
from dreambooth.training.records import Preview, Record, Scores, Step

PROGRESS = "progress.html"
REFRESH = 5
"""Seconds after which the browser reads the page again."""
SILENCE = 10
"""Minutes without a word after which the page says that the run may be gone: one that was killed could not say so itself."""
PAUSE = 2.0
"""Least seconds between two writings, but for the last one and for new pictures."""
SIDE, SEEDS = 144, 4
"""Longest side of a picture in pixels, and pictures of each step: the page is written again and again."""
KINDS = {State.FINISHED: "good", State.INTERRUPTED: "fair", State.STOPPING: "fair", State.FAILED: "bad"}


class ProgressPage:
    """A reader of a run's records, as trackers are; `record` says what the run is doing, and which checkpoint is the best so far."""

    def __init__(self, record: RunRecord, *, subject: Subject, title: str, total: int, every: int | None = None, is_toybox: bool = False):
        """`total` updates, of which each `every`th is evaluated where that was asked for."""
        self.folder, self.record, self.subject = record.folder, record, subject
        self.title, self.total, self.every, self.is_toybox = title, total, every, is_toybox
        self.rows: list[dict[str, float]] = []
        self.steps: list[Series] = []
        self.step, self.written = 0, -math.inf
        self.began: tuple[float, int] | None = None
        """When the first update of this start was seen, and which it was."""

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / PROGRESS

    def resume(self, step: int) -> None:
        """Take up the run's records up to a step, before it was interrupted."""
        self.rows, self.step = metric_rows(self.folder, up_to=step), step
        self.steps = step_series(self.folder, side=SIDE, seeds=SEEDS)

    def take(self, record: Record) -> None:
        """Remember the numbers of a step or an evaluation pass and the pictures of a preview, and write the page when it is time."""
        if isinstance(record, Preview) and record.paths:
            self.steps = step_series(self.folder, side=SIDE, seeds=SEEDS)
            self.write()
        elif isinstance(record, Step | Scores):
            self.step = record.step
            self.began = self.began or (time.monotonic(), record.step)
            if record.values:
                self.rows.append({"step": record.step, **record.values})
            if record.values and time.monotonic() - self.written >= PAUSE:
                self.write()

    def close(self) -> None:
        """The page as it stays. What stopped the run is reported elsewhere, so a page that cannot be written hides nothing."""
        with suppress(DreamboothError):
            self.write()

    def write(self) -> None:
        """The page of this moment."""
        status, choice = self.record.status(), self.record.values.get("choice") or {}
        chosen, is_active = choice.get("step"), status.state.is_active
        text = template("progress.html").render(
            title=self.title, step=self.step, total=self.total, seconds=REFRESH if is_active else 0,
            word=status.phase if status.state == State.RUNNING and status.phase else str(status.state), kind=KINDS.get(status.state, ""),
            cause="" if is_active else status.cause, times=self._times(is_active), is_finished=status.state == State.FINISHED,
            clock=datetime.now().strftime("%H:%M:%S"), written=int(time.time()), silence=SILENCE,
            has_report=status.state == State.FINISHED and (self.folder / REPORT).is_file(),
            chosen=chosen, why=choice.get("why"), found=measured(self.rows), next_pass=self._next_pass() if is_active else None,
            steps=self.steps, steps_prompt=step_prompt(self.folder, self.subject) if self.steps else "",
            is_toybox=self.is_toybox, charts=charts(self.rows, chosen=int(chosen) if chosen is not None else None),
        )  # fmt: skip
        write_text(self.path, text)
        self.written = time.monotonic()

    def _times(self, is_active: bool) -> list[str]:
        """How long the training has taken over all starts, and how long it will still take at the pace of this one."""
        found, done = [f"{duration(self.record.seconds()['training'])} of training"], self.step - (self.began or (0, self.step))[1]
        if is_active and self.began and done > 0 and self.step < self.total:
            found.append(f"about {duration((time.monotonic() - self.began[0]) / done * (self.total - self.step))} left")
        return found

    def _next_pass(self) -> int | None:
        """The update of the first evaluation, while there was none but of the untuned model."""
        if not self.every or any(row["step"] for row in self.rows if "dino" in row):
            return None
        return min(self.total, (self.step // self.every + 1) * self.every)
