"""A run as a notebook shows it: cards of HTML without scripts, whose words are escaped."""

import time
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.reporting.curves import charts, measured
from dreambooth.reporting.inline import file_uri
from dreambooth.reporting.templates import template
from dreambooth.setup.details import details
from dreambooth.setup.runs import FoundRun
from dreambooth.training.records import Progress, Record, Scores, Step

SHOWN = frozenset({
    "state", "remark", "verdict", "steps", "best", "base model", "method", "photos", "training", "dino", "clip_t", "pres", "div", "next",
})  # fmt: skip
SIDE = 480


def card(run: FoundRun) -> str:
    """The picture beside a few lines of words."""
    picture = run.picture()
    lines = [(name, words) for name, words in details(run) if name in SHOWN]
    return template("notebook.html").render(name=run.name, lines=lines, uri=file_uri(picture, SIDE) if picture else None)


class Live:
    """A training in the cell that started it, with its curves: `dreambooth.train(..., on_record=dreambooth.Live())`.

    Raises SettingError outside a notebook's kernel.
    """

    def __init__(self) -> None:
        try:
            from IPython.display import HTML, display
        except ImportError:
            raise SettingError("Live", "IPython is not installed.", fix="Use it in a notebook.") from None
        self.rows: list[dict[str, float]] = []
        self.phase, self.done, self.total, self.shown = "preparing", 0, 1, 0.0
        self._html: Any = HTML
        self._handle: Any = display(self._html(self.html()), display_id=True)

    def __call__(self, record: Record) -> None:
        """Show one record; the cell is written at most twice a second."""
        if isinstance(record, Progress):
            self.phase, self.done, self.total = record.phase, record.done, record.total
        elif isinstance(record, Step | Scores):
            self.phase, self.done, self.total = "training", record.step, record.total
            if record.values:
                self.rows.append({"step": record.step, **record.values})
        else:
            return
        if self._handle and (self.done == self.total or time.monotonic() - self.shown > 0.5):
            self.shown = time.monotonic()
            self._handle.update(self._html(self.html()))

    def html(self) -> str:
        """The cell of this moment."""
        share = min(100, round(100 * self.done / max(1, self.total)))
        return template("live.html").render(
            phase=self.phase, done=self.done, total=self.total, share=share, charts=charts(self.rows), found=measured(self.rows)
        )
