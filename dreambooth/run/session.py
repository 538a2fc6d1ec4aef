"""One start of a training from outside: who reads its records, what is held until it has ended, and who may stop it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from dreambooth.run.trackers import Tracker, open_trackers
from dreambooth.setup.config import TrainConfig, dump
from dreambooth.setup.journal import Journal
from dreambooth.setup.record import RunRecord
from dreambooth.training.records import Record


class Backlog:
    """The records of a start before its folder was written to."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        return


@dataclass(frozen=True)
class Session:
    """A start of a training."""

    observers: list[Tracker]
    """They take every record. The list changes: first a `Backlog` alone, then trackers, journal and record, at last a page."""
    held: ExitStack
    """What lasts until the run has ended."""
    stop: Callable[[], bool]

    def open(self, config: TrainConfig, record: RunRecord, step: int) -> None:
        """Let trackers, journal and record observe a run that goes on from a step; the journal also gets what was said before."""
        folder, early = config.output_dir, [one for observer in self.observers if isinstance(observer, Backlog) for one in observer.records]
        journal = Journal(folder, step)
        self.held.callback(journal.close)
        self.held.callback(lambda: journal.end(record.status()))
        for one in early:
            journal.take(one)
        trackers = open_trackers(config.output.report_to, folder / config.output.logging_dir, dump(config))
        for tracker in trackers:
            self.held.callback(tracker.close)
        self.observers[:] = [*trackers, journal, record]
