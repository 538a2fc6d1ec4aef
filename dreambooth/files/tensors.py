"""Weights and states on disk: safetensors only, since a pickle can run any code when it is opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import whole_file


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, notes: Mapping[str, Any] | None = None) -> None:
    """A safetensors file with JSON notes in its header; tensors that share memory are copied apart."""
    metadata = {"format": "pt"} | {name: json.dumps(value, sort_keys=True) for name, value in (notes or {}).items()}
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(own, partial, metadata=metadata)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the notes of a safetensors file; raises SettingError for a file that is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = {name: json.loads(value) for name, value in (file.metadata() or {}).items() if name != "format"}
            return {name: file.get_tensor(name) for name in file.keys()}, notes
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        reason = str(error).split("\n")[0]
        raise SettingError(str(path), f"cannot be read as safetensors ({reason}).", fix="The file is damaged or half written.") from None
