"""A method: what of a model learns, and in which file the learned is kept."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import nn

from dreambooth.families.base import Family
from dreambooth.schema import Setting


class Method(Setting, ABC):
    """How the model learns the subject"""

    @abstractmethod
    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> "Learner":
        """Make (parameters of) the named parts learn. Nothing the model says may change by this before the first step."""

    @property
    def trains_whole_parts(self) -> bool:
        """Whether every weight of a part learns, so that the part must stay in float32."""
        return False


class Learner(ABC):
    """What a method has put into a model: its parameters, and how they are kept on the disk."""

    def __init__(self, family: Family, parts: Sequence[str]):
        self.family, self.parts = family, tuple(parts)

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """What learns, by part, in a fixed order."""
        modules = {name: self.family.parts[name] for name in self.parts}
        return {name: [p for p in module.parameters() if p.requires_grad] for name, module in modules.items()}

    @abstractmethod
    def save(self, folder: Path, *, whole: bool) -> None:
        """Write the learned in the ecosystem's layout; `whole` asks for all that a user needs to draw pictures with it."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what `save` wrote, exactly, into the attached model."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None] | None:
        """A block in which the model is the frozen one again; None when this method cannot go back."""
