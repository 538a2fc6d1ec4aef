"""Pictures drawn while a run goes on and at its end, exactly as `generate` would draw them from the saved run."""

from collections.abc import Iterator
from pathlib import Path

import torch

from dreambooth.evaluation.subject import is_toybox
from dreambooth.families import Family
from dreambooth.families.cascade import Given
from dreambooth.families.sampling import Picture, draw
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.images import LEAST_COLUMNS, photos_row, write_sheet
from dreambooth.prompts.placeholder import fill
from dreambooth.reporting.pictures import Subject
from dreambooth.reporting.progress import ProgressPage
from dreambooth.run.gallery import write_pictures
from dreambooth.run.material import Material
from dreambooth.setup.cascade import given_pictures
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import place_for_training
from dreambooth.setup.record import RunRecord
from dreambooth.training.loop import Trainer
from dreambooth.training.records import Preview, Record

FINAL_PROMPTS = ("{subject}", "{subject} on the beach", "{subject} in the snow", "{subject} in the jungle")
"""What the contact sheet at the end shows beside the validation prompt, after the paper's recontextualisation."""


def preview(config: TrainConfig, trainer: Trainer, material: Material, folder: Path) -> Preview:
    """The validation prompt, or the photos' own where there is none, drawn with the weights as they are."""
    prompt = _filled(config, material, "validation_prompt") or material.instance_prompt
    pictures = _pictures(config, trainer, material, [prompt], _count(config))
    place = folder / "samples" / f"step-{trainer.step:06d}"
    paths = write_pictures(place, [(prompt, pictures)], extra={"step": trainer.step})
    return Preview(trainer.step, paths, (prompt,) * len(paths))


def final_pictures(config: TrainConfig, trainer: Trainer, material: Material, folder: Path) -> Iterator[Record]:
    """The contact sheet of the run: the photos, then the subject in new places, then the class alone."""
    scenes = FINAL_PROMPTS[:1] if trainer.family.conditioning_channels else FINAL_PROMPTS  # its places are in the small pictures
    prompts = [prompt.format(subject=material.instance_prompt) for prompt in scenes]
    if config.validation.validation_prompt:
        prompts.insert(1, _filled(config, material, "validation_prompt"))
    prompts = list(dict.fromkeys([*prompts, *sorted({images.prompt for images in material.prior})]))
    count = _count(config)
    drawn = _pictures(config, trainer, material, prompts, count)
    rows = [(prompt, drawn[i * count : (i + 1) * count]) for i, prompt in enumerate(prompts)]
    step = trainer.shown_step
    paths = write_pictures(folder / "samples" / "final", rows, extra={"step": step})
    subject = subject_of(config, material)
    sheet = [photos_row(material.photos, lambda photo: photo.read())]
    sheet += [(subject.general(label), [picture.image for picture in pictures]) for label, pictures in rows]
    title = f"{subject.general(material.instance_prompt)}: {step} steps"
    footer = " · ".join([_footer(config, drawn[0].settings["sampler"]), *([f"[V] is {subject.identifier}"] if subject.identifier else [])])
    write_sheet(folder / "contact_sheet.png", sheet, title=title, footer=footer, columns=max(count, LEAST_COLUMNS))
    yield Preview(step, paths, tuple(prompt for prompt, pictures in rows for _ in pictures))


def _pictures(config: TrainConfig, trainer: Trainer, material: Material, prompts: list[str], count: int) -> list[Picture]:
    """`count` pictures of each prompt, as `generate` would draw them from the saved run."""
    family, validation, resolution = trainer.family, config.validation, config.cropping.resolution
    assert resolution
    family.to(trainer.processes.device)
    negative = _filled(config, material, "validation_negative_prompt") or None
    seeds = [validation.validation_seed + i for i in range(count)]
    smaller = _smaller(config, family, material)
    with trainer.inference_mode(), torch.random.fork_rng():
        drawn = list(draw(
            family, [p for p in prompts for _ in seeds], seeds * len(prompts), sampling=validation.sampling(resolution),
            negative_prompt=negative, batch_size=config.prior.sample_batch_size,
            precision=config.loop.mixed_precision, smaller=smaller,
        ))  # fmt: skip
    place_for_training(config, family, trainer.processes.device)
    return drawn


def _smaller(config: TrainConfig, family: Family, material: Material) -> Given | None:
    """What a later stage of a cascade makes large: the given pictures, or the photos made small. A picture for each seed."""
    if not isinstance(family, SuperResolution):
        return None
    paths = [Path(path).expanduser() for path in config.validation.validation_images] or [photo.path for photo in material.photos]
    side = (config.cropping.resolution or family.native_resolution) // family.ratio
    return given_pictures(paths, family, side, first_seed=config.validation.validation_seed)


def _count(config: TrainConfig) -> int:
    """Pictures of each prompt."""
    return len(config.validation.validation_images) or config.validation.num_validation_images


def _filled(config: TrainConfig, material: Material, name: str) -> str:
    """A prompt of the settings with the identifier in it."""
    return fill(getattr(config.validation, name) or "", material.identifier, setting=f"--{name}", replaced=config.replaced_noun)


def _footer(config: TrainConfig, sampler: str) -> str:
    sampling = config.validation.sampling(config.cropping.resolution or 0)
    model = config.model.pretrained_model_name_or_path
    how = f"{sampler}, {sampling.num_inference_steps} steps, guidance {sampling.guidance_scale:g}"
    return f"{model} · {config.method.kind} · {how}"


def is_due(config: TrainConfig, step: int, every: int) -> bool:
    """Whether the validation prompt is drawn after so many updates. After none it shows the untuned model."""
    validation = config.validation
    return bool(validation.validation_prompt) and step % every == 0 and step >= validation.validation_min_steps


def preview_interval(config: TrainConfig, trainer: Trainer) -> int:
    """Steps between two drawings."""
    validation = config.validation
    if validation.validation_steps is None and validation.validation_epochs:
        per_epoch = -(-len(trainer.batches.photos) // trainer.batches.num_photos)
        return validation.validation_epochs * per_epoch
    return validation.validation_steps or 100


def subject_of(config: TrainConfig, material: Material) -> Subject:
    """What the prompts call the subject."""
    return Subject(material.identifier, config.photos.class_noun or "")


def progress_page(config: TrainConfig, trainer: Trainer, material: Material, record: RunRecord) -> ProgressPage:
    """The page of a run that goes on, with what an earlier start has noted."""
    subject = subject_of(config, material)
    page = ProgressPage(
        record, subject=subject, title=subject.general(material.instance_prompt), total=trainer.total,
        every=config.watching.evaluate_every, is_toybox=is_toybox(config.model.pretrained_model_name_or_path),
    )  # fmt: skip
    page.resume(trainer.step)
    return page
