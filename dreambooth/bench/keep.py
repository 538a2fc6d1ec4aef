"""What stays of a trained model after its scores are taken: a model per subject is what fills disks."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from dreambooth.bench.delta import DELTA, write_delta
from dreambooth.core.errors import SettingError
from dreambooth.outputs import RECORD

RUN = "run"
"""A job's run folder, below the job's own."""


@dataclass(frozen=True)
class Kept:
    """A keep policy."""

    kind: Literal["everything", "adapter", "delta", "scores"]
    rank: int = 0

    words: ClassVar[str] = "everything, adapter, delta:RANK or scores"

    def apply(self, folder: Path) -> int:
        """Leave of a finished job's folder what was asked for, its pictures and its row; returns the bytes of the model that stay."""
        run = folder / RUN
        if self.kind == "delta":
            write_delta(run, folder, rank=self.rank)
        if self.kind in ("delta", "scores"):
            shutil.rmtree(run, ignore_errors=True)
        elif self.kind == "adapter":
            for path in [*run.glob("checkpoint-*"), run / "samples", run / "logs"]:
                shutil.rmtree(path, ignore_errors=True)
        if self.kind != "everything":
            shutil.rmtree(folder / "samples", ignore_errors=True)
            shutil.rmtree(folder / "photos", ignore_errors=True)
        return sum(path.stat().st_size for path in _model_files(folder))


def parse_keep(text: str, where: str = "--keep") -> Kept:
    """A policy from its words; raises SettingError for others."""
    if text in ("everything", "adapter", "scores"):
        return Kept(text)
    found = re.fullmatch(r"delta:([1-9][0-9]*)", text)
    if not found:
        raise SettingError(where, f"{text!r} is no way to keep a model.", fix=f"Say {Kept.words} (delta:16).")
    return Kept("delta", int(found[1]))


def _model_files(folder: Path) -> Sequence[Path]:
    """What is left of a model: everything below the run, or the delta and the two files that tell what it is of."""
    if (folder / RUN).is_dir():
        return [path for path in (folder / RUN).rglob("*") if path.is_file()]
    return [path for path in (folder / DELTA, folder / RECORD) if path.is_file()]
