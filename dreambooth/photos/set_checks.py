"""Checks of the photos as a set: what they have in common beside the subject, and whether they are enough."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.photos import likeness
from dreambooth.photos.files import shown
from dreambooth.photos.finding import Finding
from dreambooth.photos.photo import Photo
from dreambooth.photos.subject import Subject

Box = tuple[float, float, float, float]

NEAR_BITS = 10
"""Bits of 64 that near duplicates differ in at most (other photos of one subject: 12 and more; a crop to 95 %: 10 and less)."""
SAME_BACKGROUND = 0.45
"""Median shared part of two photos' surroundings above which the set has one background."""
SAME_VIEW = 0.48
"""Mean likeness of two photos' subjects above which the set has one view (real sets: 0.45 and less)."""
MARKED = 0.07
"""Density of edges at one place above which the photos carry one mark (real sets: 0.052 and less)."""
COMPARED = 48
"""Photos whose surroundings, views and edges are compared; of more, as many evenly spread ones."""


@dataclass(frozen=True)
class PhotoFeatures:
    """What is kept of a photo to compare it with the others."""

    path: Path
    digest: str
    hashes: tuple[Any, Any]
    detail: "Detail | None"
    """Only of some photos of a large folder, so that memory stays bounded."""
    has_backdrop: bool = False
    """Whether the subject stands before a plain bright backdrop, as in a shop's pictures."""

    @classmethod
    def of(cls, photo: Photo, image: Image.Image, subject: Subject, *, detailed: bool, has_backdrop: bool = False) -> "PhotoFeatures":
        """Of a photo, loaded and made small, and its subject."""
        return cls(photo.path, photo.sha256, likeness.hashes(image), Detail.of(image, subject) if detailed else None, has_backdrop)


@dataclass(frozen=True)
class Detail:
    """What backgrounds, views and marks are compared by: about 150 kB."""

    background: Any
    view: Any
    small: Image.Image

    @classmethod
    def of(cls, image: Image.Image, subject: Subject) -> "Detail":
        """Of a loaded photo and its subject."""
        small = image.resize((likeness.MARK_SIDE, likeness.MARK_SIDE))
        return cls(likeness.background(image, subject), likeness.view(image, subject), small)


def findings(features: Sequence[PhotoFeatures], *, concept: str, count: int, profile: str = "auto") -> tuple[list[Finding], Box | None]:
    """Findings about copies, backgrounds, views, marks and the number of photos; and the place of a mark that they share."""
    copies, kept = _copies(features)
    found = copies + _count(count, concept)
    sample = [one.detail for one in kept if one.detail]
    if len(sample) >= 3 and concept == "object":
        on_backdrop = sum(one.has_backdrop for one in kept) > len(kept) / 2
        found += _variety(sample, is_product=profile == "product" or (profile == "auto" and on_backdrop))
    if concept == "style" and len(sample) >= 3:
        found += _repeated_object(sample)
    marks, mark = _mark(sample)
    return found + marks, mark


def _copies(features: Sequence[PhotoFeatures]) -> tuple[list[Finding], list[PhotoFeatures]]:
    """Findings for exact and near duplicates, each reported once against the first of its kind; and the photos without them."""
    import numpy as np

    found: list[Finding] = []
    kept: list[PhotoFeatures] = []
    hashes = np.zeros(len(features), dtype=np.uint64)
    by_digest: dict[str, PhotoFeatures] = {}
    for one in features:
        first = by_digest.setdefault(one.digest, one)
        if first is not one:
            found.append(Finding(
                one.path.name, "duplicate", "warning", shown(first.path.name),
                f"It is the same file as {shown(first.path.name)}; that photo counts twice.", "Remove one of them.",
            ))  # fmt: skip
            continue
        near = _nearest(one, hashes[: len(kept)])
        if near is None:
            hashes[len(kept)] = _packed(one.hashes[0])
            kept.append(one)
            continue
        other, mirrored = kept[near[0]], near[1]
        how = "a mirror image of" if mirrored else "nearly the same picture as"
        found.append(Finding(
            one.path.name, "near duplicate", "warning", shown(other.path.name),
            f"It is {how} {shown(other.path.name)}; what it shows counts twice and variety is lost.",
            "Remove one; for mirror images use random flips instead." if mirrored else "Keep the better one.",
        ))  # fmt: skip
    return found, kept


