"""`generate`: pictures from a run, a checkpoint, a pipeline or a LoRA, with a contact sheet."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from dreambooth.core.device import Precision, pick_device
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shell_words
from dreambooth.families import Family
from dreambooth.families.sampling import Picture, Sampling, Smaller, check, draw, unread
from dreambooth.families.superresolution import SuperResolution, Variance
from dreambooth.files.folders import expanded, is_same, refuse_unwritable
from dreambooth.files.images import write_sheet
from dreambooth.files.locks import claimed
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.photos.load import scan
from dreambooth.prompts.placeholder import fill, read_prompts
from dreambooth.run.axes import Grid, Subject, read_grid
from dreambooth.run.gallery import Gallery
from dreambooth.run.grid import GridRequest, draw_grid
from dreambooth.run.safety import Checker, about, checked, load_checker, refuse_half_checkers
from dreambooth.schema import BASIC, Count, Seed, Setting, flags, is_set
from dreambooth.setup.cascade import given_pictures
from dreambooth.setup.open import Opened, Opening, named, own_place
from dreambooth.setup.roles import refuse_mixed_pictures
from dreambooth.setup.stages import (
    Found,
    find_stages,
    is_cascade,
    open_stages,
    reference,
    sampling_of,
    set_noise,
    smaller_of,
    stage_names,
    strangers,
)
from dreambooth.training.records import Message, Progress, Waiting


class GenerateConfig(Setting):
    """Draw pictures with a run, a checkpoint of a run, a pipeline folder or a Hub model."""

    positional = ("run", "prompt")
    prose = ("prompt", "grid_values")

    run: Annotated[str, BASIC]
    """The run's folder, RUN@300 or RUN@best for one of its checkpoints, a pipeline folder, or a Hub id."""
    prompt: Annotated[tuple[str, ...], BASIC] = ()
    """One or more prompts; [V] stands for the run's identifier."""
    prompts: Annotated[str | None, BASIC] = None
    """Text file with one prompt a line."""
    then: tuple[str, ...] = ()
    """Models that make the pictures larger, in their order: what RUN may be, for the later stages of a cascade."""
    from_folder: str | None = None
    """Folder of small pictures that RUN, a later stage, makes large: instead of a stage before it. One drawing of each, or --num_images."""
    noise_augmentation: Variance | None = None
    """Variance of the noise on the small pictures of later stages; automatic: as each was trained, which is best."""
    negative_prompt: Annotated[str | None, BASIC] = None
    """What the pictures should not show."""
    num_images: Annotated[Count, BASIC] = 4
    """Pictures of each prompt."""
    grid: Annotated[str | None, BASIC] = None
    """Rows and columns of one labelled sheet: two of prompt, seed, guidance_scale, num_inference_steps, checkpoint, lora_scale."""
    grid_values: tuple[str, ...] = ()
    """Values of an axis where they are not the usual ones: lora_scale=0.5,1 checkpoint=100,best."""
    seed: Annotated[Seed, BASIC] = 0
    """Seed of each prompt's first picture; the next ones count up."""
    batch_size: Count = 4
    """Pictures drawn at a time; halved by itself when memory runs out."""
    output_dir: Annotated[str | None, BASIC] = None
    """Folder of the pictures; automatic: RUN/samples/generated (one below it for a checkpoint), else ./generated, beside what is there."""
    lora: str | None = None
    """A LoRA file or folder, or RUN@300 or RUN@best, to put on the model."""
    identifier: str | None = None
    """What [V] stands for, where the model does not say."""
    mixed_precision: Precision | None = None
    """Precision of the arithmetic; automatic: that of the run."""
    device: str | None = None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    variant: str | None = None
    """Variant of a pipeline's weight files, such as fp16; a run knows its own."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; a run knows its own."""
    single_file_config: str | None = None
    """For a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool = False
    """Also load weights saved as pickles. A pickle can run any code: only for files you trust."""
    safety_checker: bool = True
    """Run the base model's safety checker, where it has one; pictures that it objects to are black."""
    verify: bool = True
    """Hold the bytes of a run's weights against their digests while they are loaded."""
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Drawn:
    """All pictures of a `generate`, and where they lie."""

    pictures: tuple[Picture, ...]
    paths: tuple[Path, ...]
    sheet: Path


@dataclass(frozen=True)
class Asked:
    """What is to be drawn, and where its pictures go."""

    prompts: tuple[str, ...]
    negative_prompt: str | None
    folder: Path
    pictures: tuple[Path, ...] = ()
    """Small ones to make large."""
    doubts: tuple[str, ...] = ()
    grid: Grid | None = None


