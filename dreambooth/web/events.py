"""A run's records as server-sent events: replayed from where a browser left off, then as they are written."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dreambooth.setup.journal import RECORDS
from dreambooth.setup.states import State, Status

PAUSE, BREATH = 0.8, 15.0
"""Seconds between two looks at the file, and between two signs of life."""
STATUS = 2.0
"""Seconds between two questions what the run is doing, which read more than its records; some lines ask at once."""
TURNS, WAITING = ("start", "end"), (State.QUEUED, State.RUNNING, State.STOPPING)
AT_ONCE = 1 << 20
"""Bytes that are read at a time."""


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lines_after(path: Path, place: int) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """The whole lines of a file of records behind a place, each with the place behind it, and where the next one begins.

    A file that has become shorter was begun anew, and is read from its start.
    """
    try:
        with path.open("rb") as file:
            place = place if 0 <= place <= file.seek(0, 2) else 0
            file.seek(place)
            data = file.read(AT_ONCE)
    except OSError:
        return [], place
    found = list[tuple[int, dict[str, Any]]]()
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        place += len(line)
        try:
            value = json.loads(line)
        except ValueError:
            continue  # torn by a crash
        if isinstance(value, dict) and isinstance(value.get("kind"), str):
            found.append((place, value))
    return found, place


def newest(found: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Without the steps that another one follows at once: a page shows how far it is now."""
    after = [record["kind"] for _, record in found[1:]]
    return [one for one, then in zip(found, [*after, ""], strict=False) if not one[1]["kind"] == then == "step"]


def event(kind: str, value: Any, place: int | None = None) -> str:
    """One event as the browser reads it."""
    own = f"id: {place}\n" if place is not None else ""
    return f"{own}event: {kind}\ndata: {json.dumps(value)}\n\n"


async def stream(folder: Path, status: Callable[[], Status | None], after: int) -> AsyncIterator[str]:
    """The events of a run from a place of its records on; `status` says what it is doing now.

    It ends when the run has: whoever goes on with it opens another.
    """
    place, said, state_of, asked, silent = after, "", "", -math.inf, 0.0
    yield "retry: 1000\n\n"
    while True:
        has_news = size_of(folder / RECORDS) != place  # many pages wait for long: no thread is asked where there is nothing to read
        found, place = await asyncio.to_thread(lines_after, folder / RECORDS, place) if has_news else ([], place)
        for at, record in newest(found):
            yield event(record["kind"], record, at)
        if time.monotonic() - asked >= STATUS or any(record["kind"] in TURNS for _, record in found):
            now, asked = await asyncio.to_thread(status), time.monotonic()
            state_of = now.state if now else ""
            news = event("status", {**asdict(now), "words": str(now)} if now else {"state": "unknown", "words": "unknown"})
            if news != said:
                yield news
            said = news
        if not found and state_of not in WAITING:
            yield event("over", {})
            return
        silent = 0.0 if found else silent + PAUSE
        if silent >= BREATH:
            yield ": still here\n\n"
            silent = 0.0
        await asyncio.sleep(PAUSE)
