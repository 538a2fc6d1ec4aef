"""What a run learns from: photos read, class images drawn, pictures and prompts encoded."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from dreambooth.core.device import DTYPES, free_memory, is_out_of_memory
from dreambooth.core.errors import Interrupted, RunError, SettingError
from dreambooth.families import Family
from dreambooth.files.atomic import writable_folder
from dreambooth.files.locks import LOCK, waiting_for
from dreambooth.photos.load import load, load_with_facts
from dreambooth.prompts.placeholder import PLACEHOLDER, fill
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import (
    configure_conditioning,
    configure_tokenizers,
    how_drawn,
    learning_parts,
    load_in,
    load_stages,
    place_for_encoding,
    place_for_training,
    prior_precision,
    stored_precision,
    training_schedule,
    vae_names,
)
from dreambooth.setup.offloading import offload
from dreambooth.setup.sharding import shard
from dreambooth.training.batches import Batches, Draw, ImageSet, TrainingData, fill_image_set, text_table
from dreambooth.training.crops import Cutter, Picture, bucket_shapes
from dreambooth.training.masks import mask_of
from dreambooth.training.prior import ClassImages, complete, shared_folder
from dreambooth.training.ranks import Ranks, by_first
from dreambooth.training.records import Message, Progress, Record
from dreambooth.training.subjects import LearnedPhoto, Subject, read_photos, subjects

STOPPED_EARLY = "Stopped before the training began; class images drawn so far are kept. Start again."


@dataclass
class Material:
    """What a run learns from: subjects with their photos, and the sets of class images."""

    identifier: str | None
    subjects: list[Subject]
    photos: list[LearnedPhoto]
    complaints: list[str] = field(default_factory=list)
    prior: list[ClassImages] = field(default_factory=list)
    earlier: list[dict[str, Any]] = field(default_factory=list)
    """What a resumed run was trained on before, where that was something else (`dreambooth.run.provenance`)."""
    judged: tuple[int, list[Record]] | None = None
    """The check's verdict at a resolution, not yet said: of a model that is still to be downloaded the resolution may be another."""

    @property
    def instance_prompt(self) -> str:
        """What the first subject is called."""
        return self.subjects[0].instance_prompt

    def let_pixels_go(self) -> None:
        """Forget the pixels of photos and masks, once they are encoded."""
        self.photos = [replace(one, photo=one.photo and one.photo.without_pixels(), mask=None) for one in self.photos]

    def called(self, identifier: str | None) -> "Material":
        """The same with an identifier in the place of [V], where photos were read before it was known."""
        if self.identifier != PLACEHOLDER:
            return self
        subjects = [
            replace(
                one, instance_prompt=fill(one.instance_prompt, identifier), class_prompt=fill(one.class_prompt or "", identifier) or None
            )
            for one in self.subjects
        ]
        photos = [replace(photo, prompt=fill(photo.prompt, identifier)) for photo in self.photos]
        return replace(self, identifier=identifier, subjects=subjects, photos=photos)


def gather(config: TrainConfig, identifier: str | None) -> Material:
    """Find the photos, which stay on the disk, and their prompts; raises SettingError for what is missing."""
    named = subjects(config.photos, identifier, replaced=config.replaced_noun)
    material = Material(identifier, named, [])
    for subject in named:
        material.photos += read_photos(
            subject, use_captions=config.photos.use_captions, identifier=identifier, replaced=config.replaced_noun
        )
        if config.has_prior and not subject.class_prompt:
            reason = f"there is no class prompt for {subject.folder.root}."
            raise SettingError("--class_prompt", reason, fix="Give it, or --no-with_prior_preservation.")
    return material


def plan_prior(config: TrainConfig, material: Material, family: type[Family], model: str) -> list[ClassImages]:
    """The sets of class images that the run needs, one a subject; subjects that share a prompt and a folder share the pictures."""
    if not config.has_prior:
        return []
    assert config.cropping.resolution
    sampling = config.prior.sampling(config.cropping.resolution)
    sets: dict[Path, ClassImages] = {}
    for subject in material.subjects:
        folder = subject.class_data_dir or (Path(config.prior.class_data_dir) if config.prior.class_data_dir else None)
        count = subject.num_class_images or config.prior.num_class_images
        images = ClassImages(folder or Path(), subject.class_prompt or "", count, sampling, model, how_drawn(config))
        images = replace(images, folder=Path(os.path.realpath(folder or shared_folder(images.made_with, weights=stored_precision(config)))))
        known = sets.get(images.folder)
        assert known is None or known.prompt == images.prompt, "`roles` refuses class images of two prompts in one folder"
        sets[images.folder] = replace(images, count=max(count, known.count)) if known else images
    return list(sets.values())


def draw_prior(
    config: TrainConfig, material: Material, family: Family, processes: Ranks, stop: Callable[[], bool] = lambda: False
) -> Iterator[Record]:
    """Draw the class images that are missing; the first process does it, the others wait.

    Raises Interrupted, in all of them, when `stop()` becomes true in the first.
    """
    if processes.is_main:
        for images in material.prior:
            yield from images.mend()
    missing = [images for images in material.prior if images.missing()] if processes.is_main else []
    if not processes.any(bool(missing)):
        return
    drawer = _drawer(config, family, processes) if missing or family.shards else family
    if (yield from by_first(processes, drawer, lambda: _draw_missing(config, missing, drawer, processes, stop))):
        raise Interrupted(STOPPED_EARLY)
    if drawer is not family:
        del drawer
        free_memory(processes.device)


