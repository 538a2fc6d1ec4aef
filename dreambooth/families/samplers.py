"""diffusers' samplers by name, each with the noise schedule of the model that it draws with."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dreambooth.core.errors import SettingError, first_line
from dreambooth.families.base import Family
from dreambooth.schema import nearest

SHORT_NAMES = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "dpm++": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler", "unipc": "UniPCMultistepScheduler", "pndm": "PNDMScheduler",
    "lms": "LMSDiscreteScheduler", "heun": "HeunDiscreteScheduler", "dpm++_sde": "DPMSolverMultistepScheduler",
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"dpm++_sde": {"algorithm_type": "sde-dpmsolver++"}}
"""What a short name sets beside the kind: solving the stochastic equation is ancestral, as DDIM at eta 1 is, and of second order."""


def make_scheduler(family: Family, name: str, *, setting: str = "--scheduler") -> Any:
    """A sampler by name, with the base model's own noise schedule; a flow keeps the scheduler it was made with.

    PNDM goes without its Runge-Kutta steps, as Stable Diffusion's folders ask for: with few steps they fail. No sampler clips latents
    unless the base model's own does.
    """
    own = family.pipe.scheduler
    if family.process.prediction == "flow":
        return own
    options, name = OPTIONS.get(name, {}), SHORT_NAMES.get(name, name)
    fitting = {kind.__name__: kind for kind in (type(own), *own.compatibles)}
    if name not in fitting:
        others = ", ".join(sorted(fitting.keys() - SHORT_NAMES.values()))
        reason = f"this model has no sampler {name!r}; there are {', '.join(SHORT_NAMES)}, and diffusers' {others}."
        raise SettingError(setting, reason, fix=nearest(name, [*SHORT_NAMES, *fitting]))
    try:
        return family.adapt_sampler(fitting[name].from_config(own.config, **_latent(fitting[name], own), **options))
    except (ImportError, ValueError, NotImplementedError) as error:
        raise SettingError(setting, f"{name} cannot be used here ({first_line(error)}).", fix="Choose another.") from None


def _latent(kind: type, own: Any) -> dict[str, Any]:
    """Options of a sampler where the base model's own does not say it: DDIM and DDPM clip pictures, and x_0 is no picture here."""
    known = inspect.signature(kind).parameters
    unsaid = {"clip_sample": False} if "clip_sample" in known and "clip_sample" not in own.config else {}
    return unsaid | ({"skip_prk_steps": True} if kind.__name__ == "PNDMScheduler" else {})


@contextmanager
def sampler(family: Family, scheduler: Any) -> Iterator[None]:
    """A block in which the pipeline draws with another sampler; its own is put back after."""
    own, family.pipe.scheduler = family.pipe.scheduler, scheduler
    try:
        yield
    finally:
        family.pipe.scheduler = own


def reaches_the_end(scheduler: Any, steps: int) -> bool:
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
