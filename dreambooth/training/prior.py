"""The prior's pictures: what the frozen model draws for "a [class noun]", drawn before training and kept (paper, section 3.3).

Each picture has its own seed, so an interrupted drawing goes on where it stopped and a larger set contains the smaller one. Pictures that
are broken (not finite, one colour, or the same as another) are thrown away and drawn anew. A manifest beside them says how they were made.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from PIL import Image
from pydantic import Field

from dreambooth.core.errors import RunError, SettingError
from dreambooth.families.base import Family
from dreambooth.families.sampling import Picture, Sampling, Smaller, draw, whole_batches
from dreambooth.files.atomic import write_json
from dreambooth.files.cache import CLASS_IMAGES, MANIFEST, cache_root
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.images import is_whole_png, read_settings, save_png
from dreambooth.files.places import is_inside
from dreambooth.files.reading import Damaged, TypedDict, read_json
from dreambooth.photos.load import load, scan
from dreambooth.schema import Count, Guidance, Setting, Share
from dreambooth.training.records import Message, Progress, Record

NAME = r"^[0-9]{5,18}\.png$"
"""Of a picture that was drawn here: its seed, and no way out of the folder."""


class Drawn(TypedDict):
    """A picture in the manifest."""

    seed: Annotated[int, Ge(0)]
    look: str


class Manifest(TypedDict):
    """What lies beside a set of class images."""

    made_with: dict[str, Any]
    next_seed: Annotated[int, Ge(0)]
    images: dict[Annotated[str, Field(pattern=NAME)], Drawn]
    rejected: dict[str, str]


class Prior(Setting):
    """Prior preservation: pictures of the class, so that the model does not forget what a dog is"""

    with_prior_preservation: bool | None = None
    """Add the prior's term to the loss (Eq. 2); automatic: on where there is a class noun."""
    class_data_dir: str | None = None
    """Folder of class images; drawn into it when there are too few. Left out, a cache that all runs share."""
    num_class_images: Count = 100
    """How many class images to train with."""
    sample_batch_size: Count = 4
    """Pictures drawn at a time; halved by itself when memory runs out."""
    prior_stages: tuple[str, ...] = ()
    """For a later stage of a cascade: the untuned stages before it, which draw what it makes class images of."""
    prior_generation_precision: Literal["no", "fp32", "fp16", "bf16"] | None = None
    """Precision in which class images are drawn; automatic: that of the training."""
    prior_scheduler: str = "dpm++_sde"
    """Sampler of the class images: ancestral, as the paper asks, and of second order; so is ddim, of first order, in 50 steps."""
    prior_eta: Share = 1.0
    """Noise put back at each step of DDIM: 1 is ancestral, 0 deterministic."""
    prior_inference_steps: Count = 20
    """Steps of that sampler."""
    prior_guidance_scale: Guidance = 7.5
    """Guidance of the class images; small models want less (2), or they learn their own exaggeration."""

    def refuse_contradictions(self) -> None:
        if self.class_data_dir and self.with_prior_preservation is False:
            reason = "prior preservation is off, so class images have no use."
            raise SettingError("--class_data_dir", reason, fix="Leave out one of the two.")

    def sampling(self, resolution: int) -> Sampling:
        """How class images are drawn."""
        return Sampling(
            num_inference_steps=self.prior_inference_steps, guidance_scale=self.prior_guidance_scale, scheduler=self.prior_scheduler,
            eta=self.prior_eta, height=resolution, width=resolution,
        ).given_by({
            "num_inference_steps": "--prior_inference_steps", "scheduler": "--prior_scheduler", "height": "--resolution",
            "width": "--resolution",
        })  # fmt: skip


