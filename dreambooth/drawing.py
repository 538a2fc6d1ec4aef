"""`generate`: pictures from a run, a checkpoint, a pipeline or a LoRA, with a contact sheet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.core.device import Precision
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import writable_folder
from dreambooth.opened import Opened, open_model
from dreambooth.outputs import free_row, write_pictures, write_sheet
from dreambooth.prompts import fill, read_prompts
from dreambooth.sample import Picture, Sampling, check, draw, filled_in
from dreambooth.schema import Count, Seed, Setting
from dreambooth.training.records import Progress, Told


class GenerateConfig(Setting):
    """Draw pictures with a run, a checkpoint of a run, a pipeline folder or a Hub model."""

    positional = ("run", "prompt")
    prose = ("prompt",)

    run: str
    """The run's folder, RUN/checkpoint-N, a pipeline folder, or a Hub id."""
    prompt: tuple[str, ...] = ()
    """One or more prompts; [V] stands for the run's identifier."""
    prompts: str | None = None
    """Text file with one prompt a line."""
    negative_prompt: str | None = None
    """What the pictures should not show."""
    num_images: Count = 4
    """Pictures of each prompt."""
    seed: Seed = 0
    """Seed of each prompt's first picture; the next ones count up."""
    batch_size: Count = 4
    """Pictures drawn at a time; halved by itself when memory runs out."""
    output_dir: str | None = None
    """Folder of the pictures; left out, RUN/samples/generated, or ./generated when RUN is no folder of a run, beside what is there."""
    lora: str | None = None
    """A LoRA file or folder to put on the model."""
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
    allow_pickle: bool = False
    """Also load weights saved as pickles. A pickle can run any code: only for files you trust."""
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Drawn:
    """All pictures of a `generate`, and where they lie."""

    pictures: tuple[Picture, ...]
    paths: tuple[Path, ...]
    sheet: Path


def generate(config: GenerateConfig, *, opened: Opened | None = None) -> Iterator[Told | Progress | Drawn]:
    """Draw every prompt with seeds seed, seed + 1 ...; PNGs carry their settings. The last thing told is `Drawn`."""
    prompts = [*config.prompt, *(read_prompts(Path(config.prompts)) if config.prompts else ())]
    if not prompts:
        raise SettingError("prompt", "there is nothing to draw.", fix='Give one: dreambooth generate RUN "a [V] dog on the beach".')
    if opened is None:
        yield Told(f"Loading {config.run} ...")
        opened = open_model(config.run, **opening(config))
        if opened.added:
            yield Told(opened.added)
    prompts = [fill(prompt, config.identifier or opened.identifier, replaced=opened.replaced_noun) for prompt in prompts]
    sampling = sampling_of(config, opened)
    check(opened.family, sampling, negative_prompt=config.negative_prompt)
    folder = _folder(config, opened)
    writable_folder(folder, "--output_dir")
    count, total = config.num_images, config.num_images * len(prompts)
    precision = config.mixed_precision or opened.precision
    pictures: list[Picture] = []
    for picture in draw(
        opened.family, [p for p in prompts for _ in range(count)], [config.seed + i for i in range(count)] * len(prompts),
        sampling=sampling, negative_prompt=config.negative_prompt, batch_size=config.batch_size,
        precision=precision,
    ):  # fmt: skip
        pictures.append(picture)
        yield Progress("drawing", len(pictures), total)
        if not picture.finite:
            yield Told(f"The picture of seed {picture.seed} is not finite; try --mixed_precision no.", important=True)
    rows = [(prompt, pictures[i * count : (i + 1) * count]) for i, prompt in enumerate(prompts)]
    first = 0 if config.output_dir else free_row(folder)
    made_with = {"model": opened.name, "precision": precision, **({"lora": config.lora} if config.lora else {})}
    paths = write_pictures(folder, rows, extra=made_with, first=first)
    told = f"{opened.name} · {pictures[0].settings['sampler']}, {sampling.num_inference_steps} steps, guidance {sampling.guidance_scale:g}"
    seeds = f"seeds {config.seed}-{config.seed + count - 1}"
    sheet = folder / (f"contact_sheet-{first:02d}.png" if first else "contact_sheet.png")
    write_sheet(sheet, [(label, [p.image for p in drawn]) for label, drawn in rows], title="", footer=f"{told} · {seeds}")
    yield Drawn(tuple(pictures), paths, sheet)


def opening(config: GenerateConfig) -> dict[str, Any]:
    """What `open_model` is to be told."""
    return {
        "lora": config.lora, "device": config.device, "allow_pickle": config.allow_pickle, "precision": config.mixed_precision,
        "variant": config.variant, "revision": config.revision,
    }  # fmt: skip


def sampling_of(config: GenerateConfig, opened: Opened) -> Sampling:
    """How to draw: as asked for; what was left out as the run drew its own previews, so that equal seeds give equal pictures."""
    run = opened.config
    own = run.validation.sampling(run.cropping.resolution or opened.family.native_resolution) if run else None
    return filled_in(config, own, type(opened.family))


def _folder(config: GenerateConfig, opened: Opened) -> Path:
    if config.output_dir:
        return Path(config.output_dir).expanduser()
    run = Path(config.run).expanduser()
    return run / "samples" / "generated" if opened.config else Path("generated")
