"""From pictures to the batch of an update: crops, posterior moments and text are made once; latents, noise and times are drawn each step.

Everything a row shows is a function of (seed, update, row). A cache entry belongs to one (picture, crop, flip), so that with and without
the cache the same set of crops is trained.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreambooth.core.batch import Batch, picture_weights
from dreambooth.core.device import free_memory, is_out_of_memory
from dreambooth.core.draws import endless_order, generator
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.training.crops import Crop, Cutter, Picture, as_pixels
from dreambooth.training.objective import Objective
from dreambooth.training.records import Progress, Record

ENCODED_PIXELS = 512 * 512
"""Of pictures that are encoded together."""


@dataclass
class ImageSet:
    """The pictures of one role (the subject's photos, or the prior's) with their cuts, prompts and, once encoded, moments."""

    crops: list[Crop] = field(default_factory=list)
    cuts_of: list[list[int]] = field(default_factory=list)
    """For every picture the places of its cuts."""
    prompts_of: list[list[int]] = field(default_factory=list)
    """For every picture the places of its prompts in the table of prompts; one of them is drawn each time it is shown."""
    names: list[str] = field(default_factory=list)
    moments: Tensor | list[Tensor] | None = None
    """Of every cut, [2c, h, w] on the device, when cached: one tensor where all have one shape."""

    def __len__(self) -> int:
        return len(self.cuts_of)

    def add(self, picture: Picture, cutter: Cutter) -> None:
        """Cut a picture, and its mask where it has one, and remember it."""
        crops = list(cutter.crops(picture.image, picture.name, original=picture.original))
        if picture.mask:
            masks = cutter.crops(picture.mask.convert("RGB"), picture.name, original=picture.original)
            crops = [replace(cut, mask=own.pixels[:1]) for cut, own in zip(crops, masks, strict=True) if own.pixels is not None]
        self.cuts_of.append(list(range(len(self.crops), len(self.crops) + len(crops))))
        self.crops += crops
        self.prompts_of.append(picture.prompts)
        self.names.append(picture.name)


def encoded_at_once(shape: tuple[int, int]) -> int:
    """How many pictures of a height and width are encoded together, 4 or fewer: as many as take less memory than one of 512 pixels, of
    which a VAE's layers hold 0.6 GiB. A function of the shape alone, so that a run that goes on has the same bits."""
    return max(1, min(4, ENCODED_PIXELS // (shape[0] * shape[1])))


def _encode(family: Family, crops: Sequence[Crop]) -> Tensor:
    """Moments of cuts of one shape; in halves where memory runs out."""
    try:
        return family.encode(as_pixels(crops, family.device))
    except Exception as error:
        if len(crops) == 1 or not is_out_of_memory(error):
            raise
    free_memory(family.device)  # the error is gone by now, and what it held with it
    middle = len(crops) // 2
    return torch.cat([_encode(family, crops[:middle]), _encode(family, crops[middle:])])


@torch.no_grad()
def fill_image_set(
    image_set: ImageSet, pictures: Iterable[Picture], cutter: Cutter, family: Family | None, *, count: int, what: str
) -> Iterator[Record]:
    """Cut `count` pictures to size as they are read, so that one at a time is held decoded, whatever its size.

    With a family their cuts are encoded at once, `encoded_at_once`, into the set's `moments`, and their pixels let go.
    """
    some: list[Tensor] = []
    encoded, phase = 0, f"{'encoding' if family else 'reading'} {what}"
    for number, picture in enumerate(pictures):
        yield Progress(phase, number, count)
        image_set.add(picture, cutter)
        is_last = number == count - 1
        while family and encoded < len(image_set.crops):
            at_once = encoded_at_once(image_set.crops[encoded].shape)
            if len(image_set.crops) - encoded < at_once and not is_last:
                break
            alike = list(_of_one_shape(image_set.crops[encoded : encoded + at_once]))
            some.append(_encode(family, alike))
            image_set.crops[encoded : encoded + len(alike)] = [replace(cut, pixels=None) for cut in alike]
            encoded += len(alike)
    shapes = {one.shape[1:] for one in some}
    image_set.moments = (torch.cat(some) if len(shapes) == 1 else [row for one in some for row in one]) if some else None
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


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, encoded: photos, the prior's pictures, and what every prompt conditions it with, one row each."""

    photos: ImageSet
    prior: ImageSet
    text: dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """What decides the rows of every update: how many there are of each kind, and the seed of all that is drawn."""

    num_photos: int
    num_prior: int
    seed: int
    schedule: NoiseSchedule | None = None
    """The noise at each time; left out, the model's own."""


class Batches:
    """Makes the rows of any update: photos first, then the prior's pictures."""

    def __init__(self, family: Family, data: TrainingData, draw: Draw, objective: Objective):
        self.family, self.photos, self.prior, self.text = family, data.photos, data.prior, data.text
        self.process, self.objective, self.seed = (draw.schedule or family.process).to(family.device), objective, draw.seed
        self.num_photos, self.num_prior = draw.num_photos, draw.num_prior
        self.weights = picture_weights(self.num_photos, self.num_prior, objective.prior_loss_weight)

    @property
    def names(self) -> list[str]:
        """Names of all pictures, photos first: what `Batch.photo` counts."""
        return self.photos.names + self.prior.names

    @cached_property
    def has_shapes(self) -> bool:
        """Whether crops have several shapes."""
        return len({crop.shape for images in (self.photos, self.prior) for crop in images.crops}) > 1

    def __len__(self) -> int:
        return len(self.weights)

    @torch.no_grad()
    def by_shape(self, update: int, start: int, stop: int) -> list[Batch]:
        """Rows `start ... stop` of an update (from 0), on the family's device: a batch for each shape that their crops have."""
        rows = [self._draw(update, row, self._picture(update, row)) for row in range(start, stop)]
        shapes: dict[tuple[int, int], list[_Row]] = {}
        for row in rows:
            shapes.setdefault(row.crop.shape, []).append(row)
        return [self._batch(update, some) for some in shapes.values()]

    def make(self, update: int, start: int, stop: int) -> Batch:
        """The same as one batch, for pictures that all have one shape."""
        [batch] = self.by_shape(update, start, stop)
        return batch

    def _batch(self, update: int, rows: Sequence["_Row"]) -> Batch:
        """Rows of one shape."""
        device, moments = self.family.device, self._moments(rows)
        eps, u, z = (_stack([getattr(r, name) for r in rows], device) for name in ("eps", "u", "z"))
        rngs = (generator(self.seed, "conditioning", update, r.row) for r in rows)
        return Batch(
            x=self.family.draw(moments, _stack([r.posterior for r in rows], device)), eps=eps,
            t=self.objective.timesteps(self.process, u, z), weight=sent(torch.tensor([self.weights[r.row] for r in rows]), device),
            condition=self._condition(rows) | self.family.conditioning(moments, rngs),
            photo=sent(torch.tensor([r.number for r in rows]), device), mask=self._mask(rows),
        )  # fmt: skip

    def _picture(self, update: int, row: int) -> tuple[ImageSet, int]:
        """Which picture a row shows: every picture of a set once per epoch, in an order of its own in each."""
        image_set, count, place = (
            (self.photos, self.num_photos, row) if row < self.num_photos else (self.prior, self.num_prior, row - self.num_photos)
        )
        name = "photos" if image_set is self.photos else "prior"
        return image_set, endless_order(len(image_set), update * count + place, 1, self.seed, name)[0]

    def _draw(self, update: int, row: int, picture: tuple[ImageSet, int]) -> "_Row":
        image_set, place = picture
        rng = generator(self.seed, "row", update, row)
        cut = image_set.cuts_of[place][int(torch.randint(len(image_set.cuts_of[place]), (1,), generator=rng))]
        shape = self.family.latent_shape(*image_set.crops[cut].shape)
        posterior, eps = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        u, z = torch.rand((), generator=rng), torch.randn((), generator=rng)
        if self.objective.offset_noise:
            eps = eps + self.objective.offset_noise * torch.randn(shape[0], 1, 1, generator=rng)
        number = place + (0 if image_set is self.photos else len(self.photos))
        return _Row(row, image_set, cut, self._prompt(update, row, image_set.prompts_of[place]), number, posterior, eps, u, z)

    def _prompt(self, update: int, row: int, prompts: list[int]) -> int:
        """One of a picture's prompts, by a draw of its own, so that nothing else depends on how many there are."""
        return (
            prompts[int(torch.randint(len(prompts), (1,), generator=generator(self.seed, "prompt", update, row)))]
            if prompts[1:]
            else prompts[0]
        )

    def _moments(self, rows: Sequence["_Row"]) -> Tensor:
        fresh = [row for row in rows if row.image_set.moments is None]
        encoded = iter(self.family.encode(as_pixels([row.crop for row in fresh], self.family.device))) if fresh else iter(())
        return torch.stack([next(encoded) if row.image_set.moments is None else row.image_set.moments[row.cut] for row in rows])

    def _mask(self, rows: Sequence["_Row"]) -> Tensor | None:
        """What a masked loss counts, averaged to the latents' size, [b, 1, h, w]; all of a prior's picture."""
        if not self.objective.masked_loss:
            return None
        masks = [row.crop.mask for row in rows]
        full = torch.full((1, *rows[0].crop.shape), 255, dtype=torch.uint8)
        whole = torch.stack([full if mask is None else mask for mask in masks]).float() / 255
        return sent(avg_pool2d(whole, self.family.vae_factor), self.family.device)

    def _condition(self, rows: Sequence["_Row"]) -> dict[str, Tensor]:
        prompts = sent(torch.tensor([row.prompt for row in rows]), self.family.device)
        condition = {name: table[prompts] for name, table in self.text.items()}
        geometry = [self.family.geometry(row.crop.original, row.crop.corner, row.crop.shape) for row in rows]
        return condition | {name: sent(torch.cat([one[name] for one in geometry]), self.family.device) for name in geometry[0]}


@dataclass(frozen=True)
class _Row:
    """What was drawn for one row: which picture, cut and prompt, and its numbers (on the CPU)."""

    row: int
    """Its place in the update."""
    image_set: ImageSet
    cut: int
    prompt: int
    number: int
    posterior: Tensor
    eps: Tensor
    u: Tensor
    z: Tensor

    @property
    def crop(self) -> Crop:
        """What it shows of its picture."""
        return self.image_set.crops[self.cut]


def _of_one_shape(crops: Sequence[Crop]) -> Iterator[Crop]:
    """The first ones, as far as they have one shape."""
    return takewhile(lambda cut: cut.shape == crops[0].shape, crops)


def _stack(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    return sent(torch.stack(list(tensors)), device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, which does not wait for it."""
    is_pinned = device.type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory().to(device, non_blocking=True) if is_pinned else tensor.to(device)