@dataclass(frozen=True)
class ClassImages:
    """A set of class images on the disk: `count` of them, one prompt."""

    folder: Path
    prompt: str
    count: int
    sampling: Sampling
    model: str
    """Fingerprint of the frozen model."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """What else decides them: the arithmetic, how prompts are read, what decodes."""

    @property
    def made_with(self) -> dict[str, Any]:
        """All that decides what a picture of this set looks like, beside its seed."""
        return {"model": self.model, "prompt": self.prompt, "sampling": self.sampling.model_dump(), **self.how}

    def missing(self) -> int:
        """How many pictures are still to be drawn."""
        return max(0, self.count - len(self.present()))

    def present(self) -> list[Path]:
        """The pictures at hand, at most `count`: whatever the user has put there, then those of the manifest, in order."""
        manifest = self._manifest()
        lost = self._lost(manifest)
        return [path for path in self._wanted(manifest) if path.name not in lost]

    def _wanted(self, manifest: Manifest) -> list[Path]:
        """The set, as far as it was ever there."""
        return [*self._given(manifest), *(self.folder / name for name in manifest["images"])][: self.count]

    def _lost(self, manifest: Manifest) -> dict[str, int]:
        """Pictures of the manifest that are damaged or gone, and their seeds."""
        drawn = {path.name for path in self._wanted(manifest)} & manifest["images"].keys()
        return {name: manifest["images"][name]["seed"] for name in sorted(drawn) if not self._is_whole(self.folder / name)}

    def mend(self) -> Iterator[Record]:
        """Write a manifest anew that is damaged, from the pictures themselves, and say so."""
        try:
            self._read()
        except Damaged as error:
            manifest = self._rebuilt()
            write_json(self.folder / MANIFEST, manifest)
            kept = f"{len(manifest['images'])} pictures that say of themselves that they are of this set"
            yield Message(f"{self.folder / MANIFEST} was damaged ({error}). It is written anew from {kept}.", important=True)

    def _given(self, manifest: Manifest) -> list[Path]:
        """Pictures in the folder that were not drawn here; a drawn one that an interruption kept out of the manifest is none of them."""
        if not self.folder.is_dir():
            return []
        others = [path for path in scan(self.folder, needs_photo=False).photos if path.name not in manifest["images"]]
        return [path for path in others if not _is_drawn(path)]

    def refuse_unusable(self) -> None:
        """Raise SettingError for pictures of the user's that cannot be read, and, where some are missing, for a folder that cannot be
        written."""
        for path in self._given(self._manifest())[: self.count]:
            load(path)
        if self.missing():
            refuse_unwritable(self.folder, "--class_data_dir")

    def draw(self, family: Family, *, batch_size: int, precision: str, smaller: Smaller | None = None) -> Iterator[Record]:
        """Draw what is missing: first those that were there and are damaged or gone. Interrupted, it goes on with the next seed."""
        manifest = self._manifest()
        lost = self._lost(manifest)
        yield from (Message(f"{self.folder / name} is damaged or gone; it is drawn anew.", important=True) for name in lost)
        seen = {entry["look"] for name, entry in manifest["images"].items() if name not in lost}
        have, rejected, again = len(self.present()), len(manifest["rejected"]), set(lost.values())
        yield Progress("class images", have, self.count)
        while have < self.count:
            some = sorted(again) or range(manifest["next_seed"], manifest["next_seed"] + self.count - have)
            seeds = whole_batches(some, batch_size)[: 4 * batch_size]
            words, how = [self.prompt] * len(seeds), {"batch_size": batch_size, "precision": precision, "smaller": smaller}
            for picture in draw(family, words, seeds, sampling=self.sampling, **how):
                if have == self.count or not (picture.seed in again or picture.seed >= manifest["next_seed"]):
                    continue  # drawn for the batch alone
                again.discard(picture.seed)
                fault = self._keep(picture, manifest, seen)
                manifest["next_seed"] = max(manifest["next_seed"], picture.seed + 1)
                if fault:
                    rejected += 1
                    yield Message(f"A class image (seed {picture.seed}) was {fault}; it is drawn anew.")
                    self._give_up(rejected, fault)
                    continue
                have += 1
                write_json(self.folder / MANIFEST, manifest)
                yield Progress("class images", have, self.count)

    def _keep(self, picture: Picture, manifest: Manifest, seen: set[str]) -> str | None:
        """Save a picture and enter it into the manifest, or say what is wrong with it."""
        look = _look(picture.image)
        fault = _fault(picture) or ("the same as another" if look in seen else None)
        if fault:
            manifest["rejected"][str(picture.seed)] = fault
            return fault
        seen.add(look)
        name = f"{picture.seed:05d}.png"
        save_png(self.folder / name, picture.image, {**picture.settings, "model": self.model, "set": set_digest(self.made_with)})
        manifest["images"][name] = {"seed": picture.seed, "look": look}
        return None

    def _give_up(self, rejected: int, fault: str) -> None:
        if rejected >= max(10, self.count):
            fix = "Use --prior_generation_precision fp32, another --prior_scheduler, or give photos of the class as --class_data_dir."
            raise RunError(f"{rejected} class images for {self.prompt!r} were {fault} or broken otherwise. {fix}")

    def _is_whole(self, path: Path) -> bool:
        """Whether a picture of the manifest is there, lies here, and has all its bytes."""
        try:
            found = path.stat()
        except OSError:
            return False
        return is_inside(path, self.folder) and _checked(str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino)

    def _rebuilt(self) -> Manifest:
        """A manifest from the pictures that carry this set's digest, and from names of damaged ones."""
        images: dict[str, Drawn] = {}
        for path in sorted(path for path in self.folder.glob("*.png") if re.fullmatch(NAME, path.name)):
            is_whole = self._is_whole(path)
            if not is_whole or read_settings(path).get("set") == set_digest(self.made_with):
                images[path.name] = {"seed": int(path.stem), "look": _look(load(path)) if is_whole else ""}
        after = max((entry["seed"] for entry in images.values()), default=-1) + 1
        return {"made_with": self.made_with, "next_seed": after, "images": images, "rejected": {}}

    def _read(self) -> Manifest:
        """The manifest, empty where there is none; raises Damaged."""
        try:
            return read_json(self.folder / MANIFEST, Manifest)
        except FileNotFoundError:
            return {"made_with": self.made_with, "next_seed": 0, "images": {}, "rejected": {}}

    def _manifest(self) -> Manifest:
        """The manifest; raises SettingError for one of another set."""
        try:
            manifest = self._read()
        except Damaged:
            return self._rebuilt()
        other = _differing(manifest["made_with"], self.made_with)
        if other:
            reason = f"{self.folder} holds class images made with another {' and another '.join(other)}."
            raise SettingError("--class_data_dir", reason, fix="Choose another folder, leave the flag out, or delete the folder.")
        return manifest