def _drawer(config: TrainConfig, family: Family, processes: Ranks) -> Family:
    """The untuned model: the one at hand, or, where the training has rounded it further, another."""
    own, precision = config.loop.mixed_precision, prior_precision(config)
    if DTYPES[precision] == DTYPES[own] or DTYPES[own] == torch.float32 or config.method.trains_whole_parts:
        return family
    drawer = load_in("no", config.model)
    offload(config, drawer, processes.device)
    shard(config, drawer, processes.device)
    configure_tokenizers(drawer, config.text)
    return drawer


def _draw_missing(
    config: TrainConfig, missing: list[ClassImages], drawer: Family, processes: Ranks, stop: Callable[[], bool]
) -> Generator[Record, None, bool]:
    """Returns whether it left off because `stop()` had become true."""
    drawer.to(processes.device)
    precision = prior_precision(config)
    before = load_stages(config, processes.device)
    for images in missing:
        writable_folder(images.folder, "--class_data_dir")
        images.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(images.folder / LOCK, thread_local=False)
        for _ in waiting_for(lock):
            yield Progress("class images, drawn by another run", images.count - images.missing(), images.count)
            if stop():
                return True
        try:
            for record in images.draw(drawer, batch_size=config.prior.sample_batch_size, precision=precision, smaller=before):
                yield record
                if isinstance(record, Progress) and stop():
                    return True
        finally:
            lock.release()
    return False


def make_batches(config: TrainConfig, material: Material, family: Family, processes: Ranks, seed: int) -> Iterator[Record | Batches]:
    """Encode everything once; the last item is the Batches."""
    prompts: list[str] = []
    photos, prior, cutter = ImageSet(), ImageSet(), cutter_of(config, family, seed)
    encoder = family if config.cropping.cache_latents else None
    configure_conditioning(config, family)  # not before class images are drawn, by the untuned model
    place_for_encoding(family, processes.device, vae_names(family))
    class_images = [(path, images.prompt) for images in material.prior for path in complete(images)]
    drawn = (Picture(path.name, load(path), [_place(prompts, prompt)]) for path, prompt in class_images)
    try:
        read = _read(config, material, prompts, cutter)
        yield from fill_image_set(photos, read, cutter, encoder, count=len(material.photos), what="photos")
        if class_images:
            yield from fill_image_set(prior, drawn, cutter, encoder, count=len(class_images), what="class images")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RunError("Out of memory while encoding one picture. Lower --resolution.") from error
    yield from warnings(_blurred(photos, cutter.resolution) if family.conditioning_channels else [])
    place_for_encoding(family, processes.device, family.encoder_names)
    text = text_table(family, prompts, learning=learning_parts(config, family))
    per_update = config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes.count
    place_for_training(config, family, processes.device)
    draw = Draw(per_update, per_update if len(prior) else 0, seed, training_schedule(config, family))
    yield Batches(family, TrainingData(photos, prior, text), draw, config.objective)


def cutter_of(config: TrainConfig, family: Family, seed: int = 0) -> Cutter:
    """How the pictures of a run are cut, in shapes that its model can draw."""
    resolution = config.cropping.resolution
    assert resolution
    buckets = config.cropping.aspect_ratio_buckets
    shapes = bucket_shapes(resolution, step=family.pixel_step, longest=family.largest_side) if buckets else ()
    return Cutter(config.cropping, resolution, seed, shapes)


def _blurred(photos: ImageSet, resolution: int) -> list[str]:
    """A sentence about photos that had to be made larger: a stage that makes pictures large learns from them what is fine."""
    sizes = {name: min(photos.crops[cuts[0]].original) for name, cuts in zip(photos.names, photos.cuts_of, strict=True)}
    small = [name for name, side in sizes.items() if side < resolution]
    if not small:
        return []
    which = f"{', '.join(small[:3])}{' ...' if small[3:] else ''}"
    count = f"{len(small)} of {len(sizes)} photos are smaller than the {resolution} pixels of this stage ({which}), and teach it blur."
    return [f"{count} Use the original files, or a smaller --resolution."]


def _read(config: TrainConfig, material: Material, prompts: list[str], cutter: Cutter) -> Iterator[Picture]:
    """The photos, with their masks where the loss has any; their prompts are entered into the table.

    A photo that the check did not keep in the trained size is read now, when its turn comes.
    """
    for one in material.photos:
        places = [_place(prompts, prompt) for prompt in prompts_shown(config, material, one)]
        kept = one.photo
        if kept and kept.image and kept.image.size == cutter.size(kept.facts.size):
            yield Picture(one.path.name, kept.image, places, one.mask, kept.facts.size)
            continue
        image, facts = load_with_facts(one.path)
        mask = mask_of(one.path, facts, config.photos.mask_dir) if config.objective.masked_loss else None
        yield Picture(one.path.name, image, places, mask)


def prompts_shown(config: TrainConfig, material: Material, photo: LearnedPhoto) -> list[str]:
    """What a photo is called: its caption, or the method's templates in turn, or the instance prompt."""
    templates = config.method.templates(config.photos.concept)
    if not templates or config.photos.instance_prompt or photo.caption:
        return [photo.prompt]
    return [fill(template, material.identifier) for template in templates]


def warnings(complaints: Iterable[str]) -> Iterator[Record]:
    """A warning for each."""
    for complaint in complaints:
        yield Message(complaint, important=True)


def _place(prompts: list[str], prompt: str) -> int:
    """Where a prompt stands in the table; entered if it is new."""
    if prompt not in prompts:
        prompts.append(prompt)
    return prompts.index(prompt)
