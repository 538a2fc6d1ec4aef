"""Pictures cut to size: as uint8, each crop and each flip its own, at places that are a function of the seed and the picture's name."""

import math
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
from dreambooth.schema import BASIC, Setting

RESAMPLING = {
    "lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST, "box": Image.Resampling.BOX, "hamming": Image.Resampling.HAMMING,
}  # fmt: skip

LONGEST = 2.25
"""How much longer than the other a side of a bucket may be."""


class Cropping(Setting):
    """How pictures are cut to size"""

    resolution: Annotated[Annotated[int, Ge(8), Le(8192)] | None, BASIC] = None
    """Side in pixels of the square that is trained on; automatic: the base model's own size."""
    aspect_ratio_buckets: bool = False
    """Train photos in shapes near their own, of the area of a square of --resolution and at most about 2:1, instead of cutting squares."""
    center_crop: bool = False
    """Cut the middle of a photo that does not have the trained shape, instead of random parts of it."""
    random_flip: bool = False
    """Also show pictures mirrored. Not for subjects with writing or a parting."""
    crops_per_photo: Annotated[int, Ge(1), Le(1000)] = 4
    """How many random crops of a picture that does not have the trained shape there are to draw from."""
    cache_latents: bool = True
    """Run the VAE once per crop and not in every step; needs memory for the latents of all pictures."""
    image_interpolation_mode: Literal["lanczos", "bicubic", "bilinear", "nearest", "box", "hamming"] = "lanczos"
    """Filter for making pictures smaller or larger."""


@dataclass(frozen=True)
class Crop:
    """One (picture, crop, flip): uint8 pixels [3, h, w], and what conditions some families on the crop (height, width; top, left)."""

    pixels: UInt8[Tensor, "3 h w"] | None
    """None once they are encoded and kept as moments."""
    original: tuple[int, int]
    corner: tuple[int, int]
    shape: tuple[int, int]
    """Height and width of the crop."""
    mask: UInt8[Tensor, "1 h w"] | None = None
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
    """How every picture of a run is cut: the settings, the side in pixels that is trained, the seed of random crops; and the shapes
    (height, width) beside the square that pictures may have, `bucket_shapes`."""

    cropping: Cropping
    resolution: int
    seed: int = 0
    shapes: tuple[tuple[int, int], ...] = ()

    def shape(self, original: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the crops of a picture of this width and height: of all shapes the nearest to its own."""
        square = (self.resolution, self.resolution)
        own = math.log(original[1] / original[0])
        return min((square, *self.shapes), key=lambda shape: abs(math.log(shape[0] / shape[1]) - own))

    def size(self, original: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the whole picture in the trained size: as small as it may be to cover its crops."""
        height, width = self.shape(original)
        scale = max(width / original[0], height / original[1])
        return max(width, round(original[0] * scale)), max(height, round(original[1] * scale))

    def resize(self, image: Image.Image, original: tuple[int, int] | None = None) -> Image.Image:
        """A whole picture in the trained size; `original` are the width and height of its file, where it is smaller by now."""
        size = self.size(original or image.size)
        return image.resize(size, RESAMPLING[self.cropping.image_interpolation_mode]) if size != image.size else image

    def crops(self, image: Image.Image, name: str, *, original: tuple[int, int] | None = None) -> Iterator[Crop]:
        """The crops of one picture at the trained size, each also mirrored when flips are asked for."""
        whole = original or image.size
        h, w = shape = self.shape(whole)
        image, before = self.resize(image, whole), (whole[1], whole[0])
        for top, left in self.corners(image.size, name, shape):
            part = np.asarray(image.crop((left, top, left + w, top + h)))
            pixels = torch.from_numpy(part.copy()).permute(2, 0, 1)
            yield Crop(pixels, before, (top, left), shape)
            if self.cropping.random_flip:
                yield Crop(pixels.flip(-1), before, (top, image.width - left - w), shape)

    def corners(self, size: tuple[int, int], name: str, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """Top left corners of a picture's crops: the middle, or `crops_per_photo` random ones spread over the side that is too long."""
        room, count = (size[1] - shape[0], size[0] - shape[1]), self.cropping.crops_per_photo
        if self.cropping.center_crop or room == (0, 0):
            return [(room[0] // 2, room[1] // 2)]
        shares = (torch.arange(count) + torch.rand(count, generator=generator(self.seed, "crop", name))) / count
        return sorted({(int(share * (room[0] + 1)), int(share * (room[1] + 1))) for share in shares.tolist()})


def bucket_shapes(resolution: int, *, step: int, longest: int | None = None) -> tuple[tuple[int, int], ...]:
    """Heights and widths of nearly the area of a square, from about 1:2 to 2:1, in steps of about 64 pixels that are multiples of `step`.

    Of a small resolution the steps are an eighth of it. No side is longer than `longest`.
    """
    stride = -(-min(64, max(1, resolution // 8)) // step) * step
    found = set[tuple[int, int]]()
    for side in range(stride, 2 * resolution + 1, stride):
        other = resolution**2 // side // stride * stride
        if other and max(side, other) <= LONGEST * min(side, other) and max(side, other) <= (longest or side + other):
            found |= {(side, other), (other, side)}
    return tuple(sorted(found))


def as_pixels(crops: Sequence[Crop], device: torch.device) -> Float[Tensor, "b 3 h w"]:
    """Pictures of one shape in [-1, 1], float32 [b, 3, h, w], as a VAE takes them."""
    return torch.stack([cut.pixels for cut in crops if cut.pixels is not None]).to(device, torch.float32) / 127.5 - 1
