"""From a configuration to a trainer: photos read, class images drawn, pictures and prompts encoded, the method attached."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from dreambooth import sample
from dreambooth.config import Text, TrainConfig, recipe_named
from dreambooth.core.device import DTYPES, free_memory, is_out_of_memory
from dreambooth.core.draws import key
from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import Family
from dreambooth.families.source import replaced
from dreambooth.files.atomic import writable_folder
from dreambooth.files.locks import LOCK, waiting_for
from dreambooth.methods import Learner, Method
from dreambooth.photos.load import load, load_with_facts
from dreambooth.prompts import PLACEHOLDER, fill
from dreambooth.training.batches import Batches, Shelf, Shown, fill_shelf, text_table
from dreambooth.training.masks import mask_of
from dreambooth.training.prior import ClassImages, complete, shared_folder
from dreambooth.training.processes import Processes
from dreambooth.training.records import Progress, Record, Told
from dreambooth.training.subjects import Photo, Subject, read_photos, subjects


@dataclass
class Material:
    """What a run learns from: subjects with their photos, and the sets of class images."""

    identifier: str | None
    subjects: list[Subject]
    photos: list[Photo]
    complaints: list[str] = field(default_factory=list)
    prior: list[ClassImages] = field(default_factory=list)
    earlier: list[dict[str, Any]] = field(default_factory=list)
    """What a resumed run was trained on before, where that was something else (`dreambooth.material`)."""

    @property
    def instance_prompt(self) -> str:
        """What the first subject is called."""
        return self.subjects[0].instance_prompt

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
        images = replace(images, folder=Path(os.path.realpath(folder or shared_folder(images.made_with, weights=_stored(config)))))
        known = sets.get(images.folder)
        assert known is None or known.prompt == images.prompt, "`roles` refuses class images of two prompts in one folder"
        sets[images.folder] = replace(images, count=max(count, known.count)) if known else images
    return list(sets.values())


def how_drawn(config: TrainConfig) -> dict[str, Any]:
    """All that decides beside model, prompt and sampler what class images look like, none left out for being a default; but not what
    decides roundings alone: the device, and how many are drawn at a time."""
    arithmetic = str(DTYPES[_prior_precision(config)]).removeprefix("torch.")
    if arithmetic == "float32" and config.loop.allow_tf32:
        arithmetic = "tfloat32"
    return {"precision": arithmetic, **pipeline_of(config)}


def pipeline_of(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration decides how the untuned model reads and decodes, beside its own folder; None or False where that does."""
    return {**config.text.reading, "variant": config.model.variant, "vae": None, "tokenizer": None, **replaced(config.model)}


def _prior_precision(config: TrainConfig) -> str:
    return config.prior.prior_generation_precision or config.loop.mixed_precision


def _stored(config: TrainConfig) -> str:
    """In which precision the weights lie that class images are drawn with: `lighten` may have rounded them for the training."""
    own = config.loop.mixed_precision
    is_rounded = DTYPES[_prior_precision(config)] == DTYPES[own] and not config.method.trains_whole_parts
    return str(DTYPES[own if is_rounded else "no"]).removeprefix("torch.")


def draw_prior(config: TrainConfig, material: Material, family: Family, processes: Processes) -> Iterator[Record]:
    """Draw the class images that are missing; the first process does it, the others wait."""
    own, precision = config.loop.mixed_precision, _prior_precision(config)
    if processes.is_main:
        for images in material.prior:
            yield from images.mend()
    missing = [images for images in material.prior if images.missing()] if processes.is_main else []
    drawer = family
    if missing and DTYPES[precision] != DTYPES[own] and not config.method.trains_whole_parts:  # weights were rounded for the training
        family.to(torch.device("cpu"))
        drawer = type(family).load(config.model)
        read_as_told(drawer, config.text)
        drawer.to(processes.device)
    for images in missing:
        writable_folder(images.folder, "--class_data_dir")
        images.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(images.folder / LOCK, thread_local=False)
        for _ in waiting_for(lock):
            yield Progress("class images, drawn by another run", images.count - images.missing(), images.count)
        try:
            yield from images.draw(drawer, batch_size=config.prior.sample_batch_size, precision=precision)
        finally:
            lock.release()
    if drawer is not family:
        del drawer
        free_memory(processes.device)
        family.to(processes.device)
    processes.wait()


def make_batches(config: TrainConfig, material: Material, family: Family, processes: Processes, seed: int) -> Iterator[Record | Batches]:
    """Encode everything once; the last thing told is the Batches."""
    resolution = config.cropping.resolution
    assert resolution
    prompts: list[str] = []
    photos, prior = Shelf(), Shelf()
    options = {"cropping": config.cropping, "resolution": resolution, "seed": seed}
    encoder = family if config.cropping.cache_latents else None
    class_images = [(path, images.prompt) for images in material.prior for path in complete(images)]
    shown = (Shown(path.name, load(path), [_place(prompts, prompt)]) for path, prompt in class_images)
    try:
        yield from fill_shelf(photos, _shown(config, material, prompts), encoder, count=len(material.photos), what="photos", **options)
        if class_images:
            yield from fill_shelf(prior, shown, encoder, count=len(class_images), what="class images", **options)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RunError("Out of memory while encoding pictures. Lower --resolution, or pass --no-cache_latents.") from error
    text = text_table(family, prompts, learning=learning_parts(config, family))
    per_update = config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes.count
    rest(config, family)
    yield Batches(
        family, photos, prior, text, process=family.process.to(processes.device), objective=config.objective,
        num_photos=per_update, num_prior=per_update if len(prior) else 0, resolution=resolution, seed=seed,
    )  # fmt: skip


