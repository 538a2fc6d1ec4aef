"""Pictures from a loaded family: a seed each, in batches that halve when memory runs out, by any of diffusers' samplers."""

import copy
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from pydantic import PrivateAttr

from dreambooth.core.device import autocast, free_memory, is_out_of_memory
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.core.wording import shortened, shown
from dreambooth.families.base import Family
from dreambooth.prompts.placeholder import refuse_unreadable
from dreambooth.schema import Count, Guidance, Pixels, Setting, Share, get, is_set, nearest

log = logging.getLogger(__name__)

SHORT_NAMES = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "dpm++": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler", "unipc": "UniPCMultistepScheduler", "pndm": "PNDMScheduler",
    "lms": "LMSDiscreteScheduler", "heun": "HeunDiscreteScheduler",
}  # fmt: skip


class Sampling(Setting):
    """How pictures are drawn"""

    num_inference_steps: Count = 30
    """Steps of the sampler. More is slower and, past about 30, hardly better."""
    guidance_scale: Guidance = 7.5
    """How strongly the prompt counts (classifier-free guidance); 1 is no guidance. FLUX.1 dev takes about 3.5 as an input."""
    scheduler: str = "DPMSolverMultistepScheduler"
    """Sampler: a diffusers scheduler's name, or ddim, ddpm, dpm++, euler, euler_a, unipc, pndm, lms, heun. Flows keep their own."""
    eta: Share = 0.0
    """Noise put back at each step by DDIM: 0 is deterministic, 1 ancestral."""
    height: Pixels | None = None
    """Height of the pictures in pixels; left out, the model's own size (for a run: the size it was trained at)."""
    width: Pixels | None = None
    """Width of the pictures in pixels; left out, as height."""
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


def draw(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], *, sampling: Sampling, negative_prompt: str | None = None,
    batch_size: int = 4, precision: str = "no",
) -> Iterator[Picture]:  # fmt: skip
    """One picture per (prompt, seed), in order. A picture is a function of model, prompt, seed and sampling.

    Raises RunError when even one picture at a time does not fit into memory, SettingError for what this model cannot do.
    """
    done = 0
    family.refuse_precision(precision)
    scheduler = check(family, sampling, negative_prompt=negative_prompt)
    with using(family, scheduler):
        while done < len(prompts):
            some = slice(done, done + batch_size)
            drawn = _if_it_fits(family, prompts[some], seeds[some], sampling, negative_prompt, precision)
            if drawn is None:
                batch_size = len(prompts[some]) // 2
                free_memory(family.device)
                log.warning("Out of memory: drawing %d at a time from here on.", batch_size)
                continue
            for image, finite, prompt, seed in zip(*drawn, prompts[some], seeds[some], strict=True):
                yield Picture(image, prompt, seed, finite, _record(prompt, seed, negative_prompt, sampling, scheduler))
            done += len(drawn[0])


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
    if steps >= known - 1 and family.process.prediction != "flow" and not _reaches_the_end(scheduler, steps):
        reason = f"{type(scheduler).__name__} cannot take {steps} steps with this model."
        raise SettingError(sampling.source("num_inference_steps"), reason, fix="Lower it.")
    return scheduler


def _reaches_the_end(scheduler: Any, steps: int) -> bool:
    """Whether a sampler gets through so many steps: asked for nearly all of a model's times, some fail, and some divide by 0."""
    probe, x = copy.deepcopy(scheduler), torch.ones(1, 1, 1, 1)
    try:
        with torch.random.fork_rng(devices=[]):
            probe.set_timesteps(steps)
            for time in probe.timesteps:
                probe.scale_model_input(x, time)
                x = probe.step(torch.zeros_like(x), time, x).prev_sample
    except (IndexError, AssertionError, ValueError):
        return False
    return bool(x.isfinite().all())


