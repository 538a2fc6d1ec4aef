"""Names of files that travel: those of LoRA weights; and what one system keeps and another cannot."""

import re

from dreambooth.core.errors import SettingError

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
"""The same in kohya's names, which ComfyUI and A1111 read."""
ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Letters that Windows takes in no name."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)


def refuse_name(name: str, setting: str) -> None:
    """Raise SettingError for a name that is none of a file, or that Windows cannot keep."""
    if not name or ILLEGAL.search(name) or RESERVED.fullmatch(name) or name.endswith((".", " ")):
        reason = f"{name!r} is a name that Windows cannot keep, so the file could not travel."
        raise SettingError(setting, reason, fix="Choose one without < > : \" / \\ | ? *, and no device's.")


def plain(name: str) -> str:
    """A name without what Windows takes in none."""
    name = ILLEGAL.sub("-", name).rstrip(". ").strip()
    return f"_{name}" if RESERVED.fullmatch(name) else name or "dreambooth"
