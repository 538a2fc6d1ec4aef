"""Data that travels inside the package, by name: the toybox's model and encoders."""

from importlib.resources import files
from pathlib import Path

from dreambooth.core.errors import SettingError

TOYBOX = "toybox"


def toybox(part: str = "pipeline") -> Path:
    """A folder of the embedded toybox: `pipeline`, `encoders/clip` ...; raises SettingError when this installation lacks it."""
    path = Path(str(files("dreambooth"))) / "toybox" / part
    if not path.is_dir():
        fix = "Train them with `dreambooth toybox pretrain`, or name a real model with --pretrained_model_name_or_path."
        raise SettingError("toybox", f"this installation has no {part} of the embedded model.", fix=fix)
    return path
