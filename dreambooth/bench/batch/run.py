"""`batch`: every row of the table that is new or changed, whatever fails; those that are not accepted once more; then the index.

Nothing of a result is decided while it is made. A row's state follows from the rows on the disk and the rule, so that a killed driver
loses nothing that was finished, and another rule trains nothing anew.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dreambooth.bench.batch.accept import VERDICT, NotMeasured
from dreambooth.bench.batch.index import ACCEPTED, FAILED, FINISHED, PERSON, Entry, read_index, write_index
from dreambooth.bench.batch.jobs import SECOND, Request, job_of
from dreambooth.bench.batch.products import BadRow, Product, changed_rows, read_products
from dreambooth.bench.batch.subjects import BY_SUBJECT, Subjects
from dreambooth.bench.batch.work import work
from dreambooth.bench.job import Event, Failed, Finished, Job, Row, Stop, Work, never
from dreambooth.bench.rows import write_row
from dreambooth.core.errors import DreamboothError, Interrupted, RunError, SettingError, first_line
from dreambooth.files.disk import disk_errors
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.locks import claimed
from dreambooth.files.text import read_text
from dreambooth.training.records import Message

SECONDS_BETWEEN_INDEXES = 10.0


@dataclass(frozen=True)
class Decided:
    """A row of the table has come to its end, or was there already."""

    entry: Entry
    is_new: bool
    """Whether something was done for it now."""


@dataclass(frozen=True)
class Ended:
    """The last record of `batch`."""

    entries: tuple[Entry, ...]
    changed: tuple[str, ...] = ()
    """Rows that are new in the table, or others there, since the batch began."""


@dataclass(frozen=True)
class Judged:
    """What the rule says of one try."""

    is_accepted: bool
    reason: str = ""
    is_measured: bool = True
    """False where a score that the rule asks for was not made: another training would not make it either."""


class Turn:
    """One start of a batch."""

    def __init__(self, request: Request):
        self.request, self.root = request, request.root
        self.rule, self.retry = request.rule, request.retry
        self.products = read_products(request.table, request.training)
        self.text = read_text(request.table, "table")
        self.todo = iter(enumerate(self.products))
        self.subjects = Subjects(self.root)
        earlier = {entry.subject: entry for entry in read_index(self.root)}
        self.entries = [earlier.get(row.subject) or Entry(row.subject) for row in self.products]
        """Until a row's turn comes, what the last start has said of it: that is about what is there."""
        self.places: dict[str, int] = {}
        """Where in the table a job's row stands, by the job's key, while it is done."""
        self.again: deque[Job] = deque()
        self.given: set[str] = set()
        """Jobs of this start, by their keys: none is done twice in one."""
        self.news: deque[Decided] = deque()
        self.written = time.monotonic()

    def jobs(self) -> Iterator[Job]:
        """The jobs to do, one at a time: second tries as soon as they are known, then the next row."""
        while True:
            if self.again:
                yield self.again.popleft()
                continue
            place, row = next(self.todo, (0, None))
            if row is None:
                return
            if isinstance(row, BadRow):
                self._end(place, Entry(row.subject, FAILED, reason=f"line {row.line}: {row.reason}"))
            elif job := self._next(place, row, is_new=False):
                yield job

    def take(self, event: Event) -> None:
        """What has come of a job."""
        if not isinstance(event, Finished | Failed) or event.job.key not in self.places:
            return
        place = self.places.pop(event.job.key)
        product = self.products[place]
        assert isinstance(product, Product)
        if isinstance(event, Failed) and event.job.arm != SECOND:
            self._end(place, Entry(product.subject, FAILED, reason=event.reason))
            return
        job = self._next(place, product, is_new=True, second_failed=event.reason if isinstance(event, Failed) else "")
        self.again += [job] if job else []

    def _next(self, place: int, product: Product, *, is_new: bool, second_failed: str = "") -> Job | None:
        """What is still to be done for a row; nothing where it has come to its end, which is noted."""
        try:
            with disk_errors(self.root):
                job = self._missing(place, product, is_new=is_new, second_failed=second_failed)
                if job:
                    if job.key in self.given:
                        left = self.root / "rows" / f"{job.key}.json"
                        raise RunError(f"It was finished, and what it left cannot be used: {left}, or its model.")
                    self.given.add(job.key)
                    self.subjects.begin(job)
                    self.places[job.key] = place
                    self.entries[place] = Entry(product.subject)
                return job
        except DreamboothError as error:
            where = f"line {product.line}: " if isinstance(error, SettingError) else ""
            self._end(place, Entry(product.subject, FAILED, reason=f"{where}{error}"))
            return None

    def _missing(self, place: int, product: Product, *, is_new: bool, second_failed: str) -> Job | None:
        first = job_of(self.request, product)
        row = self.subjects.row(first.key)
        if row is None:
            return first
        tries = [(first, row, self._judge(row))]
        judged = tries[0][2]
        if self.retry and judged.is_measured and not (judged.is_accepted and self.subjects.holds(first)):
            second = job_of(self.request, product, SECOND)
            row = self.subjects.row(second.key)
            if row is None and not judged.is_accepted and not second_failed:
                return second
            tries += [(second, row, self._judge(row))] if row and second.key != first.key else []
        winner, row, judged = max(tries, key=self._standing)
        if not self.subjects.is_made(winner):
            self.subjects.redo(winner)
            return winner
        self.subjects.settle(winner, [job for job, *_ in tries])
        minutes = sum(one.seconds.get("everything", 0.0) for _, one, _ in tries) / 60
        reason = f"{judged.reason} Second try: {second_failed}".strip() if second_failed else judged.reason
        status = (ACCEPTED if judged.is_accepted else PERSON) if self.rule else FINISHED
        path = "/".join(filter(None, (BY_SUBJECT, product.subject, row.result.get("file", ""))))
        word, digest = str(row.result.get("verdict", "")), str(row.result.get("sha256", ""))
        self._end(place, Entry(product.subject, status, word, path, digest, f"{minutes:.1f}", reason), is_new=is_new)
        return None

    def _judge(self, row: Row) -> Judged:
        """A try by its row."""
        if self.rule is None:
            return Judged(True)
        figures = {name: value for name, value in (row.result.get("figures") or {}).items() if value is not None}
        values = {**figures, **{name: score["value"] for name, score in row.scores.items()}}
        values |= {VERDICT: row.result["verdict"]} if row.result.get("verdict") else {}
        try:
            if self.rule.accepts(values):
                return Judged(True)
        except NotMeasured as missing:
            why = row.undefined.get(str(missing), "it could not be measured.")
            return Judged(False, f"The rule asks for {missing}, which was not made: {why}", is_measured=False)
        read = [f"{name} {values[name]:.3f}" if isinstance(values[name], float) else str(values[name]) for name in self.rule.names()]
        return Judged(False, f"Not accepted: {', '.join(read)}.")

    def _standing(self, one: tuple[Job, Row, Judged]) -> tuple[bool, bool, bool, float]:
        """The better of two tries: accepted, the one that is there already, not damaged, nearer to the photos."""
        job, row, judged = one
        fidelity = (row.result.get("figures") or {}).get("fidelity")
        is_there = judged.is_accepted and self.subjects.holds(job)
        return judged.is_accepted, is_there, row.result.get("verdict") != "damaged", -1.0 if fidelity is None else float(fidelity)

    def _end(self, place: int, entry: Entry, *, is_new: bool = True) -> None:
        self.entries[place] = replace(entry, reason=" ".join(entry.reason.split()))
        self.news.append(Decided(self.entries[place], is_new))

    def decided(self) -> Iterator[Decided]:
        """Rows that have come to their end since the last time; the index is written now and then."""
        while self.news:
            yield self.news.popleft()
        if time.monotonic() - self.written > SECONDS_BETWEEN_INDEXES:
            self.write()

    def write(self) -> None:
        """The index as it stands."""
        write_index(self.root, self.entries, title=self.request.table.stem)
        self.written = time.monotonic()

    def changed(self) -> tuple[str, ...]:
        """Rows of the table that are not those that this start has read."""
        try:
            if read_text(self.request.table, "table") == self.text:
                return ()
            return tuple(changed_rows(self.products, read_products(self.request.table, self.request.training)))
        except SettingError as error:
            return (first_line(error),)


