"""`progress.html`: a run's curves while it goes on. A page that a browser reloads by itself, written whole or not at all."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from dreambooth.core.errors import DreamboothError
from dreambooth.files.atomic import write_text
from dreambooth.metrics import METRICS
from dreambooth.reporting.curves import LIVE, charts
from dreambooth.reporting.templates import template
from dreambooth.setup.journal import metric_rows
from dreambooth.training.records import Record, Scores, Step

PROGRESS = "progress.html"
REFRESH = 5
"""Seconds after which the browser reads the page again."""
SILENCE = 10
"""Minutes without a word after which the page says that the run may be gone: one that was killed could not say so itself."""
PAUSE = 2.0
"""Least seconds between two writings, but for the last one."""

Choice = Mapping[str, str | int]
"""{step, why}: the checkpoint to keep."""


class ProgressPage:
    """A reader of a run's records, as trackers are. `choice` is asked for the checkpoint to keep, as far as it is known."""

    def __init__(self, folder: Path, *, title: str, total: int, choice: Callable[[], Choice | None], is_toybox: bool = False):
        self.path, self.title, self.total, self.choice, self.is_toybox = folder / PROGRESS, title, total, choice, is_toybox
        self.rows: list[dict[str, float]] = []
        self.step, self.written = 0, -math.inf

    def resume(self, step: int) -> None:
        """Take up the run's records up to a step, before it was interrupted."""
        self.rows, self.step = metric_rows(self.path.parent, up_to=step), step

    def take(self, record: Record) -> None:
        """Remember the numbers of a step or an evaluation pass, and write the page when it is time."""
        if isinstance(record, Step | Scores):
            self.step = record.step
            if record.values:
                self.rows.append({"step": record.step, **record.values})
            if record.values and time.monotonic() - self.written >= PAUSE:
                self.write()

    def close(self) -> None:
        """The page as it stays. What stopped the run is reported elsewhere, so a page that cannot be written hides nothing."""
        with suppress(DreamboothError):
            self.write(ended=True)

    def write(self, *, ended: bool = False) -> None:
        """The page of this moment."""
        choice = self.choice() or {}
        chosen = choice.get("step")
        text = template("progress.html").render(
            title=self.title, step=self.step, total=self.total, seconds=0 if ended else REFRESH, facts=first_and_last(self.rows),
            chosen=chosen, clock=datetime.now().strftime("%H:%M:%S"), written=int(time.time()), silence=SILENCE, why=choice.get("why"),
            is_toybox=self.is_toybox, charts=charts(self.rows, chosen=int(chosen) if chosen is not None else None),
        )  # fmt: skip
        write_text(self.path, text)
        self.written = time.monotonic()


def first_and_last(rows: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    """Each score before training and at the last evaluation pass."""
    passes = [row for row in rows if "dino" in row]
    if not passes:
        return []
    first, last = passes[0], passes[-1]
    return [(METRICS[name].title, f"{first[name]:.3f} → {last[name]:.3f}") for name in LIVE if name in first and name in last]
