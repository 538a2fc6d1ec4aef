"""`bench`: every job of a plan that has no row yet, whatever fails; then tables from the rows."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dreambooth.bench.expand import Request, expand, validate
from dreambooth.bench.exported import collect
from dreambooth.bench.job import Event, Failed, Job, Row, Stop, never
from dreambooth.bench.progress import Log
from dreambooth.bench.rows import has_row, row_of, write_row
from dreambooth.bench.sheet import restore_pictures
from dreambooth.bench.tables import write_tables
from dreambooth.bench.tables.layout import Layout
from dreambooth.bench.work import work
from dreambooth.core.errors import Interrupted, RunError, first_line
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.locks import claimed
from dreambooth.metrics import EXTRAS
from dreambooth.setup.states import State
from dreambooth.training.records import Message


@dataclass(frozen=True)
class Ended:
    """The last record of `bench`."""

    rows: tuple[Row, ...]
    failures: tuple[dict[str, Any], ...]
    """arm, subject, seed, kind and reason of every job that has no row."""
    tables: tuple[Path, ...]
    why_no_tables: str = ""
    """What kept the tables from being written, where something did: the rows are there all the same."""
    waiting: int = 0
    """Jobs that nobody has done yet, in tables drawn before the end."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlreadyDone:
    """So many jobs of the plan need not be done: they had a row already, or share one with another arm."""

    count: int


@dataclass
class BenchState:
    """What is known of a bench under way, beside its rows."""

    log: Log
    """For those who watch."""
    there: int = 0
    """Jobs that had a row already, or share one that is being made."""
    there_announced: int = 0
    seen: list[Job | Failed] = field(default_factory=list)
    """Every job of the plan, in its order."""
    given: set[str] = field(default_factory=set)
    failed: dict[str, Failed] = field(default_factory=dict)
    unfit: list[Failed] = field(default_factory=list)
    """Jobs that could not even be described, not yet announced."""

    def missing(self, request: Request) -> Iterator[Job]:
        """The jobs to do, one at a time, each once."""
        for item in expand(request):
            self.seen.append(item)
            if isinstance(item, Failed):
                self.unfit.append(item)
                self.log.take(item)
            elif item.key in self.given or has_row(request.root, item.key):
                self.there += 1
                self.log.note(State.QUEUED if item.key in self.given else State.FINISHED, item)
            else:
                self.given.add(item.key)
                yield item

    def news(self) -> Iterator[Failed | AlreadyDone]:
        """What has come up since the last time: jobs that are there, and those that cannot be jobs."""
        if self.there > self.there_announced:
            self.there_announced = self.there
            yield AlreadyDone(self.there)
        while self.unfit:
            yield self.unfit.pop(0)


def bench(request: Request, *, stop: Stop = never) -> Iterator[Message | Event | AlreadyDone | Ended]:
    """Do what is missing and draw the tables; the last record is `Ended`.

    Raises SettingError before anything runs for a plan that cannot be done at all, and for a folder on which another bench is at work.
    When `stop` says so, running jobs save and Interrupted is raised; not taking the next record stops it, too. Finished rows stay.
    """
    request.config.executor.check()
    refuse_unwritable(request.root, "--output_dir")
    validate(request)
    with claimed(request.root, "bench"):
        yield from (Message(sentence, important=True) for sentence in request.dataset.absent)
        turn = BenchState(log=(log := Log(request)))
        done = request.config.executor.run(turn.missing(request), work, partial(write_row, request.root), stop=stop)
        with closing(log), closing(done) as events:  # closed, it lets its jobs save
            for event in events:
                yield from turn.news()
                if isinstance(event, Failed):
                    turn.failed[event.job.key] = event
                log.take(event)
                yield event
        yield from turn.news()
        if stop():
            raise Interrupted("Stopped; the same command goes on from here.")
        yield _ended(request, turn)


def drawn_anew(request: Request) -> Ended:
    """The tables from the rows that are there, whether a bench is at work on them or not; nothing is done.

    Raises SettingError for a plan that cannot be done at all.
    """
    validate(request)
    return _ended(request, None)


def _ended(request: Request, turn: BenchState | None) -> Ended:
    """Rows and failures of the plan as it stands now, and their tables; without a turn, a job that has no row is one that waits."""
    rows: list[Row] = []
    failures: list[dict[str, Any]] = []
    waiting = 0
    for item in turn.seen if turn else expand(request):
        if isinstance(item, Failed):
            failures.append(_failure(item.job, item))
            continue
        try:
            row = row_of(request.root, item)
        except RunError as error:
            failures.append(_failure(item, Failed(item, str(error))))
            continue
        if row:
            rows.append(row)
        elif turn is None:
            waiting += 1
        else:
            failures.append(_failure(item, turn.failed.get(item.key) or Failed(item, "it was not done.")))
    try:
        folder = request.root / "tables" / request.plan.name
        restore_pictures(request.root, rows)
        layout = with_extras(request.plan.layout(), rows)
        tables = write_tables(rows, failures, layout, folder, waiting=waiting) if rows else []
        place = request.config.export_pictures
        remarks = collect(Path(place), rows, layout) if place and rows else []
    except RunError as error:
        return Ended(tuple(rows), tuple(failures), (), str(error), waiting)
    return Ended(tuple(rows), tuple(failures), tuple(tables), waiting=waiting, remarks=tuple(remarks))


def with_extras(layout: Layout, rows: Sequence[Row]) -> Layout:
    """A plan's layout with a column for each score beside the paper's that was asked for."""
    extras = [metric.name for metric in EXTRAS if metric.name not in layout.metrics and any(metric.name in row.scores for row in rows)]
    return replace(layout, metrics=(*layout.metrics, *extras))


def _failure(job: Job, failed: Failed) -> dict[str, Any]:
    return {"arm": job.arm, "subject": job.subject, "seed": job.seed, "kind": failed.kind, "reason": failed.reason}


def summary(failures: tuple[dict[str, Any], ...]) -> list[str]:
    """A line for each failed job."""
    return [f"{f['arm']}, {f['subject']}, seed {f['seed']}: {first_line(RunError(f['reason']))} ({f['kind']})" for f in failures]
