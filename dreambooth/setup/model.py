"""A loaded family made ready: its parts in the precisions that training and drawing need, the method attached."""

import logging
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.device import DTYPES, free_memory
from dreambooth.core.draws import key
from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule
from dreambooth.core.wording import size
from dreambooth.families import Family, ModelSource, family_of, fingerprint
from dreambooth.families import sampling as sample
from dreambooth.families.cascade import Stage
from dreambooth.families.flow import Flow
from dreambooth.families.source import replaced, unread_bytes
from dreambooth.families.superresolution import SuperResolution
from dreambooth.methods import Learner
from dreambooth.setup.attention import use_attention
from dreambooth.setup.base_weights import store
from dreambooth.setup.config import Text, TrainConfig, recipe_named
from dreambooth.setup.fused import refuse_fused
from dreambooth.training.records import LONG, Waiting


def how_drawn(config: TrainConfig) -> dict[str, Any]:
    """All that decides beside model, prompt and sampler what class images look like, none left out for being a default; but not what
    decides roundings alone: the device, and how many are drawn at a time."""
    arithmetic = str(DTYPES[prior_precision(config)]).removeprefix("torch.")
    if arithmetic == "float32" and config.loop.allow_tf32:
        arithmetic = "tfloat32"
    before = {"stages": [fingerprint(stage.folder()) for stage in prior_stages(config)]} if config.prior.prior_stages else {}
    return {"precision": arithmetic, **pipeline_of(config), **before}


def fingerprinted(folder: Path, *, again: bool = False) -> Generator[Waiting, None, str]:
    """`fingerprint`, with a word before it where that has to read much."""
    if (unread := unread_bytes(folder, again=again)) >= LONG:
        yield Waiting(f"Reading the base model's weights {'again' if again else 'once'} ({size(unread)}) ...")
    return fingerprint(folder, again=again)


def prior_stages(config: TrainConfig) -> list[ModelSource]:
    """The untuned stages of a cascade before this one."""
    return [ModelSource(pretrained_model_name_or_path=name, cache_dir=config.model.cache_dir) for name in config.prior.prior_stages]


def load_stages(config: TrainConfig, device: torch.device) -> Stage | None:
    """What draws the small pictures of class images."""
    before, sampling = None, config.prior.sampling(1).model_copy(update={"height": None, "width": None})
    for source in prior_stages(config):
        family = load_in(prior_precision(config), source)
        family.to(device)
        before = Stage(family, sampling, before, source.pretrained_model_name_or_path, prior_precision(config))
    return before


