"""The methods, one file each. A new one is its file and its name here; a user's own is `--method package.module:Class`."""

from typing import Annotated

from pydantic import Field

from dreambooth.methods.base import Learner, Method
from dreambooth.methods.custom_diffusion import CustomDiffusion
from dreambooth.methods.full import Full
from dreambooth.methods.loha import LoHa
from dreambooth.methods.lokr import LoKr
from dreambooth.methods.lora import LoRA
from dreambooth.methods.oft import OFT
from dreambooth.methods.textual_inversion import TextualInversion

AnyMethod = Annotated[Full | LoRA | TextualInversion | CustomDiffusion | LoHa | LoKr | OFT, Field(discriminator="kind")]

__all__ = ["OFT", "AnyMethod", "CustomDiffusion", "Full", "Learner", "LoHa", "LoKr", "LoRA", "Method", "TextualInversion"]
