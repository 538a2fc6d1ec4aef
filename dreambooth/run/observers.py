"""Who observes a run from its beginning: its trackers, its journal and its record."""

from contextlib import ExitStack

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


def open_observers(config: TrainConfig, record: RunRecord, start: int, observers: list[Tracker], held: ExitStack) -> None:
    """Let trackers, journal and record observe a run that goes on from step `start`; the journal also gets what was said before."""
    folder, early = config.output_dir, [one for observer in observers if isinstance(observer, Backlog) for one in observer.records]
    journal = Journal(folder, start)
    held.callback(journal.close)
    held.callback(lambda: journal.end(record.status()))
    for one in early:
        journal.take(one)
    trackers = open_trackers(config.output.report_to, folder / config.output.logging_dir, dump(config))
    for tracker in trackers:
        held.callback(tracker.close)
    observers[:] = [*trackers, journal, record]
