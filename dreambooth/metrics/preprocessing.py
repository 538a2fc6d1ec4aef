"""How a picture becomes an encoder's input: exactly as the encoder was published, on Pillow, without torchvision.

This is where public numbers differ most. DINO's own transform is Resize(256, bicubic), CenterCrop(224), ImageNet statistics; the
processor that ships with `facebook/dino-vits16` on the Hub squashes to 224 x 224 instead and gives other scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from dreambooth.files.reading import TypedDict, needed_json, open_shape
from dreambooth.photos.load import PhotoFile

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


Pixels = Annotated[int, Field(gt=0, le=8192)]
Statistics = tuple[float, float, float]


@open_shape
class Published(TypedDict, total=False):
    """What an encoder's folder says about its pictures, as transformers writes it."""

    size: Pixels | dict[str, Pixels] | None
    crop_size: Pixels | dict[str, Pixels] | None
    do_center_crop: bool
    image_mean: Statistics
    image_std: Statistics
    resample: Literal[0, 1, 2, 3, 4, 5]


@dataclass(frozen=True)
class Preprocessing:
    """Short side to `resize` pixels, the middle `crop` x `crop`, then (x - mean) / std of values in 0..1."""

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str = "bicubic"
    is_cut: bool = True
    """False: both sides become `crop` pixels, whatever shape the picture has."""

    def __str__(self) -> str:
        if not self.is_cut:
            return f"resize {self.crop} x {self.crop} {self.resample}"
        return f"resize {self.resize} {self.resample}, centre crop {self.crop}"

    def __call__(self, images: Sequence[Image.Image | PhotoFile]) -> Float[Tensor, "n 3 crop crop"]:
        """A batch in float32, of pictures of any sizes; photos on the disk are read one at a time."""
        return torch.stack([self.one(image) for image in images])

    def one(self, image: Image.Image | PhotoFile) -> Float[Tensor, "3 crop crop"]:
        """A single picture."""
        image = (image.read() if isinstance(image, PhotoFile) else image).convert("RGB")
        width, height = image.size
        short = min(width, height)
        side = (max(self.resize, int(self.resize * width / short)), max(self.resize, int(self.resize * height / short)))
        if not self.is_cut:
            side = (self.crop, self.crop)
        if side != image.size:
            image = image.resize(side, Image.Resampling[self.resample.upper()])
        left, top = (round((length - self.crop) / 2) for length in side)
        pixels = np.asarray(image.crop((left, top, left + self.crop, top + self.crop)), dtype=np.float32) / 255
        x = torch.from_numpy(pixels).permute(2, 0, 1)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std


DINO_PUBLISHED = Preprocessing(256, 224, *IMAGENET)


def for_dino(folder: Path, image_size: int | None) -> Preprocessing:
    """DINO's own transform for a network of 224 pixels, whatever the folder says; for any other network, what its folder says.

    A network of convolutions has no size of its own (None): there the folder's counts, 224 where it has none.
    """
    said = read(folder)
    size = image_size or (said.crop if said else 224)
    return DINO_PUBLISHED if size == 224 else said or Preprocessing(size, size, *IMAGENET)


def for_clip(folder: Path, image_size: int) -> Preprocessing:
    """What CLIP's folder says; without a word from it, OpenAI's: bicubic to the network's size, the middle, CLIP's statistics."""
    return read(folder) or Preprocessing(image_size, image_size, *CLIP)


def read(folder: Path) -> Preprocessing | None:
    """The transform of a folder's `preprocessor_config.json`, None where there is none; raises SettingError for one that is damaged."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    config = needed_json(path, Published, setting="encoder", fix="Save or download the encoder again.")
    side = _side(config.get("size"), 224)
    crop = _side(config.get("crop_size"), side) if config.get("do_center_crop", "crop_size" in config) else side
    mean, std = config.get("image_mean", CLIP[0]), config.get("image_std", CLIP[1])
    return Preprocessing(side, crop, mean, std, RESAMPLE[config.get("resample", 3)])


def _side(size: int | dict[str, int] | None, default: int) -> int:
    """The side in pixels from the forms that transformers has used: 224, {"shortest_edge": 224}, {"height": 224, "width": 224}."""
    if isinstance(size, dict):
        return size.get("shortest_edge") or size.get("height") or default
    return size or default
