"""Readers of a run's records: metrics.jsonl always, TensorBoard and wandb by name. They look on; a run does not know them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.disk import disk_errors
from dreambooth.files.places import open_itself
from dreambooth.files.reading import readings
from dreambooth.training.records import Preview, Record, Step


class Tracker(Protocol):
    """Takes every record as it comes."""

    def take(self, record: Record) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """`metrics.jsonl`: one line per reading, with fixed names. A resumed run drops the lines that lie ahead of it."""

    def __init__(self, path: Path, start: int):
        kept = [row for row in readings(path) if row["step"] <= start] if start else []
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open_itself(path, "w")
            self.file.writelines(json.dumps(row) + "\n" for row in kept)
            self.file.flush()  # looks that begin later read what there was

    def take(self, record: Record) -> None:
        if isinstance(record, Step) and record.values:
            with disk_errors(self.path):
                self.file.write(json.dumps({"step": record.step, **record.values}) + "\n")
                self.file.flush()

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was told when it was taken
            self.file.close()


class TensorBoard:
    """Curves and previews in TensorBoard's files."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SettingError("--report_to", "tensorboard is not installed.", fix="pip install tensorboard") from None
        self.folder = folder
        with disk_errors(folder):
            self.writer = SummaryWriter(str(folder))

    def take(self, record: Record) -> None:
        with disk_errors(self.folder):
            if isinstance(record, Step):
                for name, value in record.values.items():
                    self.writer.add_scalar(name, value, record.step)
            if isinstance(record, Preview):
                for path, prompt in zip(record.paths, record.prompts, strict=True):
                    self.writer.add_image(f"{prompt}/{path.stem}", _pixels(path), record.step, dataformats="HWC")

    def close(self) -> None:
        with disk_errors(self.folder):
            self.writer.close()


class Wandb:
    """Curves and previews at Weights & Biases; the environment (WANDB_MODE, WANDB_PROJECT ...) is obeyed."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        try:
            import wandb
        except ImportError:
            raise SettingError("--report_to", "wandb is not installed.", fix="pip install wandb") from None
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self.wandb, self.run = wandb, wandb.init(project="dreambooth", dir=str(folder), config=settings)
        except Exception as error:  # its own errors differ from version to version
            fix = "`wandb login`, or WANDB_MODE=offline."
            raise SettingError("--report_to", f"wandb cannot begin ({first_line(error)}).", fix=fix) from error

    def take(self, record: Record) -> None:
        if isinstance(record, Step) and record.values:
            self.run.log(record.values, step=record.step)
        if isinstance(record, Preview):
            images = [self.wandb.Image(str(path), caption=prompt) for path, prompt in zip(record.paths, record.prompts, strict=True)]
            self.run.log({"validation": images}, step=record.step)

    def close(self) -> None:
        self.run.finish()


def open_trackers(names: tuple[str, ...], folder: Path, logging_dir: Path, settings: dict[str, Any], start: int) -> list[Tracker]:
    """The trackers asked for, and metrics.jsonl."""
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoard(logging_dir))
    if "wandb" in names:
        trackers.append(Wandb(logging_dir, settings))
    return [*trackers, JsonLines(folder / "metrics.jsonl", start)]  # the last, for it forgets what lies ahead of `start`


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
