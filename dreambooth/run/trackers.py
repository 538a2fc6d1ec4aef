"""Readers of a run's records by name: TensorBoard and wandb. They observe; a run does not know them."""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from dreambooth.core.errors import SettingError, first_line, redacted
from dreambooth.core.wording import written_out
from dreambooth.files.disk import disk_errors
from dreambooth.files.places import readable_name
from dreambooth.training.records import Preview, Record, Scores, Step


class Tracker(Protocol):
    """Takes every record as it comes."""

    def take(self, record: Record) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Curves and previews in TensorBoard's files."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SettingError("--report_to", "tensorboard is not installed.", fix="pip install tensorboard") from None
        self.folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.held = ExitStack()
            self.writer = SummaryWriter(self.held.enter_context(readable_name(folder)))

    def take(self, record: Record) -> None:
        with disk_errors(self.folder):
            if isinstance(record, Step | Scores):
                for name, value in record.values.items():
                    self.writer.add_scalar(name, value, record.step)
            if isinstance(record, Preview):
                for path, prompt in zip(record.paths, record.prompts, strict=True):
                    self.writer.add_image(f"{prompt}/{path.stem}", _pixels(path), record.step, dataformats="HWC")

    def close(self) -> None:
        with disk_errors(self.folder):
            self.writer.close()
        self.held.close()


class Wandb:
    """Curves and previews at Weights & Biases; the environment (WANDB_MODE, WANDB_PROJECT ...) is obeyed."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        try:
            import wandb
        except ImportError:
            raise SettingError("--report_to", "wandb is not installed.", fix="pip install wandb") from None
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.held = ExitStack()
        try:
            place = self.held.enter_context(readable_name(folder))
            sys.argv = [written_out(word) for word in without_tokens(sys.argv)]  # it keeps the command line, and can only keep UTF-8
            self.wandb, self.run = wandb, wandb.init(project="dreambooth", dir=place, config=_written(settings))
        except Exception as error:  # its own errors differ from version to version
            fix = "`wandb login`, or WANDB_MODE=offline."
            raise SettingError("--report_to", f"wandb cannot begin ({first_line(error)}).", fix=fix) from error

    def take(self, record: Record) -> None:
        if isinstance(record, Step | Scores) and record.values:
            self.run.log(record.values, step=record.step)
        if isinstance(record, Preview):
            pictures = zip(record.paths, record.prompts, strict=True)
            images = [self.wandb.Image(_pixels(path), caption=prompt) for path, prompt in pictures]
            self.run.log({"validation": images}, step=record.step)

    def close(self) -> None:
        self.run.finish()
        self.held.close()


def open_trackers(names: tuple[str, ...], logging_dir: Path, settings: dict[str, Any]) -> list[Tracker]:
    """The trackers asked for."""
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoard(logging_dir))
    if "wandb" in names:
        trackers.append(Wandb(logging_dir, settings))
    return trackers


def without_tokens(words: Sequence[str]) -> list[str]:
    """A command line that may be kept: the token for the Hub is left out of it."""
    hidden = [re.sub(r"^(--hub[_-]token=).*", r"\1***", word, flags=re.DOTALL) for word in words]
    return ["***" if re.fullmatch(r"--hub[_-]token", before) else redacted(word) for before, word in pairwise(["", *hidden])]


def _written(value: Any) -> Any:
    """Plain values with what is no UTF-8 in them written out."""
    if isinstance(value, Mapping):
        return {name: _written(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_written(one) for one in value]
    return written_out(value) if isinstance(value, str) else value


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
