"""What the jobs of a cluster and their bench say to each other. Plain values and no library: its process is small and there at once."""

from collections import Counter
from typing import Any

FAILURES = 3
"""Jobs in a row that may fail on a GPU, while there are others, before it gets no more."""


class Board:
    """A small actor beside the bench, which both sides ask: what has happened, and whether to stop."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.moved: dict[str, tuple[Any, ...]] = {}
        self.ended: dict[str, tuple[str, str]] = {}
        self.failed = Counter[str]()
        """Jobs in a row that have failed at each place."""
        self.left_out = set[str]()
        self.is_stopping = False

    def begin(self, key: str, where: str) -> bool:
        """A job begins, at a place that has a name; whether it may."""
        if not self.is_stopping:
            self.begun.append((key, where))
        return not self.is_stopping

    def move(self, key: str, moved: tuple[Any, ...]) -> None:
        """How far a job is; of all progress since the last time the newest is shown."""
        self.moved[key] = moved

    def end(self, key: str, where: str, trouble: tuple[str, str] | None, gpus: int) -> bool:
        """A job is at its end; whether so many have failed on its GPU that the GPU is to be kept from the next. One of all stays in use."""
        self.failed[where] = self.failed[where] + 1 if trouble else 0
        if not trouble or self.failed[where] < FAILURES or len(self.left_out | {where}) >= gpus:
            return False
        self.left_out.add(where)
        self.ended[key] = trouble
        return True

    def news(self) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]], dict[str, tuple[str, str]]]:
        """What has happened since the last time: jobs begun, jobs moved, jobs ended at a place that they hold from now on."""
        news = self.begun, list(self.moved.values()), self.ended
        self.begun, self.moved, self.ended = [], {}, {}
        return news

    def stop(self) -> None:
        """Let all jobs save and end."""
        self.is_stopping = True

    def stopping(self) -> bool:
        """Whether they were asked to."""
        return self.is_stopping
