"""From pictures to the batch of an update: crops, posterior moments and text are made once; latents, noise and times are drawn each step.

Everything a row shows is a function of (seed, update, row). A cache entry belongs to one (picture, crop, flip), so that with and without
the cache the same set of crops is trained.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreambooth.core.batch import Batch, picture_weights
from dreambooth.core.draws import endless_order, generator
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.schema import Setting
from dreambooth.training.objective import Objective
from dreambooth.training.records import Progress, Record

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


@dataclass
class ImageSet:
    """The pictures of one role (the subject's photos, or the prior's) with their cuts, prompts and, once encoded, moments."""

    crops: list[Crop] = field(default_factory=list)
    cuts_of: list[list[int]] = field(default_factory=list)
    """For every picture the places of its cuts."""
    prompts_of: list[list[int]] = field(default_factory=list)
    """For every picture the places of its prompts in the table of prompts; one of them is drawn each time it is shown."""
    names: list[str] = field(default_factory=list)
    moments: Tensor | None = None
    """[cuts, 2c, h, w] on the device, when cached."""

    def __len__(self) -> int:
        return len(self.cuts_of)

    def add(
        self, name: str, image: Image.Image, prompts: list[int], *, cropping: Cropping, resolution: int, seed: int, mirrored: bool,
        mask: Image.Image | None = None,
    ) -> None:  # fmt: skip
        """Cut a picture, and its mask where it has one, and remember it."""
        options = {"cropping": cropping, "resolution": resolution, "seed": seed, "mirrored": mirrored}
        crops = list(crop_picture(image, name, **options))
        if mask:
            masks = crop_picture(mask.convert("RGB"), name, **options)
            crops = [replace(cut, mask=own.pixels[:1]) for cut, own in zip(crops, masks, strict=True) if own.pixels is not None]
        self.cuts_of.append(list(range(len(self.crops), len(self.crops) + len(crops))))
        self.crops += crops
        self.prompts_of.append(prompts)
        self.names.append(name)


def crop_picture(image: Image.Image, name: str, *, cropping: Cropping, resolution: int, seed: int, mirrored: bool) -> Iterator[Crop]:
    """The crops of one picture at the trained size, each also mirrored when flips are asked for."""
    original = (image.height, image.width)
    scale = resolution / min(image.size)
    size = (max(resolution, round(image.width * scale)), max(resolution, round(image.height * scale)))
    image = image.resize(size, RESAMPLING[cropping.image_interpolation_mode]) if size != image.size else image
    for top, left in corners(size, resolution, cropping=cropping, seed=seed, name=name):
        square = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
        pixels = torch.from_numpy(square.copy()).permute(2, 0, 1)
        yield Crop(pixels, original, (top, left))
        if mirrored:
            yield Crop(pixels.flip(-1), original, (top, size[0] - left - resolution))


def corners(size: tuple[int, int], resolution: int, *, cropping: Cropping, seed: int, name: str) -> list[tuple[int, int]]:
    """Top left corners of a picture's crops: the middle, or `crops_per_photo` random ones spread over its longer side."""
    room = (size[1] - resolution, size[0] - resolution)
    if cropping.center_crop or room == (0, 0):
        return [(room[0] // 2, room[1] // 2)]
    rng = generator(seed, "crop", name)
    shares = (torch.arange(cropping.crops_per_photo) + torch.rand(cropping.crops_per_photo, generator=rng)) / cropping.crops_per_photo
    return sorted({(int(share * (room[0] + 1)), int(share * (room[1] + 1))) for share in shares.tolist()})


def as_pixels(crops: Sequence[Crop], device: torch.device) -> Float[Tensor, "b 3 r r"]:
    """Pictures in [-1, 1], float32 [b, 3, r, r], as a VAE takes them."""
    return torch.stack([cut.pixels for cut in crops if cut.pixels is not None]).to(device, torch.float32) / 127.5 - 1


@dataclass(frozen=True)
class Shown:
    """A picture of a shelf, decoded, with the places of its prompts."""

    name: str
    image: Image.Image
    prompts: list[int]
    mask: Image.Image | None = None


@torch.no_grad()
def fill_image_set(
    image_set: ImageSet, pictures: Iterable[Shown], family: Family | None, *, count: int, what: str, cropping: Cropping, resolution: int,
    seed: int, batch_size: int = 4,
) -> Iterator[Record]:  # fmt: skip
    """Cut `count` pictures to size as they are read, so that one at a time is held decoded, whatever its size.

    With a family their cuts are encoded at once, a few at a time, into the shelf's `moments`, and their pixels let go.
    """
    some: list[Tensor] = []
    encoded, phase = 0, f"{'encoding' if family else 'reading'} {what}"
    for number, shown in enumerate(pictures):
        yield Progress(phase, number, count)
        options = {"cropping": cropping, "resolution": resolution, "seed": seed, "mirrored": cropping.random_flip}
        image_set.add(shown.name, shown.image, shown.prompts, mask=shown.mask, **options)
        is_last = number == count - 1
        while family and (len(image_set.crops) - encoded >= batch_size or (is_last and encoded < len(image_set.crops))):
            place = slice(encoded, encoded + batch_size)
            some.append(family.encode(as_pixels(image_set.crops[place], family.device)))
            image_set.crops[place] = [replace(cut, pixels=None) for cut in image_set.crops[place]]
            encoded = min(encoded + batch_size, len(image_set.crops))
    image_set.moments = torch.cat(some) if some else None
    yield Progress(phase, count, count)


@torch.no_grad()
def text_table(family: Family, prompts: Sequence[str], *, learning: Collection[str] = ()) -> dict[str, Tensor]:
    """What every prompt conditions the model with, one row each: embeddings, or token ids where an encoder is among the learning parts.

    Beside the ids stand the embeddings of encoders that read alone and do not learn: T5's while CLIP learns, which needs T5 no more.
    """
    tokens = {name: ids.to(family.device) for name, ids in family.tokenize(prompts).items()}
    if set(family.encoder_names).isdisjoint(learning):
        return family.embed(tokens)
    settled = [answer for name, answer in family.reads_alone.items() if name not in learning]
    embedded = family.embed(tokens) if settled else {}
    return tokens | {answer: embedded[answer] for answer in settled}


class Batches:
    """Makes the rows of any update: photos first, then the prior's pictures."""

    def __init__(
        self, family: Family, photos: ImageSet, prior: ImageSet, text: dict[str, Tensor], *, process: NoiseSchedule, objective: Objective,
        num_photos: int, num_prior: int, resolution: int, seed: int,
    ):  # fmt: skip
        self.family, self.photos, self.prior, self.text = family, photos, prior, text
        self.process, self.objective, self.seed = process, objective, seed
        self.num_photos, self.num_prior, self.resolution = num_photos, num_prior, resolution
        self.weights = picture_weights(num_photos, num_prior, objective.prior_loss_weight)

    @property
    def names(self) -> list[str]:
        """Names of all pictures, photos first: what `Batch.photo` counts."""
        return self.photos.names + self.prior.names

    def __len__(self) -> int:
        return len(self.weights)

    @torch.no_grad()
    def make(self, update: int, start: int, stop: int) -> Batch:
        """Rows `start ... stop` of an update (from 0), on the family's device."""
        rows = [self._draw(update, row, self._picture(update, row)) for row in range(start, stop)]
        device, moments = self.family.device, self._moments(rows)
        x = self.family.draw(moments, _stack([r.posterior for r in rows], device))
        eps, u, z = (_stack([getattr(r, name) for r in rows], device) for name in ("eps", "u", "z"))
        rngs = (generator(self.seed, "conditioning", update, row) for row in range(start, stop))
        return Batch(
            x=x, eps=eps, t=self.objective.timesteps(self.process, u, z), weight=torch.tensor(self.weights[start:stop], device=device),
            condition=self._condition(rows) | self.family.conditioning(moments, rngs),
            photo=torch.tensor([r.number for r in rows], device=device), mask=self._mask(rows),
        )  # fmt: skip

    def _picture(self, update: int, row: int) -> tuple[ImageSet, int]:
        """Which picture a row shows: every picture of a shelf once per epoch, in an order of its own in each."""
        image_set, count, place = (
            (self.photos, self.num_photos, row) if row < self.num_photos else (self.prior, self.num_prior, row - self.num_photos)
        )
        name = "photos" if image_set is self.photos else "prior"
        return image_set, endless_order(len(image_set), update * count + place, 1, self.seed, name)[0]

    def _draw(self, update: int, row: int, picture: tuple[ImageSet, int]) -> "_Row":
        image_set, place = picture
        rng = generator(self.seed, "row", update, row)
        cut = image_set.cuts_of[place][int(torch.randint(len(image_set.cuts_of[place]), (1,), generator=rng))]
        shape = self.family.latent_shape(self.resolution, self.resolution)
        posterior, eps = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        u, z = torch.rand((), generator=rng), torch.randn((), generator=rng)
        if self.objective.offset_noise:
            eps = eps + self.objective.offset_noise * torch.randn(shape[0], 1, 1, generator=rng)
        number = place + (0 if image_set is self.photos else len(self.photos))
        return _Row(image_set, cut, self._prompt(update, row, image_set.prompts_of[place]), number, posterior, eps, u, z)

    def _prompt(self, update: int, row: int, prompts: list[int]) -> int:
        """One of a picture's prompts, by a draw of its own, so that nothing else depends on how many there are."""
        return (
            prompts[int(torch.randint(len(prompts), (1,), generator=generator(self.seed, "prompt", update, row)))]
            if prompts[1:]
            else prompts[0]
        )

    def _moments(self, rows: Sequence["_Row"]) -> Tensor:
        fresh = [row for row in rows if row.image_set.moments is None]
        encoded = (
            iter(self.family.encode(as_pixels([row.image_set.crops[row.cut] for row in fresh], self.family.device))) if fresh else iter(())
        )
        return torch.stack([next(encoded) if row.image_set.moments is None else row.image_set.moments[row.cut] for row in rows])

    def _mask(self, rows: Sequence["_Row"]) -> Tensor | None:
        """What a masked loss looks at, averaged to the latents' size, [b, 1, h, w]; all of a prior's picture."""
        if not self.objective.masked_loss:
            return None
        masks = [row.image_set.crops[row.cut].mask for row in rows]
        full = torch.full((1, self.resolution, self.resolution), 255, dtype=torch.uint8)
        whole = torch.stack([full if mask is None else mask for mask in masks]).float() / 255
        return avg_pool2d(whole, self.family.vae_factor).to(self.family.device)

    def _condition(self, rows: Sequence["_Row"]) -> dict[str, Tensor]:
        prompts = torch.tensor([row.prompt for row in rows], device=self.family.device)
        condition = {name: table[prompts] for name, table in self.text.items()}
        target = (self.resolution, self.resolution)
        geometry = [
            self.family.geometry(row.image_set.crops[row.cut].original, row.image_set.crops[row.cut].corner, target) for row in rows
        ]
        return condition | {name: torch.cat([one[name] for one in geometry]).to(self.family.device) for name in geometry[0]}


@dataclass(frozen=True)
class _Row:
    """What was drawn for one row: which picture, cut and prompt, and its numbers (on the CPU)."""

    image_set: ImageSet
    cut: int
    prompt: int
    number: int
    posterior: Tensor
    eps: Tensor
    u: Tensor
    z: Tensor


def _stack(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    stacked = torch.stack(list(tensors))
    return stacked.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else stacked.to(device)
