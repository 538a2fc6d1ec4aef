"""Batches of the server: folders, each done by one `dreambooth batch` in the queue that runs and drawings wait in, too.

ROOT/batches/ID/batch.json    what was asked for, without the rows; never changed
ROOT/batches/ID/state.json    when it was put into the queue, and when it was cancelled
ROOT/batches/ID/table.csv     the rows
ROOT/batches/ID/photos/       photos that were sent with it, a folder for each subject
ROOT/batches/ID/models/       what `dreambooth batch` makes: index.csv, by-subject/ ...
ROOT/.dreambooth/jobs/ID.*    its place in the queue, its process, its log

What a batch is doing is written nowhere: it follows from its job, the job's process and the index, so that no kill can make it untrue.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreambooth.bench.batch.index import CSV, FAILED, WAITING, Entry, read_index
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_json
from dreambooth.files.leftovers import sweep
from dreambooth.files.locks import held
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.setup.states import State, is_alive
from dreambooth.web import ending, jobs
from dreambooth.web.studio import Conflict, Missing, Studio

BATCH, STATE, TABLE, MODELS, PHOTOS = "batch.json", "state.json", "table.csv", "models", "photos"
VERB, CANCELLED, LOCK = "batch", "cancelled", "batches.lock"
WAITS = (str(State.QUEUED), str(State.RUNNING), str(State.STOPPING))
"""States in which something is still to come."""


@open_shape
class BatchFile(TypedDict):
    """What is read of a batch's file."""

    name: str
    created: float
    words: list[str]
    device: str


@dataclass(frozen=True)
class Batch:
    """What was asked for."""

    id: str
    name: str
    created: float
    words: tuple[str, ...]
    """What stands behind `dreambooth` on a command line."""
    device: str
    priority: int = 0
    """With which it was put into the queue."""
    webhook: str = ""
    """Digest of the address to which what comes of it is reported; the address itself is the owner's alone."""
    body: str = ""
    """Digest of the request, by which one that is sent again is known."""


@dataclass(frozen=True)
class Standing:
    """A batch as it is now."""

    batch: Batch
    state: str
    """queued, running, stopping, cancelled, interrupted, failed or finished."""
    job: jobs.Job | None
    cause: str = ""
    """Why it is interrupted or has failed, or what it does."""
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have which status."""
        return dict(Counter(entry.status for entry in self.entries))

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to come."""
        return self.state in WAITS

    @property
    def can_go_on(self) -> bool:
        """Whether another start would do something."""
        return not self.is_waiting and (self.state != State.FINISHED or any(one.status == FAILED for one in self.entries))

    @property
    def priority(self) -> int:
        return self.job.priority if self.job else self.batch.priority


def folder_of(studio: Studio, name: str) -> Path:
    """A batch's folder; raises Missing."""
    folder = studio.inside(studio.batches.name, name)
    if not (folder / BATCH).is_file():
        raise Missing("batch", "there is no such batch.", fix="GET /api/batches lists them.")
    return folder


def read_batch(studio: Studio, name: str) -> Batch:
    """A batch by its id; raises Missing."""
    path = folder_of(studio, name) / BATCH
    try:
        values = read_json(path, BatchFile)
        return Batch(**{**values, "id": name, "words": tuple(values["words"])})
    except (FileNotFoundError, Damaged, TypeError):
        raise Missing("batch", f"{path} cannot be read.", fix="Put it back from a copy.") from None


def read_batches(studio: Studio) -> Iterator[Batch]:
    """All batches, the newest first; those whose file is damaged are left out."""
    found = []
    for path in studio.batches.glob(f"[!.]*/{BATCH}"):
        try:
            found.append(read_batch(studio, path.parent.name))
        except Missing:
            continue
    yield from sorted(found, key=lambda batch: (-batch.created, batch.id))


def standing(studio: Studio, batch: Batch) -> Standing:
    """What a batch is doing, and its rows."""
    job, entries = _job(studio, batch), _entries(studio.batches / batch.id / MODELS / CSV)
    noted = _noted(studio, batch)
    if job is None:
        state = CANCELLED if noted else str(State.QUEUED)  # taken out of the queue; or about to be put into it
        return Standing(batch, state, None, entries=entries)
    if not job.process and not job.started:
        return Standing(batch, str(State.QUEUED), job, entries=entries)
    said = jobs.log_of(studio, job)
    last = said.strip().rsplit("\n", 1)[-1].strip()
    if not job.process or is_alive(job.process) is not False:
        return Standing(batch, str(State.STOPPING if noted.get(CANCELLED) else State.RUNNING), job, last, entries)
    index = studio.batches / batch.id / MODELS / CSV
    is_written = index.is_file() and index.stat().st_mtime >= job.started - 2
    if is_written and not any(entry.status == WAITING for entry in entries):
        return Standing(batch, str(State.FINISHED), job, entries=entries)
    if noted.get(CANCELLED):
        return Standing(batch, CANCELLED, job, entries=entries)
    refusal = [line for line in said.splitlines() if line.startswith("dreambooth: ")]
    if refusal and not is_written:
        return Standing(batch, str(State.FAILED), job, refusal[-1].removeprefix("dreambooth: "), entries)
    return Standing(batch, str(State.INTERRUPTED), job, "its process ended before its rows were done", entries)


