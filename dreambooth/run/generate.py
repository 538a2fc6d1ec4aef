"""`generate`: pictures from a run, a checkpoint, a pipeline or a LoRA, with a contact sheet."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dreambooth.core.device import Precision, pick_device
from dreambooth.core.errors import SettingError
from dreambooth.families.sampling import Picture, Sampling, check, draw, filled_in, unread
from dreambooth.files.folders import expanded, is_same, refuse_unwritable
from dreambooth.files.images import write_sheet
from dreambooth.files.locks import claimed
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.prompts.placeholder import fill, read_prompts
from dreambooth.run.axes import Grid, Subject, read_grid
from dreambooth.run.gallery import Gallery
from dreambooth.run.grid import GridRequest, draw_grid
from dreambooth.schema import Count, Seed, Setting, flags, is_set
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import Opened, Opening, find, named, open_model, own_place
from dreambooth.setup.roles import refuse_mixed_pictures
from dreambooth.training.records import Message, Progress


class GenerateConfig(Setting):
    """Draw pictures with a run, a checkpoint of a run, a pipeline folder or a Hub model."""

    positional = ("run", "prompt")
    prose = ("prompt", "grid_values")

    run: str
    """The run's folder, RUN@300 or RUN@best for one of its checkpoints, a pipeline folder, or a Hub id."""
    prompt: tuple[str, ...] = ()
    """One or more prompts; [V] stands for the run's identifier."""
    prompts: str | None = None
    """Text file with one prompt a line."""
    negative_prompt: str | None = None
    """What the pictures should not show."""
    num_images: Count = 4
    """Pictures of each prompt."""
    grid: str | None = None
    """Rows and columns of one labelled sheet: two of prompt, seed, guidance_scale, num_inference_steps, checkpoint, lora_scale."""
    grid_values: tuple[str, ...] = ()
    """Values of an axis where they are not the usual ones: lora_scale=0.5,1 checkpoint=100,best."""
    seed: Seed = 0
    """Seed of each prompt's first picture; the next ones count up."""
    batch_size: Count = 4
    """Pictures drawn at a time; halved by itself when memory runs out."""
    output_dir: str | None = None
    """Folder of the pictures; left out, RUN/samples/generated (one below it for a checkpoint), else ./generated, beside what is there."""
    lora: str | None = None
    """A LoRA file or folder, or RUN@300 or RUN@best, to put on the model."""
    identifier: str | None = None
    """What [V] stands for, where the model does not say."""
    mixed_precision: Precision | None = None
    """Precision of the arithmetic; left out, that of the run."""
    device: str | None = None
    """cpu, cuda, mps ...; left out, the accelerator of this machine."""
    variant: str | None = None
    """Variant of a pipeline's weight files, such as fp16; a run knows its own."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; a run knows its own."""
    single_file_config: str | None = None
    """For a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool = False
    """Also load weights saved as pickles. A pickle can run any code: only for files you trust."""
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
    grid: Grid | None = None


def asked(config: GenerateConfig) -> Asked:
    """The prompts as the model will read them, and the folder; nothing is loaded, downloaded or written.

    Raises SettingError for all of a request that can be seen to be wrong without its model.
    """
    prompts = [*config.prompt, *(read_prompts(Path(config.prompts)) if config.prompts else ())]
    if not prompts:
        raise SettingError("prompt", "there is nothing to draw.", fix='Give one: dreambooth generate RUN "a [V] dog on the beach".')
    path, run, own = find(config.run, single_file_config=config.single_file_config)
    if config.lora and not named(config.lora, "--lora").exists():
        refuse_missing_folder(config.lora, "--lora", needs_owner=True)
    pick_device(config.device)
    identifier = config.identifier or (own.photos.identifier if own else None)
    noun = own.replaced_noun if own else None
    filled = tuple(fill(prompt, identifier, replaced=noun) for prompt in prompts)
    negative = config.negative_prompt and fill(config.negative_prompt, identifier, setting="--negative_prompt", replaced=noun)
    below = () if path == run else (path.name,)  # not in the checkpoint: it may be deleted, the pictures may not
    if config.output_dir:
        folder = expanded(config.output_dir, "--output_dir")
    else:
        folder = own_place(run, "samples", "generated", *below) if run else Path("generated")
    refuse_mixed_pictures(folder, run, own)
    if run and is_same(folder, run):
        reason = f"{folder} is the run's own folder, whose contact sheet would be replaced."
        raise SettingError("--output_dir", reason, fix="Leave it out, or name a folder below samples.")
    refuse_unwritable(folder, "--output_dir")
    return Asked(filled, negative, folder, _grid(config, filled, run if path == run else None, own))


def generate(config: GenerateConfig, *, opened: Opened | None = None) -> Iterator[Message | Progress | Drawn]:
    """Draw every prompt with seeds seed, seed + 1 ...; PNGs carry their settings. The last record is `Drawn`."""
    wanted = asked(config)
    prompts, negative, folder = list(wanted.prompts), wanted.negative_prompt, wanted.folder
    if wanted.grid:
        yield Drawn(*(yield from draw_grid(_grid_request(config, wanted, wanted.grid), opened)))
        return
    if opened is None:
        yield Message(f"Loading {named(config.run)} ...")
        opened = open_model(config.run, opening(config))
        if opened.added:
            yield Message(opened.added)
    sampling = sampling_of(config, opened)
    check(opened.family, sampling, negative_prompt=negative)
    for prompt in [*prompts, *([negative] if negative else [])]:
        for sentence in unread(opened.family, prompt):
            yield Message(sentence, important=True)
    precision = config.mixed_precision or opened.precision
    made_with = {
        **sampling.model_dump(exclude_none=True), "negative_prompt": negative, "model": opened.name,
        "weights": opened.weights, "precision": precision, "lora": str(named(config.lora)) if config.lora else None,
    }  # fmt: skip
    seeds = [config.seed + i for i in range(config.num_images)]
    with claimed(folder, "generate"):
        made_with = {name: value for name, value in made_with.items() if value is not None}
        gallery = Gallery.opened(folder, prompts, seeds, made_with, again=bool(config.output_dir))
        pictures = yield from _draw_missing(gallery, opened, sampling, negative, config.batch_size, precision)
        count = len(seeds)
        rows = [(prompt, [picture.image for picture in pictures[i * count : (i + 1) * count]]) for i, prompt in enumerate(prompts)]
        how = f"{pictures[0].settings['sampler']}, {sampling.num_inference_steps} steps, guidance {sampling.guidance_scale:g}"
        write_sheet(gallery.sheet, rows, title="", footer=f"{opened.name} · {how} · seeds {seeds[0]}-{seeds[-1]}")
    yield Drawn(tuple(pictures), tuple(gallery.path(place) for place in range(len(pictures))), gallery.sheet)


def _grid(config: GenerateConfig, prompts: Sequence[str], run: Path | None, own: TrainConfig | None) -> Grid | None:
    """The grid that was asked for, with its axes filled in."""
    if config.grid is None:
        if config.grid_values:
            raise SettingError("--grid_values", "there is no grid.", fix="Name its axes, as in --grid prompt,lora_scale.")
        return None
    given = frozenset(name for name, flag in flags(GenerateConfig).items() if is_set(config, flag.path))
    seeds = [config.seed + i for i in range(config.num_images)]
    return read_grid(config.grid, config.grid_values, Subject(config.run, run, own, config.lora, prompts, seeds, given))


def _grid_request(config: GenerateConfig, wanted: Asked, grid: Grid) -> GridRequest:
    """All that decides a grid; the model's own name, where no checkpoints vary, is what `open_model` calls it."""
    return GridRequest(
        grid, str(named(config.run)), opening(config), wanted.prompts[0], config.seed, wanted.negative_prompt, wanted.folder,
        config.batch_size, config.mixed_precision, partial(sampling_of, config),
    )  # fmt: skip


