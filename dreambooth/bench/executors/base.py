"""An executor: where jobs are done. It pulls jobs one by one, so that a thousand of them take no memory before their turn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

from dreambooth.bench.job import Event, Job, Row, Work
from dreambooth.schema import Setting

Keep = Callable[[Row], None]
"""What puts a row in its place for good, from wherever the job was done. Like `Work` it can be sent to other processes and machines:
`functools.partial(write_row, "s3://bucket/bench/rows")`."""


class Executor(Setting, ABC):
    """Where jobs are done"""

    @abstractmethod
    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None) -> Iterator[Event]:
        """Do all jobs; every one ends in exactly one `Finished` or `Failed`. A failed job does not stop the others.

        The worker itself calls `keep` with the row, before `Finished` is told: what was finished outlives the process that asked for it.
        Not taking the next event (closing the iterator) cancels: running jobs are asked to save and stop, and ended if they do not.
        """
