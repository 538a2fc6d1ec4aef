"""A run's records as server-sent events: replayed from where a browser left off, then as they are written."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dreambooth.setup.journal import RECORDS
from dreambooth.setup.states import Status

PAUSE, BREATH = 0.4, 15.0
"""Seconds between two looks at the file, and between two signs of life."""
AT_ONCE = 1 << 20
"""Bytes that are read at a time."""


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


def event(kind: str, value: Any, place: int | None = None) -> str:
    """One event as the browser reads it."""
    own = f"id: {place}\n" if place is not None else ""
    return f"{own}event: {kind}\ndata: {json.dumps(value)}\n\n"


async def stream(folder: Path, status: Any, after: int) -> AsyncIterator[str]:
    """The events of a run from a place of its records on; `status` is a function that says what it is doing now.

    It ends when the run has: whoever goes on with it opens another.
    """
    place, said, silent = after, None, 0.0
    yield "retry: 1000\n\n"
    while True:
        now: Status | None = await asyncio.to_thread(status)
        found, place = await asyncio.to_thread(lines_after, folder / RECORDS, place)
        for at, record in found:
            yield event(record["kind"], record, at)
        if now != said:
            yield event("status", {**asdict(now), "words": str(now)} if now else {"state": "unknown", "words": "unknown"})
            said = now
        if not found and (now is None or not (now.state.is_active or now.state == "queued")):
            yield event("over", {})
            return
        silent = 0.0 if found else silent + PAUSE
        if silent >= BREATH:
            yield ": still here\n\n"
            silent = 0.0
        await asyncio.sleep(0 if len(found) and place else PAUSE)
