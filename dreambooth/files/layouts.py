"""Names of LoRA weights in other programs' files: kohya's, which ComfyUI and A1111 read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.errors import SettingError
from dreambooth.files.tensors import load_tensors, save_tensors

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
ROLES = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}


def write_kohya(folder: Path, *, prefixes: Mapping[str, str]) -> Path:
    """The folder's LoRA file once more in kohya's names, each layer with its alpha; returns the new file."""
    tensors, notes = load_tensors(folder / DIFFUSERS_FILE)
    settings = notes.get("lora_adapter_metadata", {})
    path = folder / KOHYA_FILE
    save_tensors(path, to_kohya(tensors, settings, prefixes), notes={"ss_network_module": "networks.lora"})
    return path


def to_kohya(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """`unet.a.b.lora_A.weight` becomes `lora_unet_a_b.lora_down.weight`; a text encoder's layers regain their `text_model`.

    `settings` are the adapter's, as diffusers keeps them in the file's header (`unet.lora_alpha`, `unet.r` ...).
    Raises SettingError for DoRA.
    """
    if any("lora_magnitude_vector" in name for name in tensors):
        reason = "programs that read kohya's files do not agree on how DoRA's magnitudes are kept there."
        raise SettingError("--output_kohya_format", reason, fix="Leave out --use_dora or this flag.")
    out: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        role = next(role for role in ROLES if rest.endswith(f".{role}"))
        layer = rest.removesuffix(f".{role}")
        if part.startswith("text_encoder") and not layer.startswith("text_model."):
            layer = f"text_model.{layer}"
        stem = f"{prefixes[part]}_{layer.replace('.', '_')}"
        out[f"{stem}.{ROLES[role]}"] = tensor
        if role == "lora_A.weight":
            out[f"{stem}.alpha"] = torch.tensor(float(settings.get(f"{part}.lora_alpha", tensor.shape[0])))
    return out
