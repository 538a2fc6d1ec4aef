"""The parts of a model that read text: its tokenizers, and its text encoders, from a pipeline folder or a tokenizer folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.places import readable_name
from dreambooth.files.pretrained import check_tokenizer
from dreambooth.files.reading import needed_json

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "spiece.model", "tokenizer.model")


@dataclass(frozen=True)
class Reader:
    """A tokenizer and, where the folder has one, the encoder that reads its tokens."""

    name: str
    tokenizer: Any
    encoder: Any = field(default=None)

    @torch.no_grad()
    def vectors(self, prompts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """One unit vector for each prompt, [prompts, d]: the encoder's own pooled output, else the mean over its tokens."""
        places = getattr(self.encoder.config, "max_position_embeddings", None) or 77
        length = min(self.tokenizer.model_max_length, places)
        parts = []
        for first in range(0, len(prompts), batch_size):
            some = list(prompts[first : first + batch_size])
            tokens = self.tokenizer(some, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            mask = tokens["attention_mask"]
            out = self.encoder(input_ids=tokens["input_ids"], attention_mask=mask)
            pooled = out.get("text_embeds", out.get("pooler_output"))
            if pooled is None:
                pooled = (out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            parts.append(torch.nn.functional.normalize(pooled.float(), dim=-1))
        return torch.cat(parts)


def is_pipeline(folder: Path) -> bool:
    """Whether it is a folder that a diffusers pipeline was saved to."""
    return (folder / "model_index.json").is_file()


def is_tokenizer(folder: Path) -> bool:
    """Whether it is a folder that a tokenizer was saved to."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def readers(folder: Path, *, encoders: bool) -> list[Reader]:
    """All tokenizers of a folder in the pipeline's order, with their encoders when these are wanted and there.

    Raises SettingError for a folder that holds neither a pipeline nor a tokenizer.
    """
    if is_pipeline(folder):
        index: Mapping[str, Any] = needed_json(folder / "model_index.json", setting="model", fix="Save or download the pipeline again.")
        names = sorted(name for name, kind in index.items() if name.startswith("tokenizer") and isinstance(kind, list) and kind[0])
        found = []
        for name in names:
            encoder = name.replace("tokenizer", "text_encoder")
            known = encoders and isinstance(index.get(encoder), list) and index[encoder][0] == "transformers"
            found.append(Reader(name, _tokenizer(folder / name), _encoder(folder / encoder, index[encoder][1]) if known else None))
        if found:
            return found
    if is_tokenizer(folder):
        return [Reader(folder.name, _tokenizer(folder))]
    raise SettingError("model", f"{folder} holds neither a pipeline nor a tokenizer.", fix="Give a diffusers pipeline folder.")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, CLIPTokenizer

    try:
        with readable_name(folder) as place:
            if (folder / "merges.txt").is_file() and not (folder / "tokenizer_config.json").is_file():
                tokenizer = CLIPTokenizer.from_pretrained(place, model_max_length=77)
            else:
                tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # of damaged files the library raises anything, plain Exception too
        raise SettingError("model", f"the tokenizer in {folder} cannot be loaded ({first_line(error)}).", fix="Save it again.") from None
    check_tokenizer(tokenizer, f"the tokenizer in {folder}", "model")
    return tokenizer


def _encoder(folder: Path, kind: str) -> Any:
    import transformers

    try:
        with readable_name(folder) as place:
            encoder = getattr(transformers, kind).from_pretrained(place, dtype=torch.float32)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise SettingError("model", f"the text encoder in {folder} cannot be loaded ({first_line(error)}).", fix="Save it again.") from None
    return encoder.requires_grad_(False).eval()
