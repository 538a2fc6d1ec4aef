"""`records.jsonl`: what happened in a run, appended by every start and never rewritten. `metrics.jsonl` is made from it.

A line is a JSON object with `time` (seconds since 1970) and `kind`:

    start      step (0, or that of the checkpoint it goes on from), process
    message    text, important
    progress   phase, done, total; at most one a second of each phase, and its last
    step       step, total, and the numbers when they were read from the device (steps in between are not written)
    scores     step, total, and the values of an evaluation pass
    preview    step, paths, prompts
    saved      step, path, why
    end        state, cause

A run that goes on from an earlier checkpoint leaves its lines behind that step in the file; `read_records` leaves them out.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired

from dreambooth.files.atomic import write_text
from dreambooth.files.disk import disk_errors
from dreambooth.files.reading import TypedDict, is_plausible, json_lines, open_shape, readings
from dreambooth.setup.states import Status, own_process
from dreambooth.training.records import Message, Preview, Progress, Record, Saved, Scores, Step

RECORDS, METRICS = "records.jsonl", "metrics.jsonl"
PAUSE = 1.0
"""Least seconds between two lines of progress of one phase."""
COUNTED = ("step", "scores", "preview", "saved")
"""Kinds of lines that belong to a step."""


@open_shape
class Line(TypedDict):
    """What the readers of records.jsonl count on; a line of another shape is left out."""

    kind: str
    step: NotRequired[int]
    values: NotRequired[dict[str, int | float | None]]


class Journal:
    """The writer of one start: a reader of its records, as trackers are."""

    def __init__(self, folder: Path, step: int):
        self.folder = folder
        self.path = folder / RECORDS
        earlier = [] if self.path.is_file() else metric_rows(folder)
        self._progress = ("", -math.inf)
        with disk_errors(self.path):
            _end_torn_line(self.path)
            self.file = self.path.open("a", encoding="utf-8")
        for row in earlier:  # of a run that a version without records began
            kind = "scores" if "dino" in row else "step"
            self._write(kind, step=row["step"], values={name: value for name, value in row.items() if name != "step"})
        self._write("start", step=step, process=own_process())
        with disk_errors(folder / METRICS):
            write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in metric_rows(folder, up_to=step)))
            self.metrics = (folder / METRICS).open("a", encoding="utf-8")

    def take(self, record: Record) -> None:
        """Append a record; a checkpoint or result that was saved is on the disk with all lines before it."""
        line = _line(record, self.folder)
        if line is None or (isinstance(record, Progress) and not self._is_due(record)):
            return
        self._write(**line)
        if isinstance(record, Step | Scores) and record.values:
            with disk_errors(self.folder / METRICS):
                self.metrics.write(json.dumps({"step": record.step, **record.values}) + "\n")
                self.metrics.flush()
        if isinstance(record, Saved):
            with disk_errors(self.path):
                os.fsync(self.file.fileno())

    def end(self, status: Status) -> None:
        """The last line of this start."""
        self._write("end", state=str(status.state), cause=status.cause, step=status.step)
        with disk_errors(self.path):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close both files."""
        self.file.close()
        self.metrics.close()

    def _is_due(self, record: Progress) -> bool:
        phase, written = self._progress
        is_due = record.phase != phase or record.done >= record.total or time.monotonic() - written >= PAUSE
        if is_due:
            self._progress = (record.phase, time.monotonic())
        return is_due

    def _write(self, kind: str, **values: Any) -> None:
        line = {"time": round(time.time(), 3), "kind": kind} | {name: _plain(value) for name, value in values.items()}
        with disk_errors(self.path):
            self.file.write(json.dumps(line, allow_nan=False, default=str) + "\n")
            self.file.flush()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The lines that count, in order: without those of steps that a later start went back behind, and without torn ones."""
    kept: list[dict[str, Any]] = []
    for line in json_lines(folder / RECORDS, Line):
        if line.get("kind") == "start":
            kept = [one for one in kept if one["kind"] not in COUNTED or one.get("step", 0) <= line.get("step", 0)]
        kept.append(line)
    return kept


def metric_rows(folder: Path, *, up_to: float = math.inf) -> list[dict[str, float]]:
    """The numbers of a run by step, up to one: its readings, and the values of its evaluation passes. Nothing where there is no run.

    Every reader of a run's curves asks here. From `records.jsonl`; from `metrics.jsonl` for runs of earlier versions, which have none.
    """
    if (folder / RECORDS).is_file():
        lines = [line for line in read_records(folder) if line["kind"] in ("step", "scores") and "step" in line]
        values = [{name: value for name, value in line.get("values", {}).items() if value is not None} for line in lines]
        rows = [row for line, some in zip(lines, values, strict=True) if some and is_plausible(row := {"step": line["step"], **some})]
    else:
        rows = readings(folder / METRICS)
    return [row for row in rows if row["step"] <= up_to]


def _line(record: Record, folder: Path) -> dict[str, Any] | None:
    """A record's kind and values; None for one that is not written."""
    match record:
        case Message():
            return {"kind": "message", "text": record.text, "important": record.important}
        case Progress():
            return {"kind": "progress", "phase": record.phase, "done": record.done, "total": record.total}
        case Step():
            return {"kind": "step", **asdict(record)} if record.values else None
        case Scores():
            return {"kind": "scores", **asdict(record)}
        case Preview():
            paths = [_inside(path, folder) for path in record.paths]
            return {"kind": "preview", "step": record.step, "paths": paths, "prompts": list(record.prompts)}
        case Saved():
            return {"kind": "saved", "step": record.step, "path": _inside(record.path, folder), "why": record.why}
    return None


def _inside(path: Path, folder: Path) -> str:
    """A path as seen from the run's folder, so that a moved run still knows its files."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _plain(value: Any) -> Any:
    """Numbers that JSON has no word for become null."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _end_torn_line(path: Path) -> None:
    """Give the last line its end, where the process that wrote it was killed in the middle: the next line begins a new one."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
