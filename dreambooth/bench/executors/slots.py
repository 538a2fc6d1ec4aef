"""The loop that all executors share: slots do a job at a time, and a job whose slot dies has its turn again.

A slot is a worker as the one who gives the jobs sees it: a thread, a process, an actor on a cluster. A job is asked of the plan only
when a slot is there to do it, so the plan may be as long as it likes.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from dreambooth.bench.executors.attempt import Trouble
from dreambooth.bench.job import Event, Failed, Finished, Job, JobProgress, Row, Started
from dreambooth.core.errors import DreamboothError, RunError, SettingError

log = logging.getLogger(__name__)

GRACE_SECONDS = 15.0
"""How long jobs may take to save after they were asked to stop; then they are ended, and their last checkpoint stands."""
FALSE_STARTS = 3
"""Workers in a row that die before they have begun a job: when so many have, and no other lives, no more are tried."""
LONGEST_PAUSE = 60.0
"""Seconds between two new workers at most, while those that start keep dying; the pause doubles from one second on."""
REFUSALS = 3
"""Jobs in a row that may not be given out, since their folders cannot be written: then the storage is at fault, and the rest waits."""


@dataclass(frozen=True)
class Begun:
    """A slot has taken up its job, at a place that has a name."""

    where: str


class Lost(Exception):
    """A slot has died; the text says how."""


class Slot(ABC):
    """A place where one job at a time is done."""

    job: Job | None = None
    attempts = 0
    has_begun = False
    share = 0.0
    """The part of a GPU that it holds."""

    @abstractmethod
    def give(self, job: Job) -> None:
        """Begin a job."""

    @abstractmethod
    def news(self) -> Iterator[Begun | JobProgress | Row | Trouble]:
        """What has come since the last time, without waiting; raises Lost when nothing will come any more."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Let the job save and end."""

    @abstractmethod
    def end(self) -> None:
        """Be gone at once, with the resources that were held."""


class Pool(ABC):
    """Where slots come from."""

    @abstractmethod
    def share(self, job: Job) -> float:
        """The part of a GPU that a slot needs for a job."""

    @abstractmethod
    def limit(self, share: float) -> int:
        """Slots of this share that there may be now; raises SettingError when there can never be one."""

    @abstractmethod
    def open(self, share: float) -> Slot:
        """A new slot; it may take its time to be ready."""

    def ended(self, slot: Slot, *, well: bool) -> None:  # noqa: B027 - most pools learn nothing from it
        """A slot's job has left a row, or failed by no fault of its request."""

    @abstractmethod
    def wait(self, slots: list[Slot]) -> None:
        """Return when one of the slots may have news, and after a second at the latest."""

    def close(self) -> None:  # noqa: B027 - most pools hold nothing but their slots
        """Leave nothing behind."""


class Turns:
    """Jobs in turn: those to be tried again first, then the next of the plan, of which one is held at most."""

    def __init__(self, jobs: Iterable[Job], retries: int):
        self.jobs, self.retries = iter(jobs), retries
        self.waiting: list[tuple[Job, int]] = []
        self.refused = 0
        """Jobs in a row that could not be given out."""
        self.false_starts, self.open_at = 0, 0.0
        """Workers in a row that have died before they had begun a job, and when another may be tried."""

    def peek(self) -> Job | None:
        """The job whose turn is next; None when there is none left."""
        if not self.waiting:
            job = next(self.jobs, None)
            self.waiting = [(job, 1)] if job is not None else []
        return self.waiting[0][0] if self.waiting else None

    def take(self) -> tuple[Job, int]:
        """That job, and which attempt at it this will be."""
        return self.waiting.pop(0)

    def again(self, job: Job, attempts: int) -> None:
        """Give back a job that could not be begun."""
        self.waiting.insert(0, (job, attempts))

    def never_begun(self, job: Job, attempts: int) -> None:
        """Give back a job whose slot died before it had begun: that is the place's fault, and a worse one may be all that is free."""
        self.again(job, attempts)
        self.open_at = time.monotonic() + min(LONGEST_PAUSE, 2.0**self.false_starts)
        self.false_starts += 1

    def lost(self, job: Job, attempts: int, reason: str) -> Failed | None:
        """Try a job again whose slot has died over it, or give it up when that has happened too often."""
        if attempts <= self.retries:
            log.warning("%s, %s, seed %d: its worker died, and it is tried again (%s)", job.arm, job.subject, job.seed, reason)
            self.again(job, attempts + 1)
            return None
        times = "once" if attempts == 1 else f"{attempts} times"
        return Failed(job, f"Its worker died {times}; the last time: {reason}", "lost", attempts)


