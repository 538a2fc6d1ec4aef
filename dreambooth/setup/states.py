"""The states of a run, once. What a folder records is held against the process that recorded it.

draft        settings are written down, nothing was started
queued       waits for its turn
running      its process is alive; `phase` says at what
stopping     asked to stop; saves its state
interrupted  asked to stop, or its process died; goes on with --resume_from_checkpoint latest
failed       ended by an error, which `cause` holds
finished     the result is there, with its report
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

CLOCK_SECONDS = 5.0
"""Two readings of when a process began may differ by this: systems count from a boot time that follows the clock."""


class State(StrEnum):
    """What a run is doing, or how it ended."""

    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def is_active(self) -> bool:
        """Whether a process is at work on it."""
        return self in (State.RUNNING, State.STOPPING)


@dataclass(frozen=True)
class Status:
    """A run's state, with what it is doing while active and why it ended otherwise."""

    state: State
    phase: str = ""
    cause: str = ""
    step: int = 0

    def __str__(self) -> str:
        detail = self.phase if self.state.is_active else self.cause
        return f"{self.state} ({detail})" if detail else str(self.state)


def own_process() -> dict[str, Any]:
    """This process, so that others can tell whether it is still alive: pid, when it began, host and boot."""
    return process_of(os.getpid())


def process_of(pid: int) -> dict[str, Any]:
    """The same for another process of this machine."""
    return {"pid": pid, "began": _began(pid), "host": socket.gethostname(), "boot": _boot()}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether the process of `own_process` is still at work; None where that cannot be known, for it is another machine's."""
    if process.get("host") != socket.gethostname():
        return None
    if process.get("boot") != _boot():
        return False
    began = _began(int(process.get("pid") or 0))
    return began is not None and abs(began - float(process.get("began") or 0)) < CLOCK_SECONDS


def status_of(record: Mapping[str, Any]) -> Status:
    """The state that a run's record (`run.json`) holds, corrected where its process is known to be dead."""
    try:
        state = State(record.get("state", State.DRAFT))
    except ValueError:
        return Status(State.FAILED, cause=f"its record holds an unknown state, {record.get('state')!r}")
    phase, cause, step = str(record.get("phase") or ""), str(record.get("cause") or ""), int(record.get("step") or 0)
    process = record.get("process")
    if state.is_active and (not process or is_alive(process) is False):
        where = f" while {phase}" if phase else ""
        return Status(State.INTERRUPTED, phase, f"its process ended{where} without a word", step)
    return Status(state, phase, cause, step)


def _began(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None when there is no such process, or it is dead and not yet collected."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return None


@cache
def _boot() -> str:
    """What tells one start of this machine from another; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
