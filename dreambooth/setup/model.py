"""A loaded family made ready: its parts in the precisions that training and drawing need, the method attached."""

import logging
from typing import Any

import torch

from dreambooth.core.device import DTYPES, free_memory
from dreambooth.core.draws import key
from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource, family_of, fingerprint
from dreambooth.families import sampling as sample
from dreambooth.families.cascade import Stage
from dreambooth.families.source import replaced
from dreambooth.families.superresolution import SuperResolution
from dreambooth.methods import Learner, Method
from dreambooth.setup.config import Text, TrainConfig, recipe_named


def how_drawn(config: TrainConfig) -> dict[str, Any]:
    """All that decides beside model, prompt and sampler what class images look like, none left out for being a default; but not what
    decides roundings alone: the device, and how many are drawn at a time."""
    arithmetic = str(DTYPES[_prior_precision(config)]).removeprefix("torch.")
    if arithmetic == "float32" and config.loop.allow_tf32:
        arithmetic = "tfloat32"
    before = {"stages": [fingerprint(stage.folder()) for stage in prior_stages(config)]} if config.prior.prior_stages else {}
    return {"precision": arithmetic, **pipeline_of(config), **before}


def prior_stages(config: TrainConfig) -> list[ModelSource]:
    """The untuned stages of a cascade before this one."""
    return [ModelSource(pretrained_model_name_or_path=name, cache_dir=config.model.cache_dir) for name in config.prior.prior_stages]


def load_stages(config: TrainConfig, device: torch.device) -> Stage | None:
    """What draws the small pictures of class images."""
    before, sampling = None, config.prior.sampling(1).model_copy(update={"height": None, "width": None})
    for source in prior_stages(config):
        family = family_of(source).load(source)
        round_weights(family, _prior_precision(config) or "no")
        family.to(device)
        before = Stage(family, sampling, before, source.pretrained_model_name_or_path, _prior_precision(config))
    return before


def pipeline_of(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration decides how the untuned model reads and decodes, beside its own folder; None or False where that does."""
    return {**config.text.reading, "variant": config.model.variant, "vae": None, "tokenizer": None, **replaced(config.model)}


def _prior_precision(config: TrainConfig) -> str:
    return config.prior.prior_generation_precision or config.loop.mixed_precision


def stored_precision(config: TrainConfig) -> str:
    """In which precision the weights lie that class images are drawn with: `lighten` may have rounded them for the training."""
    own = config.loop.mixed_precision
    is_rounded = DTYPES[_prior_precision(config)] == DTYPES[own] and not config.method.trains_whole_parts
    return str(DTYPES[own if is_rounded else "no"]).removeprefix("torch.")


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


def offload_idle_parts(config: TrainConfig, family: Family) -> None:
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


def configure_tokenizers(family: Family, text: Text) -> None:
    """Prompts as long as the run wants them, with or without a look at padding: in training, in pictures and in what is saved."""
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
    check_resolution(resolution, step=family.pixel_step)
    config.objective.check(family.process)
    trained_levels(config, family)
    sample.check(family, config.validation.sampling(resolution), negative_prompt=config.validation.validation_negative_prompt)
    if config.has_prior:
        sample.check(family, config.prior.sampling(resolution))


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
