"""Readers of a run's records by name: TensorBoard and wandb. They observe; a run does not know them."""

from pathlib import Path
from typing import Any, Protocol

from dreambooth.core.errors import SettingError, first_line
from dreambooth.training.records import Preview, Record, Step


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
        self.writer = SummaryWriter(str(folder))

    def take(self, record: Record) -> None:
        if isinstance(record, Step):
            for name, value in record.values.items():
                self.writer.add_scalar(name, value, record.step)
        if isinstance(record, Preview):
            for path, prompt in zip(record.paths, record.prompts, strict=True):
                self.writer.add_image(f"{prompt}/{path.stem}", _pixels(path), record.step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """Curves and previews at Weights & Biases; the environment (WANDB_MODE, WANDB_PROJECT ...) is obeyed."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        try:
            import wandb
        except ImportError:
            raise SettingError("--report_to", "wandb is not installed.", fix="pip install wandb") from None
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


def open_trackers(names: tuple[str, ...], logging_dir: Path, settings: dict[str, Any]) -> list[Tracker]:
    """The trackers asked for."""
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoard(logging_dir))
    if "wandb" in names:
        trackers.append(Wandb(logging_dir, settings))
    return trackers


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
