"""What stays of a trained model after its scores are taken: a model per subject is what fills disks."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from dreambooth.bench.delta import DELTA, write_delta
from dreambooth.core.errors import SettingError
from dreambooth.files.places import remove
from dreambooth.setup.record import RECORD

RUN = "run"
"""A job's run folder, below the job's own."""


@dataclass(frozen=True)
class Kept:
    """A keep policy."""

    kind: Literal["everything", "adapter", "delta", "scores"]
    rank: int = 0

    words: ClassVar[str] = "everything, adapter, delta:RANK or scores"

    def make(self, folder: Path, *, allow_pickle: bool = False) -> int:
        """Make of a finished job's run what is kept instead of it; returns the bytes of the model that will stay."""
        if self.kind == "delta":
            write_delta(folder / RUN, folder, rank=self.rank, allow_pickle=allow_pickle)
            return sum((folder / name).stat().st_size for name in (DELTA, RECORD))
        gone = tuple(self._gone(folder))
        staying = (path for path in (folder / RUN).rglob("*") if path.is_file() and not any(path.is_relative_to(place) for place in gone))
        return sum(path.stat().st_size for path in staying)

    def prune(self, folder: Path) -> None:
        """Leave of a job that has its row what was asked for, its pictures and the row."""
        for place in self._gone(folder):
            with suppress(OSError):  # it is counted among the kept bytes, and the next start tries again
                remove(place, root=folder)

    def _gone(self, folder: Path) -> Iterator[Path]:
        run = folder / RUN
        if self.kind in ("delta", "scores"):
            yield run
        elif self.kind == "adapter":
            yield from (*run.glob("checkpoint-*"), run / "samples", run / "logs")
        if self.kind != "everything":
            yield from (folder / "samples", folder / "photos")


def parse_keep(text: str, where: str = "--keep") -> Kept:
    """A policy from its words; raises SettingError for others."""
    if text in ("everything", "adapter", "scores"):
        return Kept(text)
    found = re.fullmatch(r"delta:([1-9][0-9]*)", text)
    if not found:
        raise SettingError(where, f"{text!r} is no way to keep a model.", fix=f"Say {Kept.words} (delta:16).")
    return Kept("delta", int(found[1]))