def _nearest(one: PhotoFeatures, hashes: Any) -> tuple[int, bool] | None:
    """Place of the nearest of these hashes, if it is near, and whether it is the mirror image that is; some ten thousand take no time."""
    import numpy as np

    if not len(hashes):
        return None
    plain, mirrored = (np.bitwise_count(hashes ^ _packed(h)) for h in one.hashes)
    best = int(np.argmin(np.minimum(plain, mirrored)))
    if min(plain[best], mirrored[best]) > NEAR_BITS:
        return None
    return best, bool(mirrored[best] < plain[best])


def _packed(bits: Any) -> Any:
    """64 bits as one number."""
    import numpy as np

    return np.packbits(bits).view(np.uint64)[0]


def _count(count: int, concept: str) -> list[Finding]:
    def finding(severity: Any, reason: str, fix: str) -> list[Finding]:
        return [Finding(None, "count", severity, count, reason, fix)]

    if concept == "style":
        if count < 5:
            return finding("warning", f"{count} pictures are few for a style: their objects will be learned with it.",
                        "Give 5 to 20 pictures of different things.")  # fmt: skip
    elif count < 3:
        return finding("warning", f"{count} photos are few: the paper uses 3 to 5; with fewer the pose and background are learned, too.",
                    "Take 3 to 5 photos, from other sides and in other places.")  # fmt: skip
    if count > (100 if concept == "style" else 30):
        return finding("info", f"{count} photos are more than needed: the paper uses 3 to 5, most people 5 to 20.",
                    "Keep the best ones, or train for more steps.")  # fmt: skip
    return []


def _variety(sample: Sequence[Detail], *, is_product: bool) -> list[Finding]:
    import numpy as np

    found = []
    pairs = list(itertools.combinations(sample, 2))
    shared = float(np.median([likeness.overlap(a.background, b.background) for a, b in pairs]))
    if is_product:
        found.append(Finding(
            None, "plain background", "warning", None,
            "The subject stands before a plain background, which is learned with it: later pictures will tend to be as empty.",
            "Add masks (a folder `masks` beside the photos, or transparent PNGs) and train with --masked_loss.",
        ))  # fmt: skip
    elif shared > SAME_BACKGROUND:
        found.append(Finding(
            None, "one background", "warning", round(shared, 2),
            "Most photos have the same surroundings; the model cannot tell them from the subject and draws them everywhere.",
            "Add photos in other places (a bed, grass, a street), or name the place in a caption beside each photo.",
        ))  # fmt: skip
    alike = float(np.mean([float(a.view @ b.view) for a, b in pairs]))
    if alike > SAME_VIEW:
        found.append(Finding(
            None, "one view", "warning", round(alike, 2), "The subject has one pose and one side in most photos; no other will be learned.",
            "Add photos from other sides and distances.",
        ))  # fmt: skip
    return found


def _repeated_object(sample: Sequence[Detail]) -> list[Finding]:
    import numpy as np

    alike = float(np.mean([float(a.view @ b.view) for a, b in itertools.combinations(sample, 2)]))
    if alike <= SAME_VIEW:
        return []
    return [Finding(None, "repeated object", "warning", round(alike, 2), "The pictures show one thing; it is learned with the style.",
                    "Choose pictures of different things.")]  # fmt: skip


def _mark(sample: Sequence[Detail]) -> tuple[list[Finding], Box | None]:
    score, box = likeness.common_mark([one.small for one in sample])
    if score <= MARKED:
        return [], None
    where = ("top" if box[1] + box[3] < 0.67 else "bottom" if box[1] + box[3] > 1.33 else "middle") + " " + (
        "left" if box[0] + box[2] < 0.67 else "right" if box[0] + box[2] > 1.33 else "centre"
    )  # fmt: skip
    return [Finding(
        None, "watermark", "warning", where, f"At the {where} the photos share lines, like a watermark or date; it would be learned.",
        "Use photos without it, or crop it away.",
    )], box  # fmt: skip