def _draw_missing(
    gallery: Gallery, opened: Opened, sampling: Sampling, negative: str | None, batch_size: int, precision: str
) -> Generator[Message | Progress, None, list[Picture]]:
    """All pictures of a request, those that an interruption left read and the others drawn, each on the disk before it is announced."""
    pictures = gallery.present()
    if pictures:
        yield Message(f"{len(pictures)} of {len(gallery.wanted)} pictures are there already.")
    todo = gallery.missing(pictures, batch_size)
    drawn = draw(
        opened.family, [gallery.wanted[place][0] for place in todo], [gallery.wanted[place][1] for place in todo], sampling=sampling,
        negative_prompt=negative, batch_size=batch_size, precision=precision,
    )  # fmt: skip
    for place, picture in zip(todo, drawn, strict=True):
        if place in pictures:
            continue  # drawn for its batch alone
        gallery.save(place, picture)
        pictures[place] = picture
        yield Progress("drawing", len(pictures), len(gallery.wanted))
        if not picture.finite:
            yield Message(f"The picture of seed {picture.seed} is not finite; try --mixed_precision no.", important=True)
    return [pictures[place] for place in range(len(gallery.wanted))]


def opening(config: GenerateConfig) -> Opening:
    """How the settings want their model opened."""
    return Opening(
        lora=config.lora, device=config.device, allow_pickle=config.allow_pickle, precision=config.mixed_precision,
        variant=config.variant, revision=config.revision, verify=config.verify, single_file_config=config.single_file_config,
    )  # fmt: skip


def sampling_of(config: GenerateConfig, opened: Opened) -> Sampling:
    """How to draw: as asked for; what was left out as the run drew its own previews, so that equal seeds give equal pictures."""
    run = opened.config
    own = run.validation.sampling(run.cropping.resolution or opened.family.native_resolution) if run else None
    return filled_in(config, own, type(opened.family))