def shared_folder(made_with: Mapping[str, Any], *, weights: str) -> Path:
    """Where class images made in one way are kept for all runs: below $DREAMBOOTH_CACHE or ~/.cache/dreambooth.

    `weights` is the precision in which the model's own weights lay: rounded ones draw other bits.
    """
    return cache_root() / CLASS_IMAGES / set_digest({**made_with, "weights": weights})


def set_digest(made_with: Mapping[str, Any]) -> str:
    """By which a set of class images is known: 16 hexadecimal digits of all that decides what its pictures look like."""
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]


def complete(images: ClassImages) -> list[Path]:
    """The set's pictures; raises SettingError when it is not complete."""
    paths = images.present()
    if len(paths) < images.count:
        raise SettingError("--class_data_dir", f"{images.folder} holds {len(paths)} of {images.count} class images.")
    return paths


def _differing(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Names of what two sets were made with otherwise. Older versions did not write the arithmetic down, and gave `read` by itself."""
    theirs = {"precision": own.get("precision"), **theirs, **theirs.get("read", {})}
    names = dict.fromkeys(name for name in (*theirs, *own) if name != "read")
    return [name for name in names if (theirs.get(name) or None) != (own.get(name) or None)]


def _is_drawn(path: Path) -> bool:
    """Whether a picture says that a model drew it."""
    try:
        return path.suffix == ".png" and "model" in read_settings(path)
    except (OSError, ValueError, SyntaxError):
        return False  # a damaged picture of the user's, which `load` names


@lru_cache(maxsize=10_000)
def _checked(path: str, *seen: int) -> bool:
    """Read once as long as nobody touches it."""
    return is_whole_png(Path(path))


def _fault(picture: Picture) -> str | None:
    if not picture.finite:
        return "not finite"
    pixels = np.asarray(picture.image, dtype=np.float32)
    if pixels.std() < 2.0:
        return "black" if pixels.mean() < 8 else "of a single colour"
    return None


def _look(image: Image.Image) -> str:
    """A digest that two pictures share when they look the same: a 16 x 16 thumbnail in 32 levels."""
    small = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX)) >> 3
    return hashlib.sha256(small.tobytes()).hexdigest()[:32]
