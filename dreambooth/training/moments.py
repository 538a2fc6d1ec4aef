"""When a run is saved, and which of its checkpoints stay. None of it changes what is learned."""

import time
from pathlib import Path

from dreambooth.training.state import checkpoints, remove_checkpoint, step_of

QUARTERS, MINUTES, KEPT = 4, 10, 2
"""A run that is left to itself is saved at each quarter and after so many minutes, and keeps so many checkpoints beside the best."""


class Moments:
    """After which updates a run is saved: every so many, or by itself at each quarter and ten minutes after it was last saved.

    `limit` is how many checkpoints stay beside the best; left out, 2 of a run that is saved by itself, else all, as in diffusers.
    """

    def __init__(self, every: int | None, *, limit: int | None, total: int):
        self.every, self.limit = every, limit or (None if every else KEPT)
        self.quarters = {-(-total * quarter // QUARTERS) for quarter in range(1, QUARTERS + 1)}
        self.saved()

    def due(self, step: int) -> bool:
        """Whether the count of updates asks for it: the same in every process."""
        return step % self.every == 0 if self.every else step in self.quarters

    def why(self, step: int) -> str:
        """Why a run is saved after an update, in a few words."""
        if self.every:
            return f"every {self.every} steps"
        return "a quarter of the run" if step in self.quarters else f"{MINUTES} minutes after the last"

    def overdue(self) -> bool:
        """Whether the clock asks for it. Clocks differ from process to process, so the first one's has to decide for all."""
        return self.every is None and time.monotonic() - self.since >= MINUTES * 60

    def saved(self) -> None:
        """Count the minutes anew: from the first update, and from the end of each saving."""
        self.since = time.monotonic()

    def owns(self, checkpoint: Path) -> bool:
        """Whether a checkpoint would be there without being the best: where every Nth update is saved, the best may lie between two."""
        return self.every is None or step_of(checkpoint) % self.every == 0

    def prune(self, output_dir: Path, *, newest: Path, best: Path | None) -> None:
        """Delete the oldest checkpoints beyond the limit; never the one just written, nor the best."""
        if self.limit is None:
            return
        counted = [path for path in checkpoints(output_dir) if path != best or self.owns(path)]
        counted.sort(key=lambda path: path == newest)  # a run that went on from an earlier checkpoint may have later ones ahead of it
        for path in counted[: -self.limit]:
            if path != best:
                remove_checkpoint(path)
