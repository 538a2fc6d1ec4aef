"""A family whose networks have shapes and no numbers, and whose tokenizers know lengths and no words, from a model's configurations."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dreambooth.core.errors import SettingError, first_line
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.safety import SafetyChecker
from dreambooth.families.source import FLAG, UNUSED, parts_of
from dreambooth.files.places import readable_name
from dreambooth.files.reading import needed_json

Mode = FakeTensorMode | nullcontext[None]
"""Under which networks are made: without numbers, or, to measure what they take, with them."""
TEMPLATE_LENGTH = 5
"""Tokens before a prompt in a chat template; of that order, whatever the template is."""


def load(source: ModelSource, dtypes: Mapping[str, torch.dtype], *, mode: Mode) -> Family:
    """The family of a folder, its parts in float32 but for those that `dtypes` names; nothing but configurations is read.

    Raises SettingError for configurations that make no pipeline.
    """
    import diffusers

    kind, folder = family_of(source), source.folder()
    index = source.index()
    parts: dict[str, Any] = {}
    try:
        for name, (library, own) in parts_of(index).items():
            parts[name] = None
            if library and own and name not in UNUSED:
                parts[name] = _part(folder / name, name, str(library), str(own), dtypes.get(name, torch.float32), mode)
        pipeline = getattr(diffusers, index["_class_name"])
        known = inspect.signature(pipeline).parameters
        parts |= {name: None for name in UNUSED if name in known}
        options = {name: value for name, value in index.items() if name in known and name not in parts}
        if "requires_safety_checker" in known:
            options["requires_safety_checker"] = False
        with _unchecked(pipeline):
            pipe = pipeline(**parts, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{folder} makes no {kind.name} ({first_line(error)})."
        raise SettingError(FLAG, reason, fix="Its configurations are damaged, or of another release; download them again.") from error
    pipe.set_progress_bar_config(disable=True)
    family = kind(pipe)
    family.checker = SafetyChecker.of(source)
    return family


@contextmanager
def changing(mode: Mode) -> Iterator[None]:
    """A block in which fake networks can be added to and rounded. (torch swaps fake weights whole, and cannot once they are known.)"""
    own, torch.utils.swap_tensors = torch.utils.swap_tensors, _set_data
    try:
        with mode:
            yield
    finally:
        torch.utils.swap_tensors = own


def _set_data(old: torch.Tensor, new: torch.Tensor) -> None:
    old.data = new.data


def _part(folder: Path, name: str, library: str, kind: str, dtype: torch.dtype, mode: Mode) -> Any:
    if name.startswith("tokenizer"):
        return Lengths(folder)
    from diffusers.models.modeling_utils import no_init_weights as diffusers_uninitialized
    from transformers.initialization import no_init_weights as transformers_uninitialized

    own = getattr(import_module(library), kind)
    with readable_name(folder) as place:
        if kind.endswith("Scheduler"):
            return own.from_pretrained(place)
        config = own.load_config(place) if library == "diffusers" else own.config_class.from_pretrained(place)
    with mode, diffusers_uninitialized(), transformers_uninitialized():
        network = own.from_config(config) if library == "diffusers" else own(config)
        return _rounded(network, dtype).requires_grad_(False).eval()


def _rounded(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A network's weights in a precision, but for those that its library keeps whole."""
    kept = tuple(getattr(network, "_keep_in_fp32_modules", None) or ())
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.is_floating_point() and not any(one in name for one in kept):
            value.data = value.data.to(dtype)
    return network


@contextmanager
def _unchecked(pipeline: type) -> Iterator[None]:
    """A block in which a pipeline takes any object for a tokenizer."""
    own = pipeline.register_modules
    pipeline.register_modules = _register
    try:
        yield
    finally:
        pipeline.register_modules = own


def _register(pipe: Any, **parts: Any) -> None:
    for name, part in parts.items():
        pipe.register_to_config(**{name: (type(part).__module__.partition(".")[0], type(part).__name__)})
        setattr(pipe, name, part)


class Lengths:
    """In the place of a tokenizer: every prompt is as long as prompts may be."""

    chat_template = "{{ messages }}"
    added_tokens_encoder: Mapping[str, int] = {}
    pad_token_id = bos_token_id = eos_token_id = unk_token_id = 0
    pad_token = bos_token = eos_token = unk_token = "."

    def __init__(self, folder: Path):
        path = folder / "tokenizer_config.json"
        config = needed_json(path, setting=FLAG, fix="Download it again.") if path.is_file() else {}
        self.model_max_length = int(min(float(config.get("model_max_length") or 1e30), 1e30))
        self.padding_side = "right"

    def __call__(self, text: str | Sequence[str], *, max_length: int | None = None, **options: Any) -> "Tokens":
        rows, length = 1 if isinstance(text, str) else len(text), max_length or self.model_max_length
        ids = torch.zeros(rows, min(length, 1 << 16), dtype=torch.long)
        return Tokens(input_ids=ids, attention_mask=torch.ones_like(ids))

    def apply_chat_template(self, messages: Any, *, tokenize: bool = True, **options: Any) -> Any:
        return self(str(messages), **options) if tokenize else str(messages)

    def batch_decode(self, ids: Any, **options: Any) -> list[str]:
        return [""] * len(ids)

    def tokenize(self, text: str, **options: Any) -> list[str]:
        return [self.pad_token] * TEMPLATE_LENGTH

    def encode(self, text: str, **options: Any) -> list[int]:
        return [0] * TEMPLATE_LENGTH

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        return 0 if isinstance(tokens, str) else [0] * len(tokens)

    def get_vocab(self) -> dict[str, int]:
        return {}


class Tokens(SimpleNamespace):
    """What a tokenizer answers: `input_ids` and `attention_mask`, long [b, L]."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return getattr(self, name)

    def keys(self) -> list[str]:
        return list(vars(self))

    def to(self, device: Any) -> "Tokens":
        return self
