"""Textual Inversion: the network stays as it is, and a new word learns to mean the subject (Gal et al. 2022, Eq. 2).

In the comparison of DreamBooth's Table 1 the word S* stands where DreamBooth writes "[V] dog": "a S* on the beach". So it does here:
"[V] dog" is read as the new word alone in training, previews, `generate` and `evaluate`, while CLIP-T and the untuned model read
"a dog on the beach".
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from torch import nn

from dreambooth.families.base import Family
from dreambooth.methods.base import Concept, Learner, refuse_text_encoder
from dreambooth.methods.templates import OBJECT, STYLE
from dreambooth.methods.words import WordLearner, WordMethod, Words


class TextualInversion(WordMethod):
    """One new word learns, in every text encoder; the result is a few vectors that diffusers, ComfyUI and A1111 load."""

    kind: Literal["textual_inversion"] = "textual_inversion"
    keep_embedding_norm: bool = False
    """Keep each vector as long as it was at the start: a longer one drowns the rest of the prompt."""
    prompt_templates: bool = True
    """Show photos with the original's 27 prompts ("a good photo of a [V]" ...), one drawn each time; off, with the instance prompt."""

    def parts(self, family: Family, *, train_text_encoder: bool) -> list[str]:
        refuse_text_encoder("Textual Inversion", asked=train_text_encoder)
        return list(family.encoder_names)

    @property
    def replaces_noun(self) -> bool:
        return True

    def why_no_prior(self) -> str | None:
        return "Textual Inversion changes nothing of the model but its new word, so the class cannot be forgotten."

    def templates(self, concept: Concept) -> tuple[str, ...]:
        return (STYLE if concept == "style" else OBJECT) if self.prompt_templates else ()

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        return NewWord(family, parts, self.add_word(family), keep_norm=self.keep_embedding_norm)


class NewWord(WordLearner):
    """The vectors of one word, in `learned_embeds.safetensors`."""

    def __init__(self, family: Family, parts: Sequence[str], words: Words, *, keep_norm: bool):
        super().__init__(family, parts, words)
        self.keep_norm = keep_norm

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        return self.words.parameters()

    def after_update(self) -> None:
        if self.keep_norm:
            self.words.keep_norm()

    def save(self, folder: Path, *, whole: bool) -> None:
        self.words.save(folder)

    def load(self, folder: Path) -> None:
        self.words.load(folder)

    def disabled(self) -> AbstractContextManager[None] | None:
        return self.words.at_start()

    def usage_snippet(self) -> str:
        return "\n".join(self.words.usage_snippet())
