"""Pictures cut to size: as uint8, each crop and each flip its own, at places that are a function of the seed and the picture's name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dreambooth.core.draws import generator
from dreambooth.schema import Setting

RESAMPLING = {
    "lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST, "box": Image.Resampling.BOX, "hamming": Image.Resampling.HAMMING,
}  # fmt: skip


class Cropping(Setting):
    """How pictures are cut to size"""

    resolution: Annotated[int, Ge(8), Le(8192)] | None = None
    """Side in pixels of the square that is trained on; left out, the base model's own size."""
    center_crop: bool = False
    """Cut the middle of a photo that is not square, instead of random parts of it."""
    random_flip: bool = False
    """Also show pictures mirrored. Not for subjects with writing or a parting."""
    crops_per_photo: Annotated[int, Ge(1), Le(1000)] = 4
    """How many random crops of a picture that is not square there are to draw from."""
    cache_latents: bool = True
    """Run the VAE once per crop and not in every step; needs memory for the latents of all pictures."""
    image_interpolation_mode: Literal["lanczos", "bicubic", "bilinear", "nearest", "box", "hamming"] = "lanczos"
    """Filter for making pictures smaller or larger."""


@dataclass(frozen=True)
class Crop:
    """One (picture, crop, flip): uint8 pixels [3, r, r], and what conditions some families on the crop."""

    pixels: UInt8[Tensor, "3 r r"] | None
    """None once they are encoded and kept as moments."""
    original: tuple[int, int]
    corner: tuple[int, int]
    mask: UInt8[Tensor, "1 r r"] | None = None
    """Where the subject is, 255 there, for a masked loss."""


@dataclass(frozen=True)
class Picture:
    """A picture to learn from, decoded, with the places of its prompts in the table of prompts."""

    name: str
    image: Image.Image
    prompts: list[int]
    mask: Image.Image | None = None
    original: tuple[int, int] | None = None
    """Width and height of its file, where `image` is in the trained size already."""


@dataclass(frozen=True)
class Cutter:
    """How every picture of a run is cut: the settings, the side in pixels that is trained, and the seed of random crops."""

    cropping: Cropping
    resolution: int
    seed: int = 0

    def size(self, original: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the whole picture in the trained size: its shorter side is `resolution`."""
        scale = self.resolution / min(original)
        width, height = (max(self.resolution, round(side * scale)) for side in original)
        return width, height

    def resize(self, image: Image.Image) -> Image.Image:
        """A whole picture in the trained size."""
        size = self.size(image.size)
        return image.resize(size, RESAMPLING[self.cropping.image_interpolation_mode]) if size != image.size else image

    def crops(self, image: Image.Image, name: str, *, original: tuple[int, int] | None = None) -> Iterator[Crop]:
        """The crops of one picture at the trained size, each also mirrored when flips are asked for."""
        width, height = original or image.size
        image = self.resize(image)
        for top, left in self.corners(image.size, name):
            square = np.asarray(image.crop((left, top, left + self.resolution, top + self.resolution)))
            pixels = torch.from_numpy(square.copy()).permute(2, 0, 1)
            yield Crop(pixels, (height, width), (top, left))
            if self.cropping.random_flip:
                yield Crop(pixels.flip(-1), (height, width), (top, image.width - left - self.resolution))

    def corners(self, size: tuple[int, int], name: str) -> list[tuple[int, int]]:
        """Top left corners of a picture's crops: the middle, or `crops_per_photo` random ones spread over its longer side."""
        room, count = (size[1] - self.resolution, size[0] - self.resolution), self.cropping.crops_per_photo
        if self.cropping.center_crop or room == (0, 0):
            return [(room[0] // 2, room[1] // 2)]
        shares = (torch.arange(count) + torch.rand(count, generator=generator(self.seed, "crop", name))) / count
        return sorted({(int(share * (room[0] + 1)), int(share * (room[1] + 1))) for share in shares.tolist()})


def as_pixels(crops: Sequence[Crop], device: torch.device) -> Float[Tensor, "b 3 r r"]:
    """Pictures in [-1, 1], float32 [b, 3, r, r], as a VAE takes them."""
    return torch.stack([cut.pixels for cut in crops if cut.pixels is not None]).to(device, torch.float32) / 127.5 - 1
