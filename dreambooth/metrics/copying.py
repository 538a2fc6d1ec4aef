"""Copying: does a picture repeat one training photo, instead of showing its subject anew? (DreamBooth, section 4.5, "overfitting".)

DINO rewards copies: a model that returns its input scores above real photos. A picture counts as a copy when it is nearer to *one*
photo than halfway from the photos' own nearest neighbours to identity; a subject in a new place is about as near to every photo as the
photos are to each other. With a single photo, the line is a cosine of 0.95. DINO and CLIP must both say so, about the same photo: an
encoder that overlooks backgrounds takes a perfect picture in a new place for a copy. The rule is ours; the paper gives none.
"""

from contextlib import suppress

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, Undefined, cosines, images, rows

ALONE = 0.95


def nearest_other(photos: Float[Tensor, "m d"]) -> Float[Tensor, "m"]:
    """For each photo the cosine of the photo that is most like it."""
    return cosines(photos, photos).fill_diagonal_(-2).amax(dim=1)


def copy_line(photos: Float[Tensor, "m d"]) -> float:
    """The cosine above which a picture counts as a copy of a photo."""
    return float((1 + nearest_other(photos).mean()) / 2) if len(photos) > 1 else ALONE


def too_near(drawn: Float[Tensor, "n d"], photos: Float[Tensor, "m d"]) -> Bool[Tensor, "n m"]:
    """Whether each picture is beyond the line, for each photo."""
    return cosines(drawn, photos) > copy_line(photos)


def nearest_gap(drawn: Float[Tensor, "n d"], photos: Float[Tensor, "m d"]) -> Float[Tensor, "n"]:
    """How much nearer each picture is to its nearest photo than to the photos at large: maximum minus mean."""
    likeness = cosines(drawn, photos)
    return likeness.amax(dim=1) - likeness.mean(dim=1)


class Copying(Metric):
    """Share of pictures that repeat a training photo, lower is better."""

    name, title, meaning = "copying", "Copies", "share of pictures that repeat a photo"
    encoder, needs = "dino", ("drawn", "photos")
    range, better = (0.0, 1.0), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """1 for a copy, 0 for a new picture."""
        drawn = images(evidence.drawn)
        near = too_near(encoders.dino(drawn), encoders.dino(evidence.photos))
        with suppress(Undefined):  # CLIP was left out: DINO alone decides
            near &= too_near(encoders.clip(drawn), encoders.clip(evidence.photos))
        return PerSampleValues(near.any(dim=1).double(), rows(evidence.drawn))


class NearestGap(Metric):
    """Similarity to the nearest photo less the mean over all photos, lower is better."""

    name, title, meaning = "nearest_gap", "Nearest photo less mean", "leans on one photo"
    encoder, needs = "dino", ("drawn", "photos")
    range, better = (0.0, 2.0), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One difference per picture; 0 where there is a single photo."""
        gap = nearest_gap(encoders.dino(images(evidence.drawn)), encoders.dino(evidence.photos))
        return PerSampleValues(gap.to(torch.float64), rows(evidence.drawn))