def asked(config: GenerateConfig) -> Asked:
    """The prompts as the model will read them, and the folder; nothing is loaded, downloaded or written.

    Raises SettingError for all of a request that can be seen to be wrong without its model.
    """
    prompts = [*config.prompt, *(read_prompts(Path(config.prompts)) if config.prompts else ())]
    if not prompts:
        raise SettingError(
            "prompt",
            "there is nothing to draw.",
            fix=f"Give one: {shell_words('dreambooth', 'generate', config.run, 'a [V] dog on the beach')}",
        )
    stages = find_stages(
        stage_names(config.run, config.then), has_pictures=bool(config.from_folder), has_size=_has_size(config),
        single_file_config=config.single_file_config,
    )  # fmt: skip
    path, run = (Path(config.run).expanduser(), None) if is_cascade(config.run) else (stages[0].path, stages[0].run)
    if config.lora and not named(config.lora, "--lora").exists():
        refuse_missing_folder(config.lora, "--lora", needs_owner=True)
    pick_device(config.device)
    words = reference(stages)
    identifier = config.identifier or (words.photos.identifier if words else None)
    noun = words.replaced_noun if words else None
    filled = tuple(fill(prompt, identifier, replaced=noun) for prompt in prompts)
    negative = config.negative_prompt and fill(config.negative_prompt, identifier, setting="--negative_prompt", replaced=noun)
    below = () if path == run or run is None else (path.name,)  # not in the checkpoint: it may be deleted, the pictures may not
    if config.output_dir:
        folder = expanded(config.output_dir, "--output_dir")
    else:
        home = run or (path if is_cascade(config.run) else None)
        folder = own_place(home, "samples", "generated", *below) if home else Path("generated")
    for stage in stages:
        refuse_mixed_pictures(folder, stage.run, stage.config)
    if run and is_same(folder, run):
        reason = f"{folder} is the run's own folder, whose contact sheet would be replaced."
        raise SettingError("--output_dir", reason, fix="Leave it out, or name a folder below samples.")
    refuse_unwritable(folder, "--output_dir")
    if config.safety_checker:
        refuse_half_checkers(stages, allow_pickle=config.allow_pickle)
    pictures = scan(config.from_folder).photos if config.from_folder else ()
    return Asked(filled, negative, folder, pictures, tuple(strangers(stages)), _grid(config, filled, stages))


def generate(config: GenerateConfig, *, opened: Opened | None = None) -> Iterator[Message | Progress | Drawn]:
    """Draw every prompt with seeds seed, seed + 1 ...; PNGs carry their settings. The last record is `Drawn`."""
    wanted = asked(config)
    prompts, negative, folder = list(wanted.prompts), wanted.negative_prompt, wanted.folder
    if wanted.grid:
        yield Drawn(*(yield from draw_grid(_grid_request(config, wanted, wanted.grid), opened)))
        return
    if opened is None:
        yield Waiting(f"Loading {named(config.run)} ...")
        opened = open_stages(stage_names(config.run, config.then), opening(config))
        first = (*opened.stages, opened)[0]
        if first.added:
            yield Message(first.added)
    for doubt in (*wanted.doubts, *set_noise(opened, config.noise_augmentation)):
        yield Message(doubt, important=True)
    sampling, smaller = sampling_of(config, opened), smaller_pictures(config, wanted, opened)
    for stage in (*opened.stages, opened):
        check(stage.family, sampling_of(config, stage), negative_prompt=negative)
    for prompt in [*prompts, *([negative] if negative else [])]:
        for sentence in unread(opened.family, prompt):
            yield Message(sentence, important=True)
    precision = config.mixed_precision or opened.precision
    checker = load_checker(opened, allow_pickle=config.allow_pickle) if config.safety_checker else None
    made_with = {
        **sampling.model_dump(exclude_none=True), "negative_prompt": negative, "model": opened.name,
        "weights": opened.weights, "precision": precision, "lora": str(named(config.lora)) if config.lora else None,
        "cascade": [_settings_of_stage(config, stage) for stage in opened.stages] or None,
        "safety_checker": bool(checker) if checker or not config.safety_checker else None,
    }  # fmt: skip
    seeds = [config.seed + i for i in range(_count(config, wanted))]
    with claimed(folder, "generate"):
        made_with = {name: value for name, value in made_with.items() if value is not None}
        gallery = Gallery.opened(folder, prompts, seeds, made_with, again=bool(config.output_dir))
        how = {"sampling": sampling, "negative_prompt": negative, "batch_size": config.batch_size, "precision": precision}
        pictures = yield from _draw_missing(gallery, opened.family, {**how, "smaller": smaller}, checker)
        count = len(seeds)
        rows = [(prompt, [picture.image for picture in pictures[i * count : (i + 1) * count]]) for i, prompt in enumerate(prompts)]
        drawn_by = f"{pictures[0].settings['sampler']}, {sampling.num_inference_steps} steps, guidance {sampling.guidance_scale:g}"
        write_sheet(gallery.sheet, rows, title="", footer=f"{opened.name} · {drawn_by} · seeds {seeds[0]}-{seeds[-1]}")
    yield Drawn(tuple(pictures), tuple(gallery.path(place) for place in range(len(pictures))), gallery.sheet)


