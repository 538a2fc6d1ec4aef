"""Weights and states on disk: safetensors only, since a pickle can run any code when it is opened."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import whole_file
from dreambooth.files.disk import failing
from dreambooth.files.places import readable_name

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
}  # fmt: skip
"""How safetensors names types."""


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, notes: Mapping[str, Any] | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """A safetensors file with JSON notes in its header, or texts as other programs read them.

    The library writes notes in a random order; this is its format, read back by it.
    """
    metadata = {"format": "pt"} | {name: json.dumps(value, sort_keys=True) for name, value in (notes or {}).items()}
    metadata |= texts or {}
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    names = sorted(own, key=lambda name: (-own[name].element_size(), name))  # wide ones first, so that all are aligned
    header: dict[str, Any]
    header, place = {"__metadata__": {name: metadata[name] for name in sorted(metadata)}}, 0
    for name in names:
        size = own[name].numel() * own[name].element_size()
        header[name] = {"dtype": DTYPES[own[name].dtype], "shape": list(own[name].shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with whole_file(path) as partial, partial.open("wb") as file:
        file.writelines((len(text).to_bytes(8, "little"), text, *(_bytes(own[name]) for name in names)))


def _bytes(tensor: torch.Tensor) -> Any:
    """The bytes of a contiguous tensor on the CPU, not copied."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, opened by a name that the library can read; raises its errors and OSError."""
    with readable_name(path) as name, safe_open(name, framework="pt") as file:
        yield file


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the notes of a safetensors file; raises SettingError for a file that is not whole."""
    try:
        with open_tensors(path) as file:
            notes = {name: _read_note(value) for name, value in (file.metadata() or {}).items() if name != "format"}
            return {name: file.get_tensor(name) for name in list(file.keys())}, notes
    except (SafetensorError, OSError) as error:
        reason = str(error).split("\n")[0]
        damaged = SettingError(str(path), f"cannot be read as safetensors ({reason}).", fix="The file is damaged or half written.")
        raise failing(error, path) or damaged from None


def _read_note(note: str) -> Any:
    """A JSON note's value; another program's text as it is."""
    try:
        return json.loads(note)
    except ValueError:
        return note


def sort_header(path: Path) -> None:
    """Put a safetensors file's header in order, so that equal contents are equal bytes.

    The library writes notes in a random order, and PEFT lists of layer names come from sets; both change from process to process.
    """
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        notes = header.get("__metadata__", {})
        header["__metadata__"] = {name: _sorted_note(notes[name]) for name in sorted(notes)}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "a sorted header is never longer"
        file.seek(8)
        file.write(text.ljust(size))


def _sorted_note(note: str) -> str:
    """A JSON note with its keys and its lists of words sorted; other notes as they are."""
    try:
        value = json.loads(note)
    except ValueError:
        return note
    if not isinstance(value, dict):
        return note
    words = {k: sorted(v) if isinstance(v, list) and all(isinstance(w, str) for w in v) else v for k, v in value.items()}
    return json.dumps(words, sort_keys=True, separators=(",", ":"))
