"""Pictures from a loaded family: a seed each, in batches that halve when memory runs out, by any of diffusers' samplers."""

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import PrivateAttr

from dreambooth.core.device import autocast, free_memory, is_out_of_memory
from dreambooth.core.draws import key
from dreambooth.core.errors import RunError, SettingError
from dreambooth.core.wording import shortened, shown
from dreambooth.families.base import Family
from dreambooth.families.samplers import make_scheduler, reaches_the_end, sampler
from dreambooth.families.shards import together
from dreambooth.prompts.placeholder import refuse_unreadable
from dreambooth.schema import BASIC, Count, Guidance, Pixels, Setting, Share, get, is_set

log = logging.getLogger(__name__)


class Sampling(Setting):
    """How pictures are drawn"""

    num_inference_steps: Annotated[Count, BASIC] = 30
    """Steps of the sampler. More is slower and, past about 30, hardly better."""
    guidance_scale: Annotated[Guidance, BASIC] = 7.5
    """How strongly the prompt counts (classifier-free guidance); 1 is no guidance. FLUX.1 dev takes about 3.5 as an input."""
    scheduler: str = "DPMSolverMultistepScheduler"
    """Sampler: a diffusers scheduler's name, or ddim, ddpm, dpm++, dpm++_sde, euler, euler_a, unipc, pndm, lms, heun.
    Flows keep their own."""
    eta: Share = 0.0
    """Noise put back at each step by DDIM: 0 is deterministic, 1 ancestral."""
    height: Annotated[Pixels | None, BASIC] = None
    """Height of the pictures in pixels; automatic: the model's own size (for a run: the size it was trained at)."""
    width: Annotated[Pixels | None, BASIC] = None
    """Width of the pictures in pixels; automatic: as height."""
    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def given_by(self, sources: Mapping[str, str]) -> "Sampling":
        """The same, with the flag or the file that a value comes from, where that is not the flag of its name: for what is said of it."""
        copy = self.model_copy()
        copy._sources = {**self._sources, **sources}
        return copy

    def source(self, name: str) -> str:
        """What a value was given by."""
        return self._sources.get(name, f"--{name}")


@dataclass(frozen=True)
class Picture:
    """A drawn picture with all that is needed to draw it again."""

    image: Image.Image
    prompt: str
    seed: int
    finite: bool
    """False when the model's numbers overflowed; the image is then black."""
    settings: dict[str, Any] = field(default_factory=dict)
    pixels: torch.Tensor | None = None
    """Unrounded, float32 [3, h, w] in about [-1, 1], where another model goes on from it."""


class Smaller(ABC):
    """Where the small pictures come from that a model makes large: given ones, or those of the stages before it."""

    @property
    def stages(self) -> int:
        """How many stages have drawn them."""
        return 0

    @abstractmethod
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        """A picture with its `pixels` for each (prompt, seed); `prompts` and `seeds` are those of the large pictures."""

    def of_all(self, prompts: Sequence[str]) -> AbstractContextManager[None]:
        """A block in which these prompts will be asked for."""
        return nullcontext()


def stage_seed(seed: int, stage: int) -> int:
    """The seed by which a stage (from 1) draws its part of the picture of a seed."""
    return seed if stage == 1 else key(seed, "stage", stage)


def draw(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], *, sampling: Sampling, negative_prompt: str | None = None,
    batch_size: int = 4, precision: str = "no", smaller: Smaller | None = None, keeps_pixels: bool = False,
) -> Iterator[Picture]:  # fmt: skip
    """One picture per (prompt, seed), in order. A picture is a function of model, prompt, seed and sampling, and, for a model that makes
    pictures large, of a small one.

    Raises RunError when even one picture at a time does not fit into memory, SettingError for what this model cannot do.
    """
    done = 0
    family.refuse_precision(precision)
    scheduler = check(family, sampling, negative_prompt=negative_prompt)
    refuse_alone(type(family), smaller)
    words = [*prompts, *([negative_prompt] if negative_prompt else [])]
    with sampler(family, scheduler), family.drawing(words), smaller.of_all(words) if smaller else nullcontext():
        while done < len(prompts):
            some = slice(done, done + batch_size)
            small = smaller(prompts[some], seeds[some]) if smaller else []
            own = [stage_seed(seed, smaller.stages + 1 if smaller else 1) for seed in seeds[some]]
            with together(family.shards, "draw", prompts[some], own, sampling, negative_prompt, precision):
                drawn = _if_it_fits(family, prompts[some], own, sampling, negative_prompt, precision, [one.pixels for one in small])
            if drawn is None:
                batch_size = len(prompts[some]) // 2
                free_memory(family.device)
                log.warning("Out of memory: drawing %d at a time from here on.", batch_size)
                continue
            for place, (image, pixels) in enumerate(drawn):
                prompt, seed = prompts[done + place], seeds[done + place]
                settings = _record(prompt, seed, negative_prompt, sampling, scheduler) | _beside(
                    family, small[place : place + 1], own[place]
                )
                yield Picture(image, prompt, seed, bool(pixels.isfinite().all()), settings, pixels if keeps_pixels else None)
            done += len(drawn)


