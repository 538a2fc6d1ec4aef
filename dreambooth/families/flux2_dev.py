"""FLUX.2 dev: klein's larger sibling, with guidance as an input, reading Mistral's states (Black Forest Labs 2025)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from dreambooth.families.flow import recipes
from dreambooth.families.flux2 import Flux2
from dreambooth.families.recipes import Recipe
from dreambooth.families.text import chat


class Flux2Dev(Flux2):
    """FLUX.2 dev, distilled in its guidance and not in its steps: the model to train and to draw with."""

    name = "FLUX.2 dev"
    pipelines = ("Flux2Pipeline",)
    layers = (10, 20, 30)
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_special_tokens": False}
    """Its chat template writes the first token itself."""
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4, train_guidance_scale=1.0)
    """LoRA's values are those of diffusers' README for FLUX.2, with guidance 1 while training. The other methods' are FLUX.1's, and
    untested here."""
    terms = "FLUX.2 dev is under the FLUX Non-Commercial License, and so is what is trained from it."

    def format_prompt(self, prompt: str, number: int) -> str:
        """Without "[IMG]", which would stand for a picture."""
        words = {"system": self.pipe.system_message, "user": prompt.replace("[IMG]", "")}
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in words.items()]
        return chat(self.pipe.tokenizer, messages, add_generation_prompt=False)
