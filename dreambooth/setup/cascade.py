"""Small pictures for a stage that makes them large: given ones, or photos made as small as the stage before would have drawn them."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dreambooth.families import Family
from dreambooth.families.cascade import Given, pixels_of
from dreambooth.families.superresolution import SuperResolution
from dreambooth.photos.load import load


def given_pictures(paths: Sequence[Path], family: Family, side: int, *, first_seed: int = 0) -> Given:
    """Pictures on the disk, larger ones made as small as the stage's own small pictures are, whose shorter side is `side` pixels."""
    assert isinstance(family, SuperResolution)
    pictures = [pixels_of(shrunk(load(path), side, step=family.pixel_step // family.ratio)) for path in paths]
    return Given([path.name for path in paths], pictures, first_seed)


def shrunk(image: Image.Image, side: int, *, step: int = 1) -> Image.Image:
    """A picture by an area average, its shorter side `side` pixels, unless it is smaller; its middle, in whole steps."""
    scale = min(1.0, side / min(image.size))
    width, height = (max(step, round(length * scale) // step * step) for length in image.size)
    factor = min(image.width / width, image.height / height)
    left, top = (image.width - width * factor) / 2, (image.height - height * factor) / 2
    box = (left, top, left + width * factor, top + height * factor)
    return image.convert("RGB").resize((width, height), Image.Resampling.BOX, box=box)
