"""A photo read once: the check, the training, the record of a run and its report share one decoded picture and one digest."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from dreambooth.photos.files import read_bytes
from dreambooth.photos.load import Facts, PhotoFile, load_with_facts

KEPT_BYTES = 512 * 2**20
"""Pixels that a scan keeps for the training, in the trained size: 600 photos at 512. Photos beyond are read again when they are cropped."""
THUMBNAIL = 288
"""Longest side in pixels of a photo in a report."""


@dataclass(frozen=True)
class Photo(PhotoFile):
    """What was read of a photo's file."""

    sha256: str
    """Of the file's bytes, as 64 hexadecimal digits."""
    facts: Facts
    image: Image.Image | None = None
    """In the trained size, the whole photo; None where it is not kept. `facts.alpha` has the same size then."""
    thumbnail: Image.Image | None = None

    def digest(self) -> str:
        return self.sha256

    def without_pixels(self) -> "Photo":
        """The same for the time when it is encoded: digest, facts and thumbnail."""
        return replace(self, image=None, facts=replace(self.facts, alpha=None))


def read_photo(path: Path) -> tuple[Image.Image, Photo]:
    """A photo as `load` gives it, in full size, and what was read of its file; raises PhotoError."""
    data = read_bytes(path)
    image, facts = load_with_facts(path, data=data)
    return image, Photo(path, hashlib.sha256(data).hexdigest(), facts)


class PhotoScan:
    """Reads photos one at a time for whoever judges them in full size, and keeps of each what a run needs later."""

    def __init__(self, resize: Callable[[Image.Image], Image.Image], *, thumbnails: frozenset[Path] = frozenset()):
        """`resize` brings a picture to the trained size; `thumbnails` are the photos that will stand in a report."""
        self.resize, self.thumbnails = resize, thumbnails
        self.photos: dict[Path, Photo] = {}
        self.room = KEPT_BYTES

    def read(self, path: Path) -> tuple[Image.Image, Photo]:
        """The photo in full size, which is not kept; raises PhotoError."""
        image, photo = read_photo(path)
        self.photos[path] = self._kept(image, photo)
        return image, photo

    def _kept(self, image: Image.Image, photo: Photo) -> Photo:
        alpha, thumbnail = photo.facts.alpha, None
        if photo.path in self.thumbnails:
            thumbnail = image.copy()
            thumbnail.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        resized = self.resize(image)
        self.room -= resized.width * resized.height * (4 if alpha else 3)
        if self.room < 0:
            return replace(photo, facts=replace(photo.facts, alpha=None), thumbnail=thumbnail)
        return replace(photo, image=resized, facts=replace(photo.facts, alpha=alpha and self.resize(alpha)), thumbnail=thumbnail)
