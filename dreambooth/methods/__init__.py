"""The methods, one file each. A new one is its file and its name here; a user's own is `--method package.module:Class`."""

from typing import Annotated

from pydantic import Field

from dreambooth.methods.base import Learner, Method
from dreambooth.methods.full import Full
from dreambooth.methods.lora import LoRA
from dreambooth.methods.textual_inversion import TextualInversion

AnyMethod = Annotated[Full | LoRA | TextualInversion, Field(discriminator="kind")]

__all__ = ["AnyMethod", "Full", "Learner", "LoRA", "Method", "TextualInversion"]
