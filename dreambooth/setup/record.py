"""`run.json`: where a result comes from and what its run is doing. One writer, from the first write to the last."""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dreambooth.core.errors import DreamboothError, Interrupted, SettingError, first_line
from dreambooth.core.wording import resume_command
from dreambooth.files.atomic import write_json
from dreambooth.files.digests import file_digest
from dreambooth.files.reading import TypedDict, needed_json, open_shape
from dreambooth.setup.states import State, Status, own_process, status_of
from dreambooth.training.records import Record, Saved

RECORD, CONFIG = "run.json", "config.yaml"


class RunRecord:
    """The record of a run that this process is at work on; every change is on the disk at once."""

    def __init__(self, folder: Path, values: Mapping[str, Any], *, spent: float = 0.0, writes: bool = True):
        """`spent`: seconds of training by earlier starts of the run. One of several processes writes."""
        self.folder, self.writes = folder, writes
        self.values = {"state": State.RUNNING, **values, "process": own_process()}
        self.since, self.spent = time.perf_counter(), spent
        self.training_since: float | None = None

    def phase(self, name: str) -> None:
        """Say what the run is doing now; `training` is timed."""
        if name == "training":
            self.training_since = time.perf_counter()
        self.note(state=State.RUNNING, phase=name)

    def watching(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """The same question, whose first yes is noted: from then on the run is stopping."""

        def asked() -> bool:
            wanted = stop()
            if wanted and self.values["state"] != State.STOPPING:
                self.note(state=State.STOPPING)
            return wanted

        return asked

    def status(self) -> Status:
        """What it says."""
        return status_of(self.values)

    def note(self, **values: Any) -> None:
        """Change fields and write the file."""
        self.values |= values
        if self.writes:
            write_json(self.folder / RECORD, self.values)

    def seconds(self) -> dict[str, float]:
        """Of training so far, over all starts, and of everything in this one."""
        training = self.spent + (time.perf_counter() - self.training_since if self.training_since else 0.0)
        return {"training": round(training, 2), "everything": round(time.perf_counter() - self.since, 2)}

    def end(self, state: State, cause: str = "") -> None:
        """The last write."""
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        self.values.pop("phase", None)
        self.note(state=state, cause=cause, ended=ended)

    def take(self, record: Record) -> None:
        """Note, at every checkpoint, how far training is and what it has taken."""
        if isinstance(record, Saved):
            self.note(step=record.step, seconds=self.seconds())

    def close(self) -> None:
        return


@contextmanager
def recorded(record: RunRecord) -> Iterator[RunRecord]:
    """A block that ends as finished, interrupted or failed, however it ends, with its cause."""
    record.phase("preparing")
    try:
        yield record
    except BaseException as error:
        state, cause = _ending(error)
        with suppress(DreamboothError):  # a full disk: the error that brought us here is the one to report
            record.end(state, cause)
        raise
    record.end(State.FINISHED)


def _ending(error: BaseException) -> tuple[State, str]:
    if isinstance(error, GeneratorExit):
        return State.INTERRUPTED, "whoever started it took no more of its records"
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return State.INTERRUPTED, "asked to stop"
    return State.FAILED, first_line(error)


@open_shape
class PhotoRecord(TypedDict):
    """A photo that was learned from."""

    name: str
    sha256: str


@open_shape
class BaseRecord(TypedDict, total=False):
    """The base model that was learned on."""

    name: str
    revision: str | None
    sha256: str


@open_shape
class ClassRecord(TypedDict, total=False):
    """A set of class images."""

    folder: str
    count: int


@open_shape
class ChoiceRecord(TypedDict):
    """The checkpoint to keep, and why."""

    step: int
    why: str


@open_shape
class Provenance(TypedDict, total=False):
    """What readers of `run.json` count on; there is more in it."""

    state: str
    step: int
    started: str
    ended: str
    phase: str
    cause: str
    process: dict[str, Any]
    method: str
    seed: int
    identifier: str | None
    base_model: BaseRecord
    instance_prompts: list[str]
    photos: list[PhotoRecord]
    class_images: list[ClassRecord]
    seconds: dict[str, float]
    noise_levels: list[int]
    stage: int
    choice: ChoiceRecord | None


def read_record(folder: Path) -> dict[str, Any]:
    """What `RunRecord` wrote; raises SettingError, with the way to have it written anew, where it is damaged."""
    return needed_json(folder / RECORD, Provenance, setting="run", fix=f"Have it written anew: {resume_command(folder)}")


def unknown_photos(run: Path, photos: Sequence[Path]) -> list[str]:
    """Names of photos that a run was not trained on, by their bytes: its configuration may name any folder of this machine."""
    known = {photo["sha256"] for photo in read_record(run).get("photos", ())}
    return [path.name for path in photos if file_digest(path) not in known]


def status(folder: Path) -> Status:
    """The state of the run in a folder; a draft where nothing was recorded yet."""
    return status_of(read_record(folder)) if (folder / RECORD).is_file() else Status(State.DRAFT)


def spent(folder: Path, step: int) -> float:
    """Seconds of training until a checkpoint's step, by the record of the start that made it; 0 where there is none.

    An earlier checkpoint than the newest counts its part of them.
    """
    try:
        record = read_record(folder)
        return record["seconds"]["training"] * min(1.0, step / record["step"])
    except (SettingError, KeyError, ZeroDivisionError):
        return 0.0  # a damaged record is written anew by the run that goes on


def host(device: str, processes: int) -> dict[str, Any]:
    """The machine that a run is at work on."""
    return {
        "name": socket.gethostname(), "system": platform.platform(), "device": device, "processes": processes, "cores": os.cpu_count(),
    }  # fmt: skip