def batch(request: Request, *, stop: Stop = never, work: Work = work) -> Iterator[Message | Event | Decided | Ended]:
    """Do what is missing and write the index; the last record is `Ended`.

    Raises SettingError before anything runs for a table, a rule or settings that cannot be read, and for a folder on which another batch
    is at work. When `stop` says so, running jobs save and Interrupted is raised. Finished rows stay.
    """
    request.config.executor.check()
    refuse_unwritable(request.root, "--output_dir")
    turn = Turn(request)
    with claimed(request.root, "batch"):
        try:
            while True:
                done = request.config.executor.run(turn.jobs(), work, partial(write_row, request.root), stop=stop)
                with closing(done) as events:  # closed, it lets its jobs save
                    for event in events:
                        yield from turn.decided()
                        turn.take(event)
                        yield event
                yield from turn.decided()
                if stop():
                    raise Interrupted("Stopped; the same command goes on from here.")
                if not turn.again:
                    break
        finally:
            turn.write()
        for sentence in _left(turn):
            yield Message(sentence, important=True)
        yield Ended(tuple(turn.entries), turn.changed())


def dry(request: Request) -> Iterator[str]:
    """Lines for --dry_run: what would be learned, what is done, what cannot be done."""
    turn = Turn(request)
    counts = {"new or changed": 0, "done": 0}
    for row in turn.products:
        try:
            if isinstance(row, BadRow):
                raise SettingError("", row.reason)
            counts["done" if turn.subjects.row(job_of(request, row).key) else "new or changed"] += 1
        except DreamboothError as error:
            yield f"cannot be done: {row.subject or 'a row'}, line {row.line}: {error}"
    yield f"{len(turn.products)} rows: {counts['new or changed']} new or changed, {counts['done']} done"


def _left(turn: Turn) -> Iterator[str]:
    """Subjects that were made and that the table no longer names."""
    named = {row.subject for row in turn.products}
    left = [made.subject for made in turn.subjects.all() if made.subject not in named]
    if left:
        names = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        folder = Path(turn.request.config.output_dir)
        yield f"No longer in the table, and still there: {names}. To delete one: dreambooth batch remove NAME --output_dir {folder}"