def make_scheduler(family: Family, name: str, *, setting: str = "--scheduler") -> Any:
    """A sampler by name, with the base model's own noise schedule; a flow keeps the scheduler it was made with.

    PNDM goes without its Runge-Kutta steps, as Stable Diffusion's folders ask for: with few steps they fail. No sampler clips latents
    unless the base model's own does.
    """
    own = family.pipe.scheduler
    if family.process.prediction == "flow":
        return own
    name = SHORT_NAMES.get(name, name)
    fitting = {kind.__name__: kind for kind in (type(own), *own.compatibles)}
    if name not in fitting:
        others = ", ".join(sorted(fitting.keys() - SHORT_NAMES.values()))
        reason = f"this model has no sampler {name!r}; there are {', '.join(SHORT_NAMES)}, and diffusers' {others}."
        raise SettingError(setting, reason, fix=nearest(name, [*SHORT_NAMES, *fitting]))
    try:
        return fitting[name].from_config(own.config, **_latent(fitting[name], own))
    except (ImportError, ValueError, NotImplementedError) as error:
        raise SettingError(setting, f"{name} cannot be used here ({first_line(error)}).", fix="Choose another.") from None


def _latent(kind: type, own: Any) -> dict[str, Any]:
    """Options of a sampler where the base model's own does not say it: DDIM and DDPM clip pictures, and x_0 is no picture here."""
    known = inspect.signature(kind).parameters
    unsaid = {"clip_sample": False} if "clip_sample" in known and "clip_sample" not in own.config else {}
    return unsaid | ({"skip_prk_steps": True} if kind.__name__ == "PNDMScheduler" else {})


@contextmanager
def using(family: Family, scheduler: Any) -> Iterator[None]:
    """A block in which the pipeline draws with another sampler; its own is put back after."""
    own, family.pipe.scheduler = family.pipe.scheduler, scheduler
    try:
        yield
    finally:
        family.pipe.scheduler = own


def _if_it_fits(family: Family, prompts: Sequence[str], *rest: Any) -> tuple[list[Image.Image], list[bool]] | None:
    """A batch; None when memory ran out. Left by then, the error no longer holds what has to be freed."""
    try:
        return _batch(family, prompts, *rest)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(prompts) == 1:
            fix = "Draw smaller pictures (--height, --width, --resolution) or in --mixed_precision bf16."
            raise RunError(f"Out of memory while drawing one picture. {fix}") from error
        return None


def _batch(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, negative_prompt: str | None, precision: str
) -> tuple[list[Image.Image], list[bool]]:
    """Pictures of one call of the pipeline, and whether their numbers were finite."""
    out = call(family, prompts, seeds, sampling, negative_prompt, precision).cpu()
    finite = [bool(image.isfinite().all()) for image in out]
    levels = (out.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array) for array in levels], finite


@torch.no_grad()
def call(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, negative_prompt: str | None, precision: str
) -> torch.Tensor:
    """One call of the pipeline: pictures, float32 [b, 3, H, W], about 0 ... 1, still on the device."""
    height = sampling.height or family.native_resolution
    width = sampling.width or sampling.height or family.native_resolution
    own = {"eta": sampling.eta, "max_sequence_length": family.text_length(len(family.encoder_names))}
    options: dict[str, Any] = {name: value for name, value in own.items() if name in _options(family)}
    negative = negative_prompt or family.default_negative_prompt
    options |= family.pipeline_kwargs(sampling.guidance_scale, [negative] * len(prompts) if negative else None)
    with autocast(family.device, precision), _decoder(family, precision):
        return family.pipe(
            prompt=list(prompts), num_inference_steps=sampling.num_inference_steps, height=height, width=width, output_type="pt",
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], **options,
        ).images.float()  # fmt: skip


@contextmanager
def _decoder(family: Family, precision: str) -> Iterator[None]:
    """A block in which a VAE that says it overflows in fp16, as SDXL's, decodes in float32: its own weights are kept so."""
    vae = family.pipe.vae
    if precision != "fp16" or not getattr(vae.config, "force_upcast", False):
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