def _grid(config: GenerateConfig, prompts: Sequence[str], stages: Sequence[Found]) -> Grid | None:
    """The grid that was asked for, with its axes filled in."""
    if config.grid is None:
        if config.grid_values:
            raise SettingError("--grid_values", "there is no grid.", fix="Name its axes, as in --grid prompt,lora_scale.")
        return None
    if len(stages) > 1 or config.from_folder or is_cascade(config.run):
        raise SettingError("--grid", "a grid is drawn by one model, and this request has several stages.", fix="Leave out one of the two.")
    model = stages[0]
    run = model.run if model.run == model.path else None
    given = frozenset(name for name, flag in flags(GenerateConfig).items() if is_set(config, flag.path))
    seeds = [config.seed + i for i in range(config.num_images)]
    return read_grid(config.grid, config.grid_values, Subject(config.run, run, model.config, config.lora, prompts, seeds, given))


def _grid_request(config: GenerateConfig, wanted: Asked, grid: Grid) -> GridRequest:
    """All that decides a grid; the model's own name, where no checkpoints vary, is what `open_model` calls it."""
    return GridRequest(
        grid, str(named(config.run)), opening(config), wanted.prompts[0], config.seed, wanted.negative_prompt, wanted.folder,
        config.batch_size, config.mixed_precision, partial(sampling_of, config), config.safety_checker,
    )  # fmt: skip


def _draw_missing(
    gallery: Gallery, family: Family, how: Mapping[str, Any], checker: Checker | None
) -> Generator[Message | Progress, None, list[Picture]]:
    """All pictures of a request, those that an interruption left read and the others drawn, each on the disk before it is announced."""
    pictures = gallery.present()
    if pictures:
        yield Message(f"{len(pictures)} of {len(gallery.wanted)} pictures are there already.")
    todo = gallery.missing(pictures, how["batch_size"])
    drawn = draw(family, [gallery.wanted[place][0] for place in todo], [gallery.wanted[place][1] for place in todo], **how)
    for place, picture in zip(todo, checked(drawn, checker), strict=True):
        if place in pictures:
            continue  # drawn for its batch alone
        gallery.save(place, picture)
        pictures[place] = picture
        yield Progress("drawing", len(pictures), len(gallery.wanted))
        yield from about(picture)
    return [pictures[place] for place in range(len(gallery.wanted))]


def smaller_pictures(config: GenerateConfig, wanted: Asked, opened: Opened) -> Smaller | None:
    """What the last stage makes large."""
    first = (*opened.stages, opened)[0]
    given = None
    if wanted.pictures and isinstance(first.family, SuperResolution):
        own = first.config.cropping.resolution if first.config else None
        side = (own or first.family.native_resolution) // first.family.ratio
        given = given_pictures(wanted.pictures, first.family, side, first_seed=config.seed)
    options = {"negative_prompt": wanted.negative_prompt, "precision": config.mixed_precision}
    return smaller_of(config, opened, given, **options)


def _count(config: GenerateConfig, wanted: Asked) -> int:
    """Pictures of each prompt: of given small ones each once, unless a number was given by hand."""
    return config.num_images if not wanted.pictures or is_set(config, ("num_images",)) else len(wanted.pictures)


def _has_size(config: GenerateConfig) -> bool:
    return is_set(config, ("sampling", "height")) or is_set(config, ("sampling", "width"))


def _settings_of_stage(config: GenerateConfig, stage: Opened) -> dict[str, Any]:
    """All of a stage before the last that decides its pictures."""
    own = {"model": stage.name, "weights": stage.weights, "precision": config.mixed_precision or stage.precision}
    return {**own, **sampling_of(config, stage).model_dump(exclude_none=True), "noise_level": stage.family.noise_level}


def opening(config: GenerateConfig) -> Opening:
    """How the settings want their model opened."""
    return Opening(
        lora=config.lora, device=config.device, allow_pickle=config.allow_pickle, precision=config.mixed_precision,
        variant=config.variant, revision=config.revision, verify=config.verify, single_file_config=config.single_file_config,
    )  # fmt: skip
