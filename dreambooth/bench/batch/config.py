"""The settings of `dreambooth batch`, beside the flags of `dreambooth train`, which go to every row that does not say otherwise."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import field_validator

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.executors import AnyExecutor, Inline
from dreambooth.core.errors import SettingError
from dreambooth.schema import BASIC, Count, Setting


class BatchConfig(Setting):
    """One personal model for each row of a table"""

    positional = ("table",)
    prose = ("retry",)

    table: Annotated[str, BASIC]
    """CSV with the columns subject, class, photos (a folder; empty: the subject's name), and any flag of train as a further column."""
    output_dir: Annotated[str, BASIC] = "batch"
    """Folder of the models, index.csv and index.html. Started again on it, only what is new or changed is done."""
    accept: Annotated[str | None, BASIC] = None
    """Rule over the scores and the verdict by which a result is accepted, such as "verdict != overfitted and fidelity > 0.5"."""
    retry: Annotated[tuple[str, ...], BASIC] = ()
    """Settings with which a result that is not accepted is learned once more: learning_rate=x0.5 max_train_steps=600."""
    evaluate: Annotated[bool, BASIC] = True
    """Score every result, beside the untuned model and the photos: without that there is neither verdict nor --accept."""
    prompts: str | None = None
    """Text file with the prompts of the scores, one a line; {noun} stands for the row's class."""
    num_prompts: Count = 8
    """Prompts of the scores, spread evenly over the list."""
    num_images: Count = 2
    """Pictures of each prompt."""
    class_samples: Annotated[int, Ge(0), Le(10**6)] = 16
    """Pictures of the class alone; 0 leaves PRES and the class's diversity out."""
    keep: Annotated[Literal["adapter", "everything"], BASIC] = "adapter"
    """adapter: what was learned, its record, scores and report; everything: also the checkpoints and the pictures that were scored."""
    dry_run: Annotated[bool, BASIC] = False
    """Say what is new, what is done and what cannot be done, and do nothing."""
    executor: AnyExecutor = Inline()
    """Where the rows are done."""

    @field_validator("output_dir")
    @classmethod
    def _here(cls, folder: str) -> str:
        return BenchConfig._here(folder)

    def refuse_contradictions(self) -> None:
        if self.accept is not None and not self.evaluate:
            raise SettingError("--accept", "reads the scores, and --no-evaluate makes none.", fix="Leave out one of the two.")
        if self.retry and self.accept is None:
            raise SettingError("--retry", "is for results that are not accepted.", fix="Add a rule: --accept 'verdict == good'.")


class RemovalConfig(Setting):
    """Delete one subject of a batch: model, scores, pictures, unfinished work, rows and, unless they are to stay, its photos"""

    positional = ("subject",)

    subject: str
    """The subject's name in the table."""
    output_dir: str = "batch"
    """Folder of the batch."""
    photos: bool = True
    """Delete the photos, too, with their captions and masks; photos that another subject was learned from stay in any case."""
    storage: str | None = None
    """Storage that the batch was done over (--storage): what it keeps of the subject is deleted there, too."""
    yes: bool = False
    """Do not ask for the name."""
