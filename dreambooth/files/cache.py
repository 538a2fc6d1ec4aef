"""Where what can be made again is kept for all runs: class images, digests of base models."""

import os
from pathlib import Path

from dreambooth.core.errors import SettingError

CLASS_IMAGES, DIGESTS = "class_images", "digests"
"""Folders below the root."""
MANIFEST = "class_images.json"
"""In a folder of class images: which they are, and how they were made."""


def cache_root() -> Path:
    """$DREAMBOOTH_CACHE, or dreambooth below $XDG_CACHE_HOME or ~/.cache; raises SettingError where nobody says where home is."""
    own, shared = os.environ.get("DREAMBOOTH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own or shared:
        return Path(own) if own else Path(str(shared)) / "dreambooth"
    try:
        return Path.home() / ".cache" / "dreambooth"
    except RuntimeError:
        reason = "there is no folder to keep class images in: HOME is not set, and the system does not know this user."
        raise SettingError("--class_data_dir", reason, fix="Give it, or set DREAMBOOTH_CACHE or HOME.") from None
