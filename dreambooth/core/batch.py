"""All pictures of one update, with everything that was drawn for them: what the training step takes and cuts into pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of subject and prior; `weight` is 1/n for a photo and lambda/m for a class picture, n and m of the *whole* update."""

    x: Float[Tensor, "b *chw"]
    """Clean latents [b, c, h, w]."""
    eps: Float[Tensor, "b *chw"]
    """Noise, like x."""
    t: Int[Tensor, "b"]
    """Timestep indices, long [b]."""
    weight: Float[Tensor, "b"]
    """How much each picture counts, [b]."""
    condition: dict[str, Tensor]
    """What conditions the network beside time: embeddings or token ids, each [b, ...]."""
    photo: Int[Tensor, "b"]
    """Which picture a row shows, long [b]; only to name it when something goes wrong."""
    mask: Float[Tensor, "b 1 h w"] | None = None
    """Where a row is compared, in [0, 1] at the latents' size, [b, 1, h, w]; None for everywhere."""

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, start: int, stop: int) -> "Batch":
        """Some of the rows, in order."""
        whole = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "condition"}
        cut = {name: value[start:stop] for name, value in whole.items() if value is not None}
        return replace(self, **cut, condition={name: value[start:stop] for name, value in self.condition.items()})

    def split(self, pieces: int) -> Iterator["Batch"]:
        """Up to `pieces` batches of nearly equal size, none empty. Weights stay as they are, so the losses add up to the whole."""
        for start, stop in spans(len(self), pieces):
            yield self.rows(start, stop)


def pieces_of(batches: Sequence[Batch], pieces: int) -> Iterator[Batch]:
    """Batches of several shapes, cut so that none is larger than a piece of the whole would be; a single one is cut into `pieces`."""
    if len(batches) == 1:
        yield from batches[0].split(pieces)
        return
    largest = -(-sum(map(len, batches)) // pieces)
    for batch in batches:
        yield from batch.split(-(-len(batch) // largest))


def spans(total: int, parts: int) -> list[tuple[int, int]]:
    """Cut `range(total)` into nearly equal runs of at least one, at most `parts` of them: [(start, stop), ...]."""
    parts = max(1, min(parts, total))
    edges = [total * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def picture_weights(num_photos: int, num_prior: int, prior_loss_weight: float) -> list[float]:
    """Eq. 2's weights for the rows of one whole update, photos first: n times 1/n, then m times lambda/m."""
    return [1.0 / num_photos] * num_photos + [prior_loss_weight / max(num_prior, 1)] * num_prior