def pipeline_of(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration decides how the untuned model reads and decodes, beside its own folder; None or False where that does."""
    return {**config.text.reading, "variant": config.model.variant, "vae": None, "tokenizer": None, **replaced(config.model)}


def prior_precision(config: TrainConfig) -> str:
    return config.prior.prior_generation_precision or config.loop.mixed_precision


def stored_precision(config: TrainConfig) -> str:
    """In which precision the weights lie that class images are drawn with: `lighten` may have rounded them for the training."""
    own = config.loop.mixed_precision
    is_rounded = DTYPES[prior_precision(config)] == DTYPES[own] and not config.method.trains_whole_parts
    kept = f"{config.loop.base_weights}, " if is_rounded and config.loop.base_weights else ""
    return kept + str(DTYPES[own if is_rounded else "no"]).removeprefix("torch.")


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
    use_attention(family, config.execution.attention_backend)
    return learner


Load = Callable[[ModelSource, Mapping[str, torch.dtype]], Family]
"""How a family is loaded, in float32 but for parts of a named precision."""


def load_weights(source: ModelSource, dtypes: Mapping[str, torch.dtype]) -> Family:
    """A family with its weights."""
    return family_of(source).load(source, dtypes=dtypes)


def load_base(config: TrainConfig, precision: str | None = None, *, load: Load = load_weights) -> Family:
    """A run's base model, each part in the precision it will be trained with (`precision`, or the run's own), from its first moment on.

    Frozen networks lie in half precision, as they are computed with anyway, when only something small in or beside them learns. All is
    float32 when whole parts learn, for the output is saved from it. Weights that learn in place stay unrounded: what an update adds to
    them is smaller than what half precision tells apart. --base_weights rounds frozen ones further.
    """
    method, precision, kept = config.method, precision or config.loop.mixed_precision, config.loop.base_weights
    if method.trains_whole_parts:
        return load_in("no", config.model, load=load)
    denoiser = family_of(config.model).denoiser_name
    family = load_in(precision, config.model, unrounded=[denoiser] if method.learned_in_place else [], load=load)
    if method.learned_in_place:
        _round(family.denoiser, DTYPES[precision], but=method.learned_in_place)
    if kept:
        for name in (family.denoiser_name, *family.encoder_names):
            store(family.parts[name], kept, learned=method.learned_in_place)
    return family


def load_in(precision: str, source: ModelSource, *, unrounded: Collection[str] = (), load: Load = load_weights) -> Family:
    """A model whose denoiser and text encoders lie in `precision`, but for `unrounded` ones and for the VAE (SDXL's overflows in half)."""
    kind = family_of(source)
    names = {kind.denoiser_name, *kind.encoder_names}.difference(unrounded)
    return load(source, dict.fromkeys(names, DTYPES[precision]))


def _round(part: Any, dtype: torch.dtype, *, but: tuple[str, ...]) -> None:
    """Weights in a precision, apart from those whose names end on one of `but`."""
    kept = [(p, p.data) for name, p in part.named_parameters() if name.endswith(but)]
    part.to(dtype)
    for parameter, value in kept:
        parameter.data = value


def vae_names(family: Family) -> list[str]:
    """The parts that read pictures: neither the denoiser nor a text encoder."""
    return [name for name in family.parts if name not in (family.denoiser_name, *family.encoder_names)]


def place_for_encoding(family: Family, device: torch.device, parts: Collection[str]) -> None:
    """What reads pictures, or prompts, on the device, and all else elsewhere: they need not fit there together."""
    if device.type != "cpu":
        family.to(torch.device("cpu"), parts=[name for name in family.parts if name not in parts])
        free_memory(device)
    family.to(device, parts=parts)


def place_for_training(config: TrainConfig, family: Family, device: torch.device) -> None:
    """What an update asks on the device. Parts that have done their work leave it, for the CPU while pictures are still to be drawn, and
    for good where none are and nothing is saved of them."""
    idle = idle_parts(config, family)
    if not keeps_idle_parts(config):
        family.free(idle)
    elif device.type != "cpu":
        family.to(torch.device("cpu"), parts=idle)
    free_memory(device)
    family.to(device, parts=[name for name in family.parts if name not in idle])


def draws_pictures(config: TrainConfig) -> bool:
    """Whether a run shows pictures of the model while it trains or at its end."""
    validation = config.validation
    return bool(validation.validation_prompt or config.watching.evaluate_every) or not validation.skip_final_inference


def keeps_idle_parts(config: TrainConfig) -> bool:
    """Whether parts that no update asks stay in memory, to draw with or to be saved; without them nothing is drawn any more."""
    return draws_pictures(config) or config.method.trains_whole_parts


def idle_parts(config: TrainConfig, family: Family) -> list[str]:
    """Parts that no update asks. While one text encoder learns the others read, too, but for those that read alone (`text_table`)."""
    learn = learning_parts(config, family)
    busy = {family.denoiser_name, *learn, *(() if config.cropping.cache_latents else ("vae",))}
    if not busy.isdisjoint(family.encoder_names):
        busy |= set(family.encoder_names) - set(family.reads_alone)
    return [name for name in family.parts if name not in busy]


def configure_tokenizers(family: Family, text: Text) -> None:
    """Prompts as long as the run wants them, with or without attention to padding: in training, in pictures and in what is saved."""
    family.configure_tokenizers(max_length=text.tokenizer_max_length, use_attention_mask=text.text_encoder_use_attention_mask)


def trained_levels(config: TrainConfig, family: Family) -> tuple[int, int] | None:
    """The lowest and highest level of noise on the small picture that a later stage of a cascade trains at; None for others."""
    if not isinstance(family, SuperResolution) or config.objective.class_labels_conditioning:
        return None
    return family.levels(config.objective.noise_augmentation)


def configure_conditioning(config: TrainConfig, family: Family) -> None:
    """Have a later stage of a cascade train, and draw from then on, at the levels that the settings say."""
    if isinstance(family, SuperResolution):
        family.noise_levels = trained_levels(config, family)


def check_fit(config: TrainConfig, family: Family) -> None:
    """See that the model can be trained and drawn as asked: the size of the pictures, the samplers, the objective."""
    with recipe_named(config):
        _check_fit(config, family)


def _check_fit(config: TrainConfig, family: Family) -> None:
    resolution = config.cropping.resolution
    assert resolution
    refuse_fused(config)
    check_resolution(resolution, step=family.pixel_step)
    config.objective.check(training_schedule(config, family))
    trained_levels(config, family)
    sample.check(family, config.validation.sampling(resolution), negative_prompt=config.validation.validation_negative_prompt)
    if config.has_prior:
        sample.check(family, config.prior.sampling(resolution))


def training_schedule(config: TrainConfig, family: Family) -> NoiseSchedule:
    """The noise of each time that is trained: the model's own, or a flow's with another shift."""
    shift = flow_shift(config, family)
    return family.process.shifted(shift) if shift else family.process


def flow_shift(config: TrainConfig, family: Family) -> float | None:
    """By how much --flow_shift shifts a flow's times; None where the model's own schedule is trained."""
    shift, resolution = config.objective.flow_shift, config.cropping.resolution
    if not isinstance(family, Flow):
        return None
    if shift == "dynamic":
        family.refuse_dynamic_shift(family.pipe.scheduler.config)
        assert resolution
        return family.dynamic_shift(resolution, resolution)
    return shift


def check_resolution(resolution: int, *, step: int) -> None:
    """Raise SettingError for a side in pixels that is no multiple of the model's `step`."""
    if resolution % step:
        reason = f"{resolution} does not fit this model, whose pictures come in steps of {step}."
        raise SettingError("--resolution", reason, fix=f"Use {max(step, round(resolution / step) * step)}.")


def silence_libraries() -> None:
    """Libraries' own progress bars and notices are silent; what matters comes as records."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
