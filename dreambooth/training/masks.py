"""Where the subject is in a photo, for a loss of the subject alone: from a folder of masks, or the photo's own transparency."""

from pathlib import Path

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.photos.entries import MASKS
from dreambooth.photos.load import Facts, load, scan


def mask_file(photo: Path, folder: str | None) -> Path | None:
    """The file with a photo's mask: named as the photo without its ending, in `folder`, else in `masks` beside it; None without one."""
    place = Path(folder) if folder else photo.parent / MASKS
    named = {path.stem: path for path in scan(str(place)).photos} if folder or place.is_dir() else {}
    return named.get(photo.stem)


def mask_of(photo: Path, facts: Facts, folder: str | None) -> Image.Image:
    """The mask of a photo (of which `facts` were found when it was read) in its size, mode L, white where the subject is: its
    `mask_file`, else its alpha channel.

    Raises SettingError for a photo without any, and for a mask of another shape.
    """
    file = mask_file(photo, folder)
    if file is None:
        if facts.alpha and not folder:
            return facts.alpha
        place = folder or photo.parent / MASKS
        fix = f"Add one to {place}, or cut the subject out (PNG with transparency), or leave --masked_loss out."
        raise SettingError("--masked_loss", f"{photo.name} has no mask.", fix=fix)
    mask = load(file, background=(0, 0, 0)).convert("L")
    if mask.size != facts.size:
        reason = f"the mask of {photo.name} is {mask.width} x {mask.height} pixels, the photo {facts.size[0]} x {facts.size[1]}."
        raise SettingError("--masked_loss", reason, fix="Save the mask in the photo's own size.")
    return mask
