"""What a bench is made of: jobs to do, events while they are done, and one row for each that is finished.

Everything here is plain data that can be pickled, sent to another machine and written as JSON.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from dreambooth.evaluation import EvaluateConfig
from dreambooth.metrics import EXTRAS, SCORES
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import from_arguments, train_config
from dreambooth.training.records import Progress, Saved, Step

MEASURED = (*(metric.name for metric in SCORES), "copying", "drift", "clip_t_chance", *(metric.name for metric in EXTRAS))
"""What a row holds: the paper's metrics, the detectors that a comparison is read with, and scores beside them where they are asked for."""


@dataclass(frozen=True)
class Job:
    """One subject, learned in one way from one seed, and examined."""

    key: str
    """Digest of everything that decides the result: resolved configuration, photos, evaluation, base model's weights."""
    plan: str
    arm: str
    """The plan's name for this way of learning ("with prior preservation")."""
    subject: str
    seed: int
    noun: str
    live: bool
    photos: str
    """Folder of the subject's photos."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Flags of `dreambooth train`, without dashes, the recipe's values among them; empty of training where `trains` is False."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """Flags of `dreambooth evaluate`."""
    trains: bool = True
    """Whether a model is trained; False for the untuned model, with a plain or a long description, and for the real photos."""
    description: str | None = None
    """What stands in place of "[V] noun" in the prompts of an untuned model."""
    keep: str = "scores"
    """What stays on the disk afterwards: everything, adapter, delta:RANK or scores."""
    folder: str = ""
    """Where the job works; an interrupted job goes on from its checkpoints there."""
    num_photos: int | None = None
    """Learn from the first so many photos; None is all. Scores are always against all."""
    weights: str = ""
    """Digest of base model and encoders as they were when the key was made; a job that finds others gives up."""
    photos_digest: str = ""
    """Digest of the subject's photos and captions, in the same way."""
    shared: str = ""
    """Folder of what jobs draw once for all: class images, pictures of the untuned model."""
    exported: str = ""
    """Folder that all its pictures go to in full size; empty where they do not."""

    @cached_property
    def config(self) -> TrainConfig:
        """Its settings as `train` takes them. Of its checkpoints the newest is enough, unless more were asked for."""
        return train_config(**{"checkpoints_total_limit": 1, **self.settings, "instance_data_dir": self.photos})

    @cached_property
    def examined(self) -> EvaluateConfig:
        """Its evaluation as `evaluate` takes it."""
        return from_arguments(EvaluateConfig, {"run": "", **self.evaluation})

    def __getstate__(self) -> dict[str, Any]:
        """What other processes need: a configuration of a user's own method is a class that is made where it is used."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class Row:
    """One finished job: what tables are drawn from. `key` and the words are the job's."""

    key: str
    plan: str
    arm: str
    subject: str
    seed: int
    noun: str
    live: bool
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Metric -> value, low, high, n (bootstrap over prompts and pictures). Undefined metrics are absent and named in `undefined`."""
    undefined: dict[str, str] = field(default_factory=dict)
    """Metric -> why it has no value."""
    untuned: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same for the model before training, at equal seeds."""
    real: dict[str, dict[str, float]] = field(default_factory=dict)
    """DINO and CLIP-I of the real photos among themselves; "dino" without and "dino_with_self_pairs" with self-pairs."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The training settings that the arm and the base model's recipe gave."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """Encoder names, numbers of prompts, pictures and class samples, seeds, intervals."""
    base: str = ""
    """Digest of the base model's weights."""
    toybox: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """training, evaluation, everything."""
    steps: int = 0
    kept: str = "scores"
    kept_bytes: int = 0
    pictures: dict[str, list[str]] = field(default_factory=dict)
    """Prompt -> small pictures kept for the page, as paths relative to the bench's output folder, in order of their seeds."""
    untuned_pictures: dict[str, list[str]] = field(default_factory=dict)
    """The same of the model before training, at equal seeds; none in rows of an earlier version."""
    photo: str = ""
    """One of the subject's photos, small, in the same way."""
    made: dict[str, str] = field(default_factory=dict)
    """Versions, device, end."""
    result: dict[str, Any] = field(default_factory=dict)
    """Of a row of `batch`: its verdict, the figures that it stands on, and the file that was made, with its SHA-256."""

    @property
    def pictured(self) -> list[str]:
        """The paths of all its pictures."""
        every = [*self.pictures.values(), *self.untuned_pictures.values(), [self.photo] if self.photo else []]
        return [name for some in every for name in some]

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: value for name, value in asdict(self).items() if value or name != "result"}


@dataclass(frozen=True)
class Started:
    """A job was given to a worker."""

    job: Job
    where: str = "here"


@dataclass(frozen=True)
class JobProgress:
    """How far a job is."""

    key: str
    phase: str
    done: int = 0
    total: int = 0
    saved: bool = False
    """Whether a checkpoint was just written: a job whose folder has a copy on a storage is sent there now."""


@dataclass(frozen=True)
class Finished:
    """A job has left its row."""

    job: Job
    row: Row


@dataclass(frozen=True)
class Failed:
    """A job was given up. `kind`: request (a setting, a photo), run (memory, disk ...), lost (its worker died too often), error (a bug)."""

    job: Job
    reason: str
    kind: Literal["request", "run", "lost", "error"] = "run"
    attempts: int = 1


Event = Started | JobProgress | Finished | Failed
Stop = Callable[[], bool]
Work = Callable[[Job, Stop], Generator[JobProgress, None, Row]]
"""What does a job: importable by name, so that other processes and machines can call it. It yields how far it is and returns the row;
raises DreamboothError for what a user can mend, and Interrupted when it has saved because the second argument said so. Called again
for a job that was cut short, it goes on from the job's own folder."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def moves(job: Job, records: Iterator[Any]) -> Generator[JobProgress, None, Any]:
    """What a verb says while it goes on, as the job's progress; returns what the verb returns."""
    while True:
        try:
            record = next(records)
        except StopIteration as done:
            return done.value
        if isinstance(record, Step):
            yield JobProgress(job.key, "training", record.step, record.total)
        elif isinstance(record, Progress):
            yield JobProgress(job.key, record.phase, record.done, record.total)
        elif isinstance(record, Saved):
            yield JobProgress(job.key, "saving", saved=True)
