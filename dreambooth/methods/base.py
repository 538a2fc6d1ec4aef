"""A method: what of a model learns, and in which file the learned is kept."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.schema import Setting

Concept = Literal["object", "style"]
TEXT_ENCODER_FIX = "Leave it out, or use --method lora or full."


class Method(Setting, ABC):
    """How the model learns the subject"""

    @abstractmethod
    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> "Learner":
        """Make (parameters of) the named parts learn. Nothing the model says may change by this before the first step."""

    def parts(self, family: Family, *, train_text_encoder: bool) -> list[str]:
        """Names of the parts in which something learns; raises SettingError for what this method or model cannot do."""
        return [family.denoiser_name, *(family.text_trainable if train_text_encoder else ())]

    @property
    def trains_whole_parts(self) -> bool:
        """Whether every weight of a part learns, so that the part must stay in float32."""
        return False

    @property
    def learned_in_place(self) -> tuple[str, ...]:
        """How the names of a part's own weights end that learn beside frozen ones, and so stay in float32; added ones do anyway."""
        return ()

    @property
    def new_word(self) -> str | None:
        """The word that this method adds to the tokenizers and that [V] stands for; None where [V] is a word they have."""
        return None

    @property
    def replaces_noun(self) -> bool:
        """Whether the new word stands for class noun and all: "a [V] dog" becomes "a <my-dog>"."""
        return False

    def excludes(self) -> dict[str, tuple[str, str]]:
        """Settings that cannot be given with this method, by flag: the reason and the fix."""
        return {"output_kohya_format": ("kohya's layout is for LoRA files.", "Add --method lora, or leave it out.")}

    def why_no_prior(self) -> str | None:
        """Why class images are of no use to this method; None where they are."""
        return None

    def templates(self, concept: Concept) -> tuple[str, ...]:
        """Prompts that a photo is shown with in turn, [V] for the subject, where the user gave none; nothing for the one usual prompt."""
        return ()

    def named(self, word: str | None, noun: str | None) -> "Method":
        """This method with what it takes from the subject's names filled in: its new word, where that word starts."""
        return self


class Learner(ABC):
    """What a method has put into a model: its parameters, and how they are kept on the disk."""

    def __init__(self, family: Family, parts: Sequence[str]):
        self.family, self.parts = family, tuple(parts)

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """What learns, by part, in a fixed order."""
        modules = {name: self.family.parts[name] for name in self.parts}
        return {name: [p for p in module.parameters() if p.requires_grad] for name, module in modules.items()}

    @property
    def num_weights(self) -> int:
        """How many numbers learn."""
        return sum(parameter.numel() for parameters in self.parameters().values() for parameter in parameters)

    def mode(self, *, train: bool) -> None:
        """Make the parts ready to learn, or to draw."""
        for name in self.parts:
            self.family.parts[name].train(train)

    def after_update(self) -> None:
        """Put the parameters back to where they must stay (a norm, say), after every update; on the device, without waiting."""
        return

    @abstractmethod
    def save(self, folder: Path, *, whole: bool) -> None:
        """Write the learned in the ecosystem's layout; `whole` asks for all that a user needs to draw pictures with it."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what `save` wrote, exactly, into the attached model."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None] | None:
        """A block in which the model is the frozen one again; None when this method cannot go back."""

    @abstractmethod
    def usage_snippet(self) -> str:
        """Lines of Python that put the result, in the folder they run in, on diffusers' pipeline `pipe` of the base model."""


def refuse_text_encoder(method: str, *, asked: bool) -> None:
    """Raise SettingError where --train_text_encoder was asked of a method that leaves the encoders as they are."""
    if asked:
        reason = f"{method} leaves the text encoder as it is, but for its new word."
        raise SettingError("--train_text_encoder", reason, fix=TEXT_ENCODER_FIX)
