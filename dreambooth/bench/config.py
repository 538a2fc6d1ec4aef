"""The settings of `dreambooth bench`, beside the flags of `dreambooth train`, which go to every job."""

from pathlib import Path
from typing import Annotated, Self

from annotated_types import Ge, Le
from pydantic import field_validator, model_validator

from dreambooth.bench.executors import AnyExecutor, Inline
from dreambooth.core.errors import SettingError
from dreambooth.schema import BASIC, Count, Seed, Setting


class BenchConfig(Setting):
    """Many subjects, several ways of learning, several seeds: one table."""

    positional = ("plan",)

    plan: Annotated[str, BASIC] = ""
    """A shipped plan by name, or a YAML file; it comes first, before the flags of training."""
    dataset_dir: Annotated[str | None, BASIC] = None
    """DreamBench's folder, or a folder of subject folders with subjects.csv; automatic: the toybox's held-out subjects."""
    output_dir: Annotated[str, BASIC] = "bench"
    """Folder of rows, tables and what is kept of the models. Started again on it, only what is missing is done."""
    seeds: Annotated[tuple[Seed, ...], BASIC] = (0,)
    """Training seeds; every subject is learned once with each."""
    subjects: tuple[str, ...] = ()
    """Subjects by name; automatic: as many as --num_subjects says."""
    num_subjects: Annotated[Count | None, BASIC] = None
    """The first so many subjects, in an order that takes one of each class, then a second of each; automatic: as the plan says, or all."""
    prompts: str | None = None
    """Text file with one prompt a line for every subject, instead of DreamBench's list; [V] stands for the subject's identifier."""
    num_prompts: Count | None = None
    """Prompts of the evaluation, spread evenly over the list; automatic: as the plan says, or all."""
    num_images: Count | None = None
    """Pictures of each prompt; automatic: as the plan says, or 4."""
    class_samples: Annotated[int, Ge(0), Le(10**6)] | None = None
    """Pictures of the class alone, for PRES; automatic: as the plan says, or 64."""
    keep: Annotated[str | None, BASIC] = None
    """What stays of each model: everything, adapter, delta:RANK, or scores; automatic: as the plan says."""
    dry_run: Annotated[bool, BASIC] = False
    """Print the jobs, their hours and their disk, and do none; where no row tells the time, a few steps and pictures are tried."""
    tables_only: Annotated[bool, BASIC] = False
    """Draw the tables from the rows that are there and do no job, also while another bench is at work on the folder."""
    export_pictures: str | None = None
    """Folder for all pictures in full size, laid out as DreamBench's subjects, with prompts.csv and subjects.csv of their scores."""
    pack: bool = False
    """Without a plan: put all rows and small pictures of --output_dir into two files for each plan, to be committed or sent, and do no job.
    Tables, studies and later starts read them as they read rows."""
    executor: AnyExecutor = Inline()
    """Where the jobs are done."""

    @field_validator("output_dir")
    @classmethod
    def _here(cls, folder: str) -> str:
        """A path would be made of the URL, and the rows would lie in a folder named s3: of this machine."""
        if "://" in folder:
            raise ValueError("it is a URL; give a folder of this machine, and the URL as --storage (with --executor ray)")
        return folder

    @field_validator("prompts", "export_pictures")
    @classmethod
    def _from_the_root(cls, file: str | None) -> str | None:
        """Jobs read and write there, wherever they are at work."""
        return str(Path(file).expanduser().absolute()) if file else None

    @field_validator("seeds", "subjects")
    @classmethod
    def _each_once(cls, values: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Named twice is done once: two rows of one job would be refused by the tables, when all is done."""
        return tuple(dict.fromkeys(values))

    @model_validator(mode="after")
    def _a_plan_or_a_pack(self) -> Self:
        if self.pack and self.plan:
            raise SettingError("--pack", "it packs the rows of all plans.", fix="Leave the plan out.")
        if self.export_pictures and getattr(self.executor, "storage", None):
            reason = "the pictures stay on the machines that share a --storage and no disk."
            raise SettingError("--export_pictures", reason, fix="Leave out one of them.")
        if not self.plan and not self.pack:
            raise SettingError("--plan", "is needed.", fix="A shipped plan by name, or a YAML file, before the flags of training.")
        return self
