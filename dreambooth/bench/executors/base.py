"""An executor: where jobs are done. It pulls jobs one by one, so that a thousand of them take no memory before their turn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable

from dreambooth.bench.job import Event, Job, Row, Stop, Work, never
from dreambooth.schema import Setting

GRACE_SECONDS = 15.0
"""How long jobs may take to save after they were asked to stop; then they are ended, and their last checkpoint stands."""
Keep = Callable[[Row], None]
"""What puts a row in its place for good, from wherever the job was done. Like `Work` it can be sent to other processes and machines:
`functools.partial(write_row, root)`."""


class Executor(Setting, ABC):
    """Where jobs are done"""

    def check(self) -> None:
        """Raise SettingError for a library that is missing, before anything is done."""

    @abstractmethod
    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None, *, stop: Stop = never) -> Generator[Event, None, None]:
        """Do all jobs; every one ends in exactly one `Finished` or `Failed`. A failed job does not stop the others.

        The worker itself calls `keep` with the row, before `Finished` is yielded: what was finished outlives the process that asked for it.
        When `stop` says so, or the iterator is closed, running jobs are asked to save and end, and no event follows.
        """
