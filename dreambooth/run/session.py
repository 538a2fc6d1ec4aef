"""One start of a training from outside: who reads its records, what is held until it has ended, and who may stop it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from dreambooth.reporting.progress import ProgressPage
from dreambooth.run.trackers import Tracker, open_trackers
from dreambooth.setup.config import TrainConfig, dump
from dreambooth.setup.journal import Journal
from dreambooth.setup.record import RunRecord
from dreambooth.setup.steering import Asked, Steering
from dreambooth.training.loop import Trainer
from dreambooth.training.ranks import Ranks
from dreambooth.training.records import Record


class Backlog:
    """The records of a start before its folder was written to."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        return


@dataclass
class Session:
    """A start of a training."""

    observers: list[Tracker]
    """They take every record. The list changes: first a `Backlog` alone, then trackers, journal and record, at last a page."""
    held: ExitStack
    """What lasts until the run has ended."""
    stop: Callable[[], bool]
    steering: Steering | None = None
    """What its folder takes in, from when the run is recorded there; for the first process alone."""
    is_alone: bool = True
    """Whether no other process waits for what this one does: it may then stop at any moment before the training."""

    def wants_stop(self) -> bool:
        """Whether it is to save and stop, by a signal, its caller, or its folder."""
        return self.stop() or bool(self.steering and self.steering.wants_stop())

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

    def show(self, page: ProgressPage) -> ProgressPage:
        """Let a page observe the run until it has ended."""
        self.observers.append(page)
        self.held.callback(page.close)
        return page


@dataclass(frozen=True)
class Steered:
    """A training's answer to what it is asked for while it goes on; several processes do the same after the same update."""

    steering: Steering | None
    stop: Callable[[], bool]
    processes: Ranks

    def asked(self, trainer: Trainer) -> Asked:
        """What is to be done after this update."""
        if self.processes.count > 1 and trainer.step % trainer.loop.log_interval:
            return Asked(0)
        return Asked(self.processes.agreed(self.steering.take() if self.steering else 0))
