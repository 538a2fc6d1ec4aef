"""A new word in every text encoder of a model: its own few embeddings learn, every other word stays bit for bit what it was.

diffusers' script lets the whole table learn and puts the old rows back after each step; here the new rows are parameters of their
own beside the frozen table, so that no optimizer, weight decay or rounding can touch another word.
"""

from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.files.escaping import python_text
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.methods.base import TEXT_ENCODER_FIX, Learner, Method

FILE = "learned_embeds.safetensors"
"""The name that diffusers' `load_textual_inversion` looks for."""
EARLIER = {"t5": "t5xxl"}
"""What the files of earlier versions call an encoder, and what ComfyUI, and so this program now, calls it."""


class WordTable(nn.Embedding):
    """A text encoder's own table, frozen, with rows for the tokens of a new word."""

    def __init__(self, table: nn.Embedding, first: int, start: Float[Tensor, "n d"]):
        super().__init__(table.num_embeddings, table.embedding_dim, padding_idx=table.padding_idx, _weight=table.weight)
        self.weight.requires_grad_(False)
        self.first = first
        self.words = nn.Parameter(start.float().clone())
        self.register_buffer("start", self.words.detach().clone(), persistent=False)
        self.start: Tensor

    def forward(self, input: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Embeddings of token ids. A table may be shorter or longer than its tokenizer (T5's has spare rows): the new ids come first."""
        place = input - self.first
        is_new = (place >= 0) & (place < len(self.words))
        known = super().forward(torch.where(is_new, 0, input))
        return torch.where(is_new[..., None], self.words[place.clamp(0, len(self.words) - 1)].to(known.dtype), known)


class Words:
    """One new word as every encoder of a family knows it."""

    def __init__(self, family: Family, placeholder: str, tables: Sequence[WordTable]):
        self.family, self.placeholder, self.tables = family, placeholder, tuple(tables)

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """The new rows by encoder, one parameter [n, d] each."""
        return {name: [table.words] for name, table in zip(self.family.encoder_names, self.tables, strict=True)}

    @torch.no_grad()
    def keep_norm(self) -> None:
        """Scale every new row back to the length it started with."""
        for table in self.tables:
            table.words.mul_(table.start.norm(dim=1, keepdim=True) / table.words.norm(dim=1, keepdim=True))

    def save(self, folder: Path) -> None:
        """One encoder: {word: [n, d]}, as diffusers' script writes it; several: by the encoders' usual names, the word in the header."""
        rows = [table.words for table in self.tables]
        names = self.family.embedding_names or (self.placeholder,)
        save_tensors(folder / FILE, dict(zip(names, rows, strict=True)), notes={"placeholder_token": self.placeholder})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; raises SettingError for another word, another count of vectors or another model."""
        self.take(folder / FILE)

    @torch.no_grad()
    def take(self, file: Path) -> None:
        """The same of a file by any name."""
        tensors, _ = load_tensors(file)
        names = self.family.embedding_names or (self.placeholder,)
        tensors = {EARLIER.get(name, name) if self.family.embedding_names else name: rows for name, rows in tensors.items()}
        expected = {name: table.words.shape for name, table in zip(names, self.tables, strict=True)}
        if expected != {name: rows.shape for name, rows in tensors.items()}:
            reason = f"does not fit the word {self.placeholder} in this base model (it holds {_shapes(tensors)})."
            raise SettingError(str(file), reason, fix="Use the base model and the settings it was made with.")
        for name, table in zip(names, self.tables, strict=True):
            table.words.copy_(tensors[name])

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """A block in which the word means what it meant before the first step."""
        own = [table.words.detach().clone() for table in self.tables]
        self._put([table.start for table in self.tables])
        try:
            yield
        finally:
            self._put(own)

    def usage_snippet(self) -> list[str]:
        """Lines of Python with which diffusers loads the file."""
        if not self.family.embedding_names:
            return ['pipe.load_textual_inversion(".")']
        lines = ["from safetensors.torch import load_file", f'words = load_file("{FILE}")']
        for key, name in zip(self.family.embedding_names, self.family.encoder_names, strict=True):
            parts = f"text_encoder=pipe.{name}, tokenizer=pipe.{name.replace('text_encoder', 'tokenizer')}"
            lines.append(f'pipe.load_textual_inversion(words["{key}"], token={python_text(self.placeholder)}, {parts})')
        return lines

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for table, value in zip(self.tables, values, strict=True):
            table.words.copy_(value)


class WordLearner(Learner, ABC):
    """A new word, and perhaps more."""

    def __init__(self, family: Family, parts: Sequence[str], words: Words):
        super().__init__(family, parts)
        self.words = words

    def mode(self, *, train: bool) -> None:
        """The encoders read as they do when they draw: T5 would drop a tenth of what it reads. Their layers must be in training mode
        themselves, for they give up --gradient_checkpointing without it.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        super().mode(train=train)
        for encoder in self.family.encoders:
            for layer in encoder.modules():
                layer.training = train and isinstance(layer, GradientCheckpointingLayer)


class WordMethod(Method, ABC):
    """A method that adds a word"""

    placeholder_token: str | None = None
    """The new word, which [V] stands for; automatic: --identifier in angle brackets, or `<my-dog>` for the class noun dog."""
    initializer_token: str | None = None
    """Where the new word starts: its vectors are this word's tokens, in turn. Left out, the last word of the class noun."""
    num_vectors: Annotated[int, Ge(1), Le(75)] = 1
    """Vectors of the new word in each text encoder. More can be learned, and prompts are followed less well."""

    def excludes(self) -> dict[str, tuple[str, str]]:
        this = f"--method {type(self).model_fields['kind'].default}"
        one = (f"{this} learns one word, for one subject.", "Train each subject in a run of its own.")
        text = (f"{this} leaves the text encoder as it is, but for its new word.", TEXT_ENCODER_FIX)
        return super().excludes() | {"train_text_encoder": text, "concepts_list": one}

    @property
    def new_word(self) -> str | None:
        return self.placeholder_token

    def named(self, word: str | None, noun: str | None) -> "WordMethod":
        if word and word.isalnum() and word != self.placeholder_token:
            word = f"<{word}>"  # a bare word would be found inside others: sks in asks
        if self.placeholder_token and word and self.placeholder_token != word:
            reason = f"{self.placeholder_token!r} and --identifier {word!r} are two names for one word."
            raise SettingError("--placeholder_token", reason, fix="Leave out one of the two.")
        chosen, start = self.default_word(noun)
        if not (start or self.initializer_token):
            fix = "Give --class_noun, or --initializer_token with a word for what the subject is."
            raise SettingError("--initializer_token", "the new word has no word to start from.", fix=fix)
        chosen = self.placeholder_token or word or chosen
        if chosen.isalnum() or any(mark.isspace() for mark in chosen):
            reason = f"{chosen!r} is found inside other words, or holds a space."
            raise SettingError("--placeholder_token", reason, fix="Choose another, for instance <my-dog>.")
        return self.model_copy(update={"placeholder_token": chosen, "initializer_token": self.initializer_token or start})

    def default_word(self, noun: str | None) -> tuple[str, str | None]:
        """The new word and what it starts from, where they were left out; None where it has nothing to start from."""
        return f"<my-{'-'.join((noun or 'subject').lower().split())}>", noun.split()[-1] if noun else None

    def add_word(self, family: Family) -> Words:
        """The new word in every encoder of a family; raises SettingError for a word it knows, or a start it cannot read."""
        assert self.placeholder_token and self.initializer_token, "`named` fills them in"
        tokens = [self.placeholder_token, *(f"{self.placeholder_token}_{i}" for i in range(1, self.num_vectors))]
        tables = []
        for tokenizer, encoder in zip(family.tokenizers, family.encoders, strict=True):
            start = _ids(tokenizer, self.initializer_token, self.num_vectors)
            known = set(tokens) & tokenizer.get_vocab().keys()
            if known:
                reason = f"{self.placeholder_token!r} is known to this model's tokenizers."
                raise SettingError("--placeholder_token", reason, fix="Choose another, for instance <my-dog>.")
            tokenizer.add_tokens(tokens)
            table = encoder.get_input_embeddings()
            tables.append(WordTable(table, tokenizer.convert_tokens_to_ids(tokens[0]), table.weight.detach()[start]))
            encoder.set_input_embeddings(tables[-1])
        return Words(family, self.placeholder_token, tables)


def _ids(tokenizer: Any, start: str, count: int) -> list[int]:
    """Ids of the tokens with which `count` new vectors begin."""
    ids = tokenizer(start, add_special_tokens=False)["input_ids"]
    if not ids or set(ids) & set(tokenizer.all_special_ids):
        raise SettingError("--initializer_token", f"this model's tokenizer cannot read {start!r}.", fix="Choose a common word.")
    return [ids[place % len(ids)] for place in range(count)]


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(rows.shape)}" for name, rows in tensors.items())