def enqueue(studio: Studio, batch: Batch) -> None:
    """Put a batch into the queue, once: killed in the middle, the next start does the rest."""
    if _noted(studio, batch):
        return
    if _job(studio, batch) is None:
        result = f"{studio.batches.name}/{batch.id}/{MODELS}/{CSV}"
        own = {"result": result, "priority": batch.priority}
        jobs.add(studio, replace(jobs.new(VERB, batch.words, f"{studio.batches.name}/{batch.id}", batch.device, **own), id=batch.id))
    _note(studio, batch, queued=time.time())


def recover(studio: Studio) -> None:
    """Put those into the queue, and take those out, whose server died before it could."""
    with held(studio.own / LOCK):
        sweep(studio.batches)  # photos of a submission that was killed are nobody's
        for batch in read_batches(studio):
            enqueue(studio, batch)
            job = _job(studio, batch)
            if job and not job.started and _noted(studio, batch).get(CANCELLED):
                jobs.cancel(studio, job)


def cancel(studio: Studio, batch: Batch) -> Standing:
    """Take a batch out of the queue; one that is at work saves first and ends. What is finished stays.

    Raises Conflict where it has ended.
    """
    now = standing(studio, batch)
    if not now.is_waiting:
        raise Conflict("batch", f"it is {now.state} already.", fix="Nothing was changed.")
    _note(studio, batch, queued=time.time(), cancelled=time.time())
    if now.job:
        try:
            jobs.cancel(studio, now.job)
        except SettingError:  # it has begun
            ending.stop(studio, now.job)
    return standing(studio, batch)


def go_on(studio: Studio, batch: Batch) -> Standing:
    """Start a batch again: what is finished is not done twice. Raises Conflict where it waits or is at work."""
    now = standing(studio, batch)
    if now.is_waiting:
        raise Conflict("batch", f"it is {now.state} already.", fix="Wait for it, or cancel it first.")
    if now.job:
        _note(studio, batch, queued=time.time())
        jobs.put_back(studio, replace(now.job, process={}, started=0.0, added=time.time()))
    else:
        (studio.batches / batch.id / STATE).unlink(missing_ok=True)
        enqueue(studio, batch)
    return standing(studio, batch)


def prefer(studio: Studio, batch: Batch, priority: int) -> Standing:
    """Give a batch that waits another priority; raises Conflict for one that has begun or ended."""
    now = standing(studio, batch)
    if now.state != State.QUEUED or now.job is None:
        raise Conflict("priority", f"the batch is {now.state}; only one that waits has a place in the queue.", fix="Nothing was changed.")
    jobs.prefer(studio, now.job, priority)
    return standing(studio, batch)


def entry_of(now: Standing, subject: str) -> Entry:
    """A row by its subject; raises Missing."""
    found = next((entry for entry in now.entries if entry.subject == subject), None)
    if found is None:
        raise Missing("subject", "there is no such subject in this batch.", fix="GET .../results lists them.")
    return found


def plain_entry(studio: Studio, entry: Entry) -> dict[str, Any]:
    """A row as programs read it; its reason names folders as seen from the root."""
    reason = entry.reason
    for root in (studio.root, studio.root.resolve()):
        reason = reason.replace(f"{root}/", "")
    return {**vars(entry), "minutes": float(entry.minutes) if entry.minutes else None, "reason": reason}


def _job(studio: Studio, batch: Batch) -> jobs.Job | None:
    try:
        return jobs.job_named(studio, batch.id)
    except Missing:
        return None


def _noted(studio: Studio, batch: Batch) -> dict[str, Any]:
    try:
        return read_json(studio.batches / batch.id / STATE)
    except (FileNotFoundError, Damaged):
        return {}


def _note(studio: Studio, batch: Batch, **values: float) -> None:
    write_json(studio.batches / batch.id / STATE, values)


def _entries(index: Path) -> tuple[Entry, ...]:
    try:
        found = index.stat()
    except OSError:
        return ()
    return _read_entries(index.parent, found.st_mtime_ns, found.st_size)


@lru_cache(256)
def _read_entries(folder: Path, *of: int) -> tuple[Entry, ...]:
    """The rows of an index, read once for each of its versions: many ask."""
    return tuple(read_index(folder))
