"""An executor: where jobs are done. It pulls jobs one by one, so that a thousand of them take no memory before their turn."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from dreambooth.bench.job import Event, Job, Work
from dreambooth.schema import Setting


class Executor(Setting, ABC):
    """Where jobs are done"""

    @abstractmethod
    def run(self, jobs: Iterable[Job], work: Work) -> Iterator[Event]:
        """Do all jobs; every one ends in exactly one `Finished` or `Failed`. A failed job does not stop the others.

        Not taking the next event (closing the iterator) cancels: running jobs are ended and leave their checkpoints.
        """