def drive(jobs: Iterable[Job], pool: Pool, *, retries: int) -> Generator[Event, None, None]:
    """Every job through the pool's slots, as events. Closing it, or Ctrl-C inside it, lets running jobs save and ends all slots."""
    turns, slots = Turns(jobs, retries), list[Slot]()
    try:
        while True:
            yield from _fill(turns, pool, slots)
            if not slots and turns.peek() is None:
                return
            pool.wait([slot for slot in slots if slot.job])
            for slot in list(slots):
                try:
                    yield from _news(slot, slots, pool)
                except Lost as lost:
                    yield from _buried(slot, slots, turns, str(lost))
                    if turns.false_starts >= FALSE_STARTS and not slots:
                        raise RunError(f"{turns.false_starts} workers in a row could not start. The last one: {lost}") from None
                if slot.has_begun:
                    turns.false_starts = 0
    finally:
        _part(slots, pool)


def _fill(turns: Turns, pool: Pool, slots: list[Slot]) -> Iterator[Event]:
    """Give each slot that may be there a job; slots for which nothing is left go, and with them what they held.

    A job whose folder cannot be written fails alone, and others' news is read before the next one is tried; raises RunError where several
    in a row cannot.
    """
    idle = [slot for slot in slots if not slot.job]
    while (job := turns.peek()) is not None:
        share = pool.share(job)
        slot = next((slot for slot in idle if slot.share == share), None)
        if not slot:
            if len(slots) >= pool.limit(share) and not idle:
                break
            if idle:
                _gone(idle.pop(), slots)
                continue
            if time.monotonic() < turns.open_at:
                break
            slot = pool.open(share)
            slot.share = share
            slots.append(slot)
        else:
            idle.remove(slot)
        slot.job, slot.attempts = turns.take()
        slot.has_begun = False
        try:
            slot.give(slot.job)
        except (OSError, DreamboothError) as error:
            job, slot.job = slot.job, None
            turns.refused += 1
            yield Failed(job, str(error), "request" if isinstance(error, SettingError) else "run", slot.attempts)
            if turns.refused >= REFUSALS:
                raise RunError(f"{turns.refused} jobs in a row could not be given out. The last one: {error}") from None
            return
        turns.refused = 0
    for slot in idle:
        _gone(slot, slots)
    _yield_back(turns, pool, slots)


def _yield_back(turns: Turns, pool: Pool, slots: list[Slot]) -> None:
    """Where machines have gone, slots still waiting for one give their jobs back to those that have a place."""
    for slot in [slot for slot in slots if slot.job and not slot.has_begun]:
        if slot.job and len(slots) > max(1, pool.limit(slot.share)):
            turns.again(slot.job, slot.attempts)
            _gone(slot, slots)


def _news(slot: Slot, slots: list[Slot], pool: Pool) -> Iterator[Event]:
    """What a slot says, as events, up to the end of its job."""
    job = slot.job
    if not job:
        return
    for item in slot.news():
        if isinstance(item, JobProgress):
            yield item
        elif isinstance(item, Begun):
            slot.has_begun = True
            yield Started(job, item.where)
        else:
            slot.job = None
            if isinstance(item, Row):
                pool.ended(slot, well=True)
            elif item.kind != "request":
                pool.ended(slot, well=False)
                _gone(slot, slots)  # an accelerator that has failed once may go on failing; the next job gets a fresh worker
            yield Finished(job, item) if isinstance(item, Row) else Failed(job, item.reason, item.kind, slot.attempts)
            return


def _buried(slot: Slot, slots: list[Slot], turns: Turns, reason: str) -> Iterator[Event]:
    """A slot that has died is taken away, and its job gets another turn."""
    _gone(slot, slots)
    if slot.job and not slot.has_begun:
        turns.never_begun(slot.job, slot.attempts)
    elif slot.job and (failed := turns.lost(slot.job, slot.attempts, reason)):
        yield failed


def _gone(slot: Slot, slots: list[Slot]) -> None:
    slots.remove(slot)
    slot.end()


def _part(slots: list[Slot], pool: Pool) -> None:
    """Let running jobs save, then end all slots; a second Ctrl-C ends them at once."""
    try:
        busy = [slot for slot in slots if slot.job and slot.has_begun]
        for slot in busy:
            slot.ask_to_stop()
        until = time.monotonic() + GRACE_SECONDS
        while busy and time.monotonic() < until:
            pool.wait(busy)
            busy = [slot for slot in busy if not _is_over(slot)]
    finally:
        for slot in slots:
            slot.end()
        pool.close()


def _is_over(slot: Slot) -> bool:
    try:
        return any(isinstance(item, Row | Trouble) for item in slot.news())
    except Lost:
        return True
