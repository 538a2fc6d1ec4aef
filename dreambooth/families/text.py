"""How a family reads prompts: its tokenizers and encoders, how long a prompt may be, and the words that stand around it."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.families.source import FLAG

MARK = "\0"
"""A letter that no prompt holds."""


class Reader(ABC):
    """The half of a family that reads. What `configure_tokenizers` sets, diffusers' pipeline `pipe` keeps to as well."""

    name: ClassVar[str]
    """What people call the family."""
    encoder_names: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """Its text encoders, in the order of their tokenizers."""
    most_tokens: ClassVar[int] = 512
    """Tokens per prompt at most, whatever tokenizer and encoder could take: what the denoiser was trained with."""
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}
    """How its pipeline calls its tokenizers, beside lengths: the side of the padding, say, whatever the tokenizer's folder has."""
    reads_lower_case: ClassVar[bool] = False
    """Whether its pipeline writes prompts in small letters, so that SKS and sks are one word."""
    masks_padding: ClassVar[bool] = False
    """Whether its pipeline can mask padding in the text encoder."""
    takes_negative_prompt: ClassVar[bool] = True
    """Whether its pipeline draws away from a negative prompt."""
    default_negative_prompt: ClassVar[str] = ""
    """What guidance leads away from, where nothing is given and the pipeline would then draw without guidance."""
    takes_new_words: ClassVar[bool] = True
    """Whether its pipeline loads embeddings of new words."""
    text_trainable: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """Encoders that --train_text_encoder trains."""

    pipe: Any

    @classmethod
    def text_parts(cls) -> tuple[str, ...]:
        """The pipeline's names for all that reads prompts."""
        return (*cls.encoder_names, *(name.replace("text_encoder", "tokenizer") for name in cls.encoder_names))

    @property
    def encoders(self) -> list[Any]:
        """The text encoders, in order."""
        return [getattr(self.pipe, name) for name in self.encoder_names]

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers, in the encoders' order."""
        return [getattr(self.pipe, name.replace("text_encoder", "tokenizer")) for name in self.encoder_names]

    def format_prompt(self, prompt: str, number: int) -> str:
        """A prompt as tokenizer `number` (from 1) gets it: in a language model's chat template, in small letters, or as it is."""
        return prompt.lower().strip() if self.reads_lower_case else prompt

    def tokenize(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Ids of every tokenizer, padded to its full length, long [b, L]: `input_ids`, `input_ids_2` ..., and their masks.

        A new word of several vectors is one word in a prompt, and spelt out here as diffusers' pipelines do.
        """
        tokens: dict[str, Tensor] = {}
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            words = [self.format_prompt(self._spelt_out(prompt, tokenizer), number) for prompt in prompts]
            options = {"max_length": self.prompt_length(number), **self.tokenizer_options}
            out = tokenizer(words, padding="max_length", truncation=True, return_tensors="pt", **options)
            suffix = "" if number == 1 else f"_{number}"
            tokens[f"input_ids{suffix}"] = out.input_ids
            tokens[f"attention_mask{suffix}"] = out.attention_mask
        return tokens

    @property
    def dropped_tokens(self) -> int:
        """Tokens before a prompt that are read for its sake, and whose states the denoiser does not see."""
        return 0

    def prompt_length(self, number: int) -> int:
        """Tokens that are made of a formatted prompt at most: those that the denoiser sees, after those that it does not."""
        return self.text_length(number) + self.dropped_tokens

    def text_length(self, number: int) -> int:
        """Tokens per prompt for tokenizer `number` (from 1): its own length, which --tokenizer_max_length shortens.

        A tokenizer that states no length (saved without its configuration) gets as many as its encoder has places for.
        """
        own = self.tokenizers[number - 1].model_max_length
        places = getattr(self.encoders[number - 1].config, "max_position_embeddings", None) or self.most_tokens
        return min(own, places, self.most_tokens)

    @property
    def longest_text(self) -> int:
        """Tokens per prompt for the tokenizer that takes most."""
        return max(map(self.text_length, range(1, len(self.tokenizers) + 1)))

    def as_read(self, prompt: str) -> tuple[str, str]:
        """What is read of a prompt, new words spelt out, and the end that is cut off by every tokenizer; empty for one that is read whole.

        FLUX's CLIP takes fewer tokens than its T5: what T5 reads is read.
        """
        found: list[tuple[str, str]] = []
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            words = self._spelt_out(prompt, tokenizer)
            start = self.format_prompt(MARK, number).index(MARK)
            text, length = self.format_prompt(words, number), self.prompt_length(number)
            out = tokenizer(text, max_length=length, truncation=True, return_offsets_mapping=True, **self.tokenizer_options)
            end = max(stop for _, stop in out.offset_mapping) - start if len(out.input_ids) == length else len(words)
            found.append((words[: max(end, 0)], words[max(end, 0) :].strip()))
        return max(found, key=lambda parts: len(parts[0]))

    def configure_tokenizers(self, *, max_length: int | None, use_attention_mask: bool = False) -> None:
        """Have tokenizers and encoders read prompts so, where diffusers' own pipeline looks for it: pictures then see what training saw.

        Raises SettingError for a mask where the pipeline has no use for one.
        """
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            if max_length is None:
                break
            tokenizer.model_max_length = min(self.text_length(number), max_length)
            if number == 1 and hasattr(self.pipe, "tokenizer_max_length"):
                self.pipe.tokenizer_max_length = tokenizer.model_max_length
        if use_attention_mask:
            self.refuse_masked_padding()
            for encoder in self.encoders:
                encoder.config.use_attention_mask = True

    @classmethod
    def refuse_masked_padding(cls) -> None:
        """Raise SettingError where the pipeline has no use for a mask over padding."""
        if not cls.masks_padding:
            reason = f"{cls.name} treats padding as it was trained to; its pipeline has no such switch."
            raise SettingError("--text_encoder_use_attention_mask", reason, fix="Leave it out.")

    @classmethod
    def refuse_text_training(cls) -> None:
        """Raise SettingError where no text encoder can learn."""
        if not cls.text_trainable:
            reason = f"{cls.name} is trained with its text encoder as it is."
            raise SettingError("--train_text_encoder", reason, fix="Leave it out.")

    @classmethod
    def refuse_capitals(cls, identifier: str | None) -> None:
        """Raise SettingError for an identifier with capitals where all is read in small letters."""
        if cls.reads_lower_case and identifier and identifier != identifier.lower():
            reason = f"{cls.name} reads prompts in small letters, to which {identifier} is {identifier.lower()}."
            raise SettingError("--identifier", reason, fix=f"Use {identifier.lower()}.")

    @classmethod
    def refuse_new_words(cls) -> None:
        """Raise SettingError where no new word can be learned."""
        if not cls.takes_new_words:
            reason = f"{cls.name} takes no new words: diffusers' pipeline cannot load them."
            raise SettingError("--method", reason, fix="Use --method lora.")

    def _spelt_out(self, prompt: str, tokenizer: Any) -> str:
        """A prompt with every new word of several vectors written as its tokens, where the pipeline knows such words."""
        if not (self.takes_new_words and tokenizer.added_tokens_encoder):
            return prompt
        return self.pipe.maybe_convert_prompt(prompt, tokenizer)


def chat(tokenizer: Any, said: str | list[dict[str, Any]], **options: Any) -> str:
    """A prompt as a user's message to a language model, or several messages, up to where its answer begins; `options` are for the
    tokenizer's template.

    Raises SettingError for a tokenizer without one.
    """
    if not tokenizer.chat_template:
        reason = "the tokenizer has no chat template, which this model reads prompts in."
        raise SettingError(FLAG, reason, fix="Download the tokenizer's folder again, with tokenizer_config.json and chat_template.jinja.")
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return tokenizer.apply_chat_template(messages, tokenize=False, **{"add_generation_prompt": True, **options})