def _shown(config: TrainConfig, material: Material, prompts: list[str]) -> Iterator[Shown]:
    """The photos, each read when its turn comes, with its mask where the loss has one; their prompts are entered into the table."""
    for photo in material.photos:
        image, facts = load_with_facts(photo.path)
        mask = mask_of(photo.path, facts, config.photos.mask_dir) if config.objective.masked_loss else None
        yield Shown(photo.path.name, image, [_place(prompts, prompt) for prompt in prompts_shown(config, material, photo)], mask)


def prompts_shown(config: TrainConfig, material: Material, photo: Photo) -> list[str]:
    """What a photo is called: its caption, or the method's templates in turn, or the instance prompt."""
    templates = config.method.templates(config.photos.concept)
    if not templates or config.photos.instance_prompt or photo.caption:
        return [photo.prompt]
    return [fill(template, material.identifier) for template in templates]


def learning_parts(config: TrainConfig, family: Family) -> list[str]:
    """Names of the parts in which something learns."""
    return config.method.parts(family, train_text_encoder=config.text.train_text_encoder)


def attach(config: TrainConfig, family: Family, seed: int) -> Learner:
    """Let the method's parameters learn, beside or in weights that `lighten` has been over."""
    parts = learning_parts(config, family)
    learner = config.method.attach(family, parts, seed=key(seed, "attach"))
    if config.loop.gradient_checkpointing:
        for name in dict.fromkeys([family.denoiser_name, *parts]):
            part = family.parts[name]
            enable = getattr(part, "enable_gradient_checkpointing", None) or part.activation_checkpointing_enable
            enable()
    return learner


def lighten(family: Family, method: Method, precision: str) -> None:
    """Frozen networks in half precision, as they are computed with anyway, when only something small in or beside them learns.

    The VAE stays in float32 (SDXL's overflows in half), and so does everything when whole parts learn, for the output is saved from it.
    Weights that learn in place stay unrounded: what an update adds to them is smaller than what half precision tells apart.
    """
    if not method.trains_whole_parts:
        round_weights(family, precision, but=method.learned_in_place)


def round_weights(family: Family, precision: str, *, but: tuple[str, ...] = ()) -> None:
    """Denoiser and text encoders in half precision, where that is the precision; weights whose names end on one of `but` stay whole."""
    if DTYPES[precision] == torch.float32:
        return
    for part in (family.parts[name] for name in (family.denoiser_name, *family.encoder_names)):
        kept = [(p, p.data) for name, p in part.named_parameters() if name.endswith(but)]
        part.to(DTYPES[precision])
        for parameter, value in kept:
            parameter.data = value


def rest(config: TrainConfig, family: Family) -> None:
    """Send parts that have done their work to the CPU while the others train; nothing moves where there is only a CPU."""
    if family.device.type != "cpu":
        device = family.device
        family.to(torch.device("cpu"), parts=idle_parts(config, family))
        family.device = device
        free_memory(device)


def idle_parts(config: TrainConfig, family: Family) -> list[str]:
    """Parts that no update asks. While one text encoder learns the others read, too, but for those that read alone (`text_table`)."""
    learn = learning_parts(config, family)
    busy = {family.denoiser_name, *learn, *(() if config.cropping.cache_latents else ("vae",))}
    if not busy.isdisjoint(family.encoder_names):
        busy |= set(family.encoder_names) - set(family.reads_alone)
    return [name for name in family.parts if name not in busy]


def read_as_told(family: Family, text: Text) -> None:
    """Prompts as long as the run wants them, with or without a look at padding: in training, in pictures and in what is saved."""
    family.read(max_length=text.tokenizer_max_length, use_attention_mask=text.text_encoder_use_attention_mask)


def check_fit(config: TrainConfig, family: Family) -> None:
    """See that the model can be trained and drawn as asked: the size of the pictures, the samplers, the objective."""
    with recipe_named(config):
        _check_fit(config, family)


def _check_fit(config: TrainConfig, family: Family) -> None:
    resolution = config.cropping.resolution
    assert resolution
    check_resolution(resolution, step=family.pixel_step)
    config.objective.check(family.process)
    sample.check(family, config.validation.sampling(resolution), negative_prompt=config.validation.validation_negative_prompt)
    if config.has_prior:
        sample.check(family, config.prior.sampling(resolution))


def check_resolution(resolution: int, *, step: int) -> None:
    """Raise SettingError for a side in pixels that is no multiple of the model's `step`."""
    if resolution % step:
        reason = f"{resolution} does not fit this model, whose pictures come in steps of {step}."
        raise SettingError("--resolution", reason, fix=f"Use {max(step, round(resolution / step) * step)}.")


def hush() -> None:
    """Libraries' own progress bars and notices are silent; what matters is told as records."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def told(complaints: list[str]) -> Iterator[Record]:
    """A warning for each."""
    for complaint in complaints:
        yield Told(complaint, important=True)


def _place(prompts: list[str], prompt: str) -> int:
    """Where a prompt stands in the table; entered if it is new."""
    if prompt not in prompts:
        prompts.append(prompt)
    return prompts.index(prompt)
