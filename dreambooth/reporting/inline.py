"""Pictures inside a page: as data URIs, small enough to send by mail."""

import base64
import io
from pathlib import Path

from PIL import Image

from dreambooth.files.images import BROKEN

SIDE = 288
"""Longest side of a picture in the page, in pixels; smaller ones stay as they are."""


def data_uri(image: Image.Image, side: int = SIDE) -> str:
    """JPEG for photos and large pictures, PNG for small ones, where JPEG would show."""
    image = image.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    small = max(image.size) <= 96
    out = io.BytesIO()
    image.save(out, "PNG" if small else "JPEG", **({"optimize": True} if small else {"quality": 86, "optimize": True}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(out.getvalue()).decode()}"


def file_uri(path: Path, side: int = SIDE) -> str | None:
    """The same for a file; None when it is no picture any more."""
    try:
        with Image.open(path) as image:
            return data_uri(image, side)
    except BROKEN:
        return None
