"""What a run tells while it goes on. The terminal, files, trackers and pages read the same records; stopping is not taking the next one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Message:
    """A sentence for the person who waits; `important` ones (warnings) should stay visible."""

    text: str
    important: bool = False


LONG = 2**30
"""Bytes whose reading or writing takes so long that it is said before it begins."""


@dataclass(frozen=True)
class Waiting(Message):
    """What is being done from here to the next record, where nobody can say how long it will take: loading, reading, saving."""


@dataclass(frozen=True)
class Progress:
    """How far a phase before or after the training itself is, such as drawing class images."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Step:
    """One update. Numbers are read from the device every few steps, so `values` is empty in between."""

    step: int
    total: int
    values: dict[str, float] = field(default_factory=dict)
    """loss, loss_subject, loss_prior (means per picture), grad_norm, learning_rate ..., images_per_second."""


@dataclass(frozen=True)
class Scores:
    """What an evaluation pass found, on held-out prompts and with the weights as they are at `step` (0: untuned) of `total`."""

    step: int
    total: int
    values: dict[str, float]
    """dino, clip_t, pres, div, copying ... as far as they are defined, and evaluation_seconds."""


@dataclass(frozen=True)
class Preview:
    """Pictures drawn with the weights as they are at `step`."""

    step: int
    paths: tuple[Path, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Saved:
    """A checkpoint, or the run's output, is on the disk."""

    step: int
    path: Path
    why: str = ""
    """Why a checkpoint was taken now, in a few words; nothing for the output."""


@dataclass(frozen=True)
class Done:
    """The run has ended well."""

    output_dir: Path
    record: dict[str, Any] = field(default_factory=dict)


Record = Message | Progress | Step | Scores | Preview | Saved | Done
