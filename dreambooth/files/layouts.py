"""Names of LoRA weights in other programs' files: kohya's, which ComfyUI and A1111 read."""

from collections.abc import Mapping
from pathlib import Path

import torch

from dreambooth.files.tensors import load_tensors, save_tensors

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
ROLES = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight", "lora_magnitude_vector": "dora_scale"}


def write_kohya(folder: Path, *, prefixes: Mapping[str, str]) -> Path:
    """The folder's LoRA file once more in kohya's names, each layer with its alpha; returns the new file."""
    tensors, notes = load_tensors(folder / DIFFUSERS_FILE)
    settings = notes.get("lora_adapter_metadata", {})
    path = folder / KOHYA_FILE
    save_tensors(path, to_kohya(tensors, settings, prefixes), notes={"ss_network_module": "networks.lora"})
    return path


def to_kohya(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, object], prefixes: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """`unet.a.b.lora_A.weight` becomes `lora_unet_a_b.lora_down.weight`; a text encoder's layers regain their `text_model`.

    `settings` are the adapter's, as diffusers keeps them in the file's header (`unet.lora_alpha`, `unet.r` ...).
    """
    out: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        role = next(old for old in ROLES if rest.removesuffix(".weight").endswith(old.removesuffix(".weight")))
        layer = rest[: rest.index(role.removesuffix(".weight")) - 1]
        if part.startswith("text_encoder") and not layer.startswith("text_model."):
            layer = f"text_model.{layer}"
        stem = f"{prefixes[part]}_{layer.replace('.', '_')}"
        out[f"{stem}.{ROLES[role]}"] = tensor
        if role == "lora_A.weight":
            alpha = settings.get(f"{part}.lora_alpha", tensor.shape[0])
            out[f"{stem}.alpha"] = torch.tensor(float(alpha))  # type: ignore[arg-type]
    return out
