"""A format: a kind of file that other programs read; which results it takes, what it writes, who reads it where, how it is checked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from dreambooth.core.errors import RunError, SettingError
from dreambooth.formats.learned import Changes

if TYPE_CHECKING:
    from dreambooth.families.base import Family

FLAG = "--as"
COMFY, A1111, KOHYA, DIFFUSERS = "ComfyUI", "A1111 and Forge", "kohya's tools", "diffusers"
LORAS = {COMFY: "ComfyUI/models/loras", A1111: "stable-diffusion-webui/models/Lora"}
"""Where programs look for LoRA files, InvokeAI by its model manager."""
SMALL = ("lora", "dora", "loha", "lokr", "oft")
"""Methods that learn small weights beside the model's; DoRA is LoRA with --use_dora."""


@dataclass(frozen=True)
class Facts:
    """What of a run may stand in a file that travels: no path, no host, no photo's name."""

    method: str
    """`full`, `lora`, `dora` ..."""
    trigger: str
    """The instance prompt: the words that call the subject."""
    title: str | None = None
    """What the file is called, without its suffix."""
    date: str | None = None
    """Of the writing."""
    base: str | None = None
    """The base model's id on the Hub; None for a folder of this machine."""
    base_digest: str | None = None
    identifier: str | None = None
    """The words that [V] stands for."""
    subject: str = ""
    """The instance prompt with [V] in the place of the identifier."""
    drawing: Mapping[str, Any] = field(default_factory=dict)
    """How the run draws its previews: size, steps, guidance."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Settings and counts, by the names that kohya's headers have for them."""


class Models(ABC):
    """Where the models come from that an export is made from and compared with, each loaded in float32, reading prompts as the run does."""

    @abstractmethod
    def base(self) -> "Family":
        """The run's base model; raises SettingError where there is none."""

    @abstractmethod
    def of_folder(self, folder: Path) -> "Family":
        """That of a pipeline folder."""

    @abstractmethod
    def of_file(self, file: Path) -> "Family":
        """That of a single file, with the result's configurations and tokenizers, as diffusers opens it."""

    @abstractmethod
    def of_word(self, file: Path) -> "Family":
        """The base model with the new word of a file in its encoders."""


@dataclass
class Result:
    """What is exported: a run's model in float32, as it draws."""

    family: "Family | None"
    """Gone once `untuned` was asked for: two models may not fit."""
    learner: Any
    changes: Changes
    """What small weights do; nothing where whole parts have learned."""
    models: Models | None
    """None where nothing is compared."""
    facts: Facts
    stored: Mapping[str, torch.dtype] = field(default_factory=dict)
    """In which precision the folder that the model comes from keeps its parts."""
    rank: int = 0

    @property
    def others(self) -> Models:
        assert self.models is not None
        return self.models

    def untuned(self) -> "Family":
        """The base model, the tuned one let go of."""
        self.family = self.learner = None
        return self.others.base()


@dataclass(frozen=True)
class Written:
    """What was written, in words for people and for the record."""

    count: int
    """Layers, weights or vectors."""
    of_what: str
    remarks: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


class Format(ABC):
    """One kind of file"""

    name: ClassVar[str]
    """What `--as` calls it."""
    suffix: ClassVar[str] = ".safetensors"
    """Of a file; nothing for a folder."""
    mark: ClassVar[str] = "model_index.json"
    """Of a folder: the file by which an earlier export is known."""
    is_exact: ClassVar[bool] = True
    """Whether what is read back has to draw the same picture, but for the rounding that was asked for."""

    @abstractmethod
    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        """Who reads a file of this family and method, and in which folder; nothing where nobody does."""

    @abstractmethod
    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        """Write the file or folder; `dtype` None leaves the precision to the format. Raises RunError for numbers that do not fit it."""

    @abstractmethod
    def read_back(self, path: Path, result: Result) -> "Family | None":
        """The model that the file gives, as its readers make it; None where that cannot be seen here."""

    def check(self, family: "type[Family]", method: str) -> None:
        """Raise SettingError where nobody reads such a file."""
        if not self.readers(family, method):
            reason, fix = self.why_not(family, method)
            raise SettingError(FLAG, reason, fix=fix)

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        """Why nobody reads it, and what to do."""
        return f"no program reads {method} of {family.name} as {self.name}.", ""

    def rounds(self, result: Result, dtype: torch.dtype | None) -> bool:
        """Whether the file holds rounded numbers, so that its pictures may be a little off."""
        return dtype not in (None, torch.float32)

    def stem(self, word: str | None) -> str | None:
        """What the file is called where it is not the run's name; `word` is the new word of a run that has one."""
        return None

    def check_model(self, family: "type[Family]", folder: Path) -> None:
        """Raise SettingError for a model of the family whose shape the format has no names for."""
        return


def rounded(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The tensors in a precision, each rounded once; raises RunError where a finite number has no place in it."""
    out = {name: value if dtype is None or not value.is_floating_point() else value.to(dtype) for name, value in tensors.items()}
    lost = [name for name, value in out.items() if tensors[name].isfinite().all() and not value.isfinite().all()]
    if lost:
        raise RunError(f"{lost[0]} holds numbers too large for {str(dtype).removeprefix('torch.')}. Use --save_precision bf16 or fp32.")
    return out


def lighten(family: "Family", dtype: torch.dtype | None, stored: Mapping[str, torch.dtype]) -> None:
    """Denoiser and text encoders in a precision, or each part as it is `stored`. The VAE stays as it was in any case: SDXL's overflows in
    half. Raises RunError as `rounded` does.
    """
    for name, part in family.parts.items():
        is_small = name == "vae" or dtype is None
        wanted = stored.get(name, torch.float32) if is_small else dtype
        rounded(dict(part.named_parameters()), wanted)
        part.to(wanted)