def refuse_alone(family: type[Family], smaller: "Smaller | bool | None") -> None:
    """Raise SettingError for a model that makes small pictures large and has none, and for one that draws from text and has some."""
    if family.conditioning_channels and not smaller:
        reason = f"{family.name} makes small pictures large, and there are none."
        fix = "Name the stage before it first (generate RUN --then THIS), or give pictures: --from FOLDER."
        raise SettingError("--then", reason, fix=fix)
    if smaller and not family.conditioning_channels:
        raise SettingError("--then", f"{family.name} draws from text alone.", fix="It can only be the first stage.")


def whole_batches(wanted: Iterable[int], batch_size: int) -> list[int]:
    """The places of all pictures in the batches of 0, 1, 2 ... that hold a wanted one, in order.

    A picture's last bits depend on the company it is drawn in: what an interruption left out is drawn anew in its own batch.
    """
    batches = sorted({place // batch_size for place in wanted})
    return [batch * batch_size + place for batch in batches for place in range(batch_size)]


def check(family: Family, sampling: Sampling, *, negative_prompt: str | None = None) -> Any:
    """The scheduler that pictures will be drawn with; raises SettingError for what this model cannot do, before it is done."""
    if negative_prompt and not family.takes_negative_prompt:
        raise SettingError(sampling.source("negative_prompt"), f"{family.name} takes no negative prompt.", fix="Leave it out.")
    refuse_unreadable(negative_prompt or "", sampling.source("negative_prompt"))
    for side in ("height", "width"):
        size = getattr(sampling, side)
        if size and size % family.pixel_step:
            near = max(1, round(size / family.pixel_step)) * family.pixel_step
            reason = f"{family.name} draws multiples of {family.pixel_step} pixels, got {size}."
            raise SettingError(sampling.source(side), reason, fix=f"Give {near}.")
        if size and family.largest_side and size > family.largest_side:
            reason = f"this model draws at most {family.largest_side} pixels along a side, got {size}."
            raise SettingError(sampling.source(side), reason, fix=f"Give {family.largest_side}.")
    scheduler = make_scheduler(family, sampling.scheduler, setting=sampling.source("scheduler"))
    known, steps = scheduler.config.num_train_timesteps, sampling.num_inference_steps
    if steps > known:
        raise SettingError(sampling.source("num_inference_steps"), f"the model knows {known} times, got {steps}.", fix="Lower it.")
    if steps == 1 and scheduler.config.get("shift_terminal"):
        reason = f"{family.name}'s sampler places its steps between the first and the last one, and needs two."
        raise SettingError(sampling.source("num_inference_steps"), reason, fix="Raise it.")
    if steps >= known - 1 and family.process.prediction != "flow" and not reaches_the_end(scheduler, steps):
        reason = f"{type(scheduler).__name__} cannot take {steps} steps with this model."
        raise SettingError(sampling.source("num_inference_steps"), reason, fix="Lower it.")
    return scheduler


def _if_it_fits(family: Family, prompts: Sequence[str], *rest: Any) -> "list[tuple[Image.Image, torch.Tensor]] | None":
    """A batch; None when memory ran out. Left by then, the error no longer holds what has to be freed."""
    try:
        return _batch(family, prompts, *rest)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if family.shards and len(prompts) > 1:
            reason = f"Out of memory while drawing {len(prompts)} pictures at a time, of a model that several processes hold together."
            raise RunError(f"{reason} Lower --sample_batch_size.") from error
        if len(prompts) == 1:
            fix = "Draw smaller pictures (--height, --width, --resolution) or in --mixed_precision bf16."
            raise RunError(f"Out of memory while drawing one picture. {fix}") from error
        return None


def _batch(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, negative_prompt: str | None, precision: str,
    small: Sequence[torch.Tensor],
) -> list[tuple[Image.Image, torch.Tensor]]:  # fmt: skip
    """Pictures of one call of the pipeline, each also as it was before it was rounded, in about [-1, 1]."""
    out = call(family, prompts, seeds, sampling, negative_prompt, precision, small).cpu()
    black, white = family.picture_range
    levels = (((out - black) / (white - black)).nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pixels = out if black < 0 else out * 2 - 1
    return [(Image.fromarray(array), one) for array, one in zip(levels, pixels, strict=True)]


@torch.no_grad()
def call(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, negative_prompt: str | None, precision: str,
    small: Sequence[torch.Tensor] = (),
) -> torch.Tensor:  # fmt: skip
    """One call of the pipeline: pictures as it makes them, float32 [b, 3, H, W], still on the device."""
    options: dict[str, Any] = {"eta": sampling.eta}
    if small:
        options |= family.small_kwargs(torch.stack([*small]).to(family.device))
    else:
        options |= {"height": sampling.height or family.native_resolution}
        options |= {"width": sampling.width or sampling.height or family.native_resolution}
    if "max_sequence_length" in _options(family):
        options["max_sequence_length"] = family.text_length(len(family.encoder_names))
    options = {name: value for name, value in options.items() if name in _options(family)}
    unwanted = negative_prompt or family.default_negative_prompt
    negative = [unwanted] * len(prompts) if unwanted else None
    options |= family.pipeline_kwargs(sampling.guidance_scale, negative) | family.prompt_kwargs(prompts, negative)
    with autocast(family.device, precision, keep=not family.shards), _decoder(family, precision):
        return family.pipe(
            num_inference_steps=sampling.num_inference_steps, output_type="pt",
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], **options,
        ).images.float()  # fmt: skip


@contextmanager
def _decoder(family: Family, precision: str) -> Iterator[None]:
    """A block in which a VAE that says it overflows in fp16, as SDXL's, decodes in float32: its own weights are kept so."""
    vae = getattr(family.pipe, "vae", None)
    if vae is None or precision != "fp16" or not getattr(vae.config, "force_upcast", False):
        yield
        return
    own = vae.decode

    def decode(latents: torch.Tensor, *args: Any, **options: Any) -> Any:
        with torch.autocast(family.device.type, enabled=False):
            return own(latents.float(), *args, **options)

    vae.decode = decode
    try:
        yield
    finally:
        del vae.decode


def _options(family: Family) -> Mapping[str, Any]:
    """The options that the family's pipeline takes."""
    return inspect.signature(type(family.pipe).__call__).parameters


def _record(prompt: str, seed: int, negative_prompt: str | None, sampling: Sampling, scheduler: Any) -> dict[str, Any]:
    record = {"prompt": prompt, "seed": seed, **sampling.model_dump(exclude_none=True), "sampler": type(scheduler).__name__}
    return record | ({"negative_prompt": negative_prompt} if negative_prompt else {})


def _beside(family: Family, small: Sequence[Picture], seed: int) -> dict[str, Any]:
    """What a large picture says of the small one that it came from."""
    stages = [stage for one in small for stage in (*one.settings.get("stages", []), _without_stages(one.settings))]
    return {"noise_level": family.noise_level, "stage_seed": seed, "stages": stages} if small else {}


def _without_stages(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "stages"}


def unread(family: Family, prompt: str, where: str = "") -> list[str]:
    """A sentence for a prompt (which comes from `where`) that is longer than the model reads; none for one that is read whole."""
    rest = family.as_read(prompt)[1]
    if not rest:
        return []
    where = where or f'The prompt "{shortened(shown(prompt), 60)}"'
    return [f'{where} is longer than the {family.longest_text} tokens that the model reads; cut off: "{shortened(shown(rest))}".']


def filled_in(asked: Setting, own: Sampling | None, kind: type[Family]) -> Sampling:
    """How to draw: as asked for by hand in `asked.sampling`; what was left out as `own` says, and without it as the family's pipeline does.

    Of a run's square pictures a height alone makes other squares.
    """
    wanted: Sampling = get(asked, ("sampling",))
    given = {name: getattr(wanted, name) for name in Sampling.model_fields if is_set(asked, ("sampling", name))}
    if own is None:
        return wanted.model_copy(update={"guidance_scale": kind.guidance_scale} | given)
    sources = {
        name: f"--{name}" if name in given else f"config.yaml: {own.source(name).removeprefix('--')}" for name in Sampling.model_fields
    }
    filled = own.model_copy(update={"width": given.get("height") or own.width} | given)
    return filled.given_by({**sources, "negative_prompt": "--negative_prompt"})
