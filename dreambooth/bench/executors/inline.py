"""This process, one job after the other."""

from collections.abc import Generator, Iterable
from typing import Literal

from dreambooth.bench.executors.attempt import attempt
from dreambooth.bench.executors.base import Executor, Keep
from dreambooth.bench.job import Event, Job, Started, Stop, Work, never


class Inline(Executor):
    """This process, one job after the other."""

    kind: Literal["inline"] = "inline"

    def run(self, jobs: Iterable[Job], work: Work, keep: Keep | None = None, *, stop: Stop = never) -> Generator[Event, None, None]:
        """The jobs' events as they come."""
        for job in jobs:
            yield Started(job)
            end = yield from attempt(job, work, keep, stop)
            if end is None or stop():
                return
            yield end
