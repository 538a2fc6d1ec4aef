"""Settings against each other: what contradicts itself is refused, what has no effect is reported."""

from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.files.folders import expanded
from dreambooth.methods.base import refuse_text_encoder
from dreambooth.methods.words import WordMethod
from dreambooth.prompts.placeholder import PLACEHOLDER, holds_placeholder, refuse_unreadable
from dreambooth.schema import Flag, flags, get, is_set
from dreambooth.setup.config import FOLDERS, TrainConfig
from dreambooth.training.subjects import needs_identifier

WORDS = (
    ("photos", "class_noun"), ("photos", "identifier"), ("photos", "class_prompt"), ("photos", "instance_prompt"),
    ("validation", "validation_prompt"), ("validation", "validation_negative_prompt"),
)  # fmt: skip
"""Settings that a tokenizer will read."""


def check(config: TrainConfig) -> None:
    """Refuse settings that contradict each other, before anything is loaded."""
    for branch, name in (*FOLDERS, ("output", "output_dir"), ("model", "cache_dir")):
        value = get(config, (branch, name))
        if value:
            expanded(value, f"--{name}")
    for path in WORDS:
        refuse_unreadable(get(config, path) or "", f"--{path[-1]}")
    if config.text.train_text_encoder and config.text.pre_compute_text_embeddings:
        reason = "the text encoder cannot be trained with embeddings that were computed before."
        raise SettingError("--pre_compute_text_embeddings", reason, fix="Leave out this flag or --train_text_encoder.")
    if config.text.train_text_encoder and config.output.skip_save_text_encoder and config.method.trains_whole_parts:
        reason = "what the text encoder learns would be lost."
        raise SettingError("--skip_save_text_encoder", reason, fix="Leave out this flag or --train_text_encoder.")
    if isinstance(config.method, WordMethod):
        refuse_text_encoder(f"--method {config.method.kind}", asked=config.text.train_text_encoder)
    _check_names(config)
    photos = config.photos
    if config.watching.evaluate_every and not photos.class_noun:
        raise SettingError("--evaluate_every", "the held-out prompts need to know what the subject is.", fix="Give --class_noun.")
    if photos.mask_dir and not config.objective.masked_loss:
        raise SettingError("--mask_dir", "masks have no use yet.", fix="Add --masked_loss, or leave it out.")
    if config.output.output_kohya_format and config.method.kind != "lora":
        raise SettingError("--output_kohya_format", "kohya's layout is for LoRA files.", fix="Add --method lora, or leave it out.")
    if config.output.output_kohya_format and getattr(config.method, "use_dora", False):
        raise SettingError("--output_kohya_format", "DoRA has no place in kohya's layout.", fix="Leave out one of the two.")
    _ = config.optimization.chosen
    if config.watching.keep_best and not config.watching.evaluate_every:
        reason = "no checkpoint is evaluated, so none is known to be the best."
        raise SettingError("--keep_best", reason, fix="Add --evaluate_every 100, or leave it out.")
    if config.output.hub_token and not config.output.push_to_hub:
        raise SettingError("--hub_token", "nothing is uploaded.", fix="Add --push_to_hub, or leave it out.")


def _check_names(config: TrainConfig) -> None:
    """What the subject and its class are called, and what that is for."""
    photos, prior = config.photos, config.prior
    has_class = photos.class_noun or photos.class_prompt or photos.concepts_list or photos.concept == "style"
    if config.has_prior and not has_class:
        fix = "Give --class_noun (dog, backpack ...) or --class_prompt, or leave out --with_prior_preservation."
        raise SettingError("--with_prior_preservation", "there is no class to preserve.", fix=fix)
    if prior.class_data_dir and prior.with_prior_preservation is False:
        raise SettingError("--class_data_dir", "prior preservation is off, so class images have no use.", fix="Leave out one of the two.")
    no_prior = config.method.why_no_prior()
    if prior.with_prior_preservation and no_prior:
        raise SettingError("--with_prior_preservation", no_prior, fix="Leave it out.")
    if photos.concepts_list and isinstance(config.method, WordMethod):
        reason = f"--method {config.method.kind} learns one word, for one subject."
        raise SettingError("--concepts_list", reason, fix="Train each subject in a run of its own.")
    if photos.concepts_list and photos.instance_data_dir:
        raise SettingError("--concepts_list", "it names the photos itself.", fix="Leave out --instance_data_dir.")
    if photos.identifier is not None and not photos.identifier.strip():
        raise SettingError("--identifier", "it is blank.", fix="Give a word, or leave it out: one is picked.")
    if PLACEHOLDER in (photos.identifier or ""):
        raise SettingError("--identifier", f"{PLACEHOLDER} is what stands for it in prompts.", fix="Give the word itself.")


def refuse_unnamed(config: TrainConfig) -> None:
    """Raise SettingError where pictures would be asked for a [V] that no photo is called."""
    if config.photos.identifier or needs_identifier(config.photos):
        return
    for name in ("validation_prompt", "validation_negative_prompt"):
        if holds_placeholder(getattr(config.validation, name)):
            fix = "Write the prompt as --instance_prompt calls the subject, or add --identifier."
            raise SettingError(f"--{name}", "--instance_prompt has no [V], so nothing stands for it.", fix=fix)
    if config.watching.evaluate_every:
        reason = "the held-out prompts need to know which word is the subject's; --instance_prompt has no [V]."
        raise SettingError("--evaluate_every", reason, fix="Add --identifier (sks ...), or leave out --instance_prompt.")


def unused_settings(config: TrainConfig) -> list[str]:
    """A sentence for each setting given by hand that has nothing to do in this run, for none is ignored in silence.

    To be asked before `resolve`: what a recipe says for most runs may be idle in this one.
    """
    unused = []
    if config.photos.identifier_tokens > 1 and (config.photos.identifier or isinstance(config.method, WordMethod)):
        why = "the identifier is given" if config.photos.identifier else f"--method {config.method.kind} learns a word of its own"
        unused.append(f"--identifier_tokens has nothing to do: {why}.")
    if not config.has_prior:
        given = [("class_prompt", config.photos.class_prompt), ("class_data_dir", config.prior.class_data_dir)]
        why = config.method.why_no_prior() or ""
        unused += [f"--{name} has nothing to do without --with_prior_preservation. {why}".strip() for name, value in given if value]
    learns_text = config.text.train_text_encoder or isinstance(config.method, WordMethod)
    evaluates, tree = config.watching.evaluate_every, flags(type(config))
    conditions = (  # what has something to do when, and why not otherwise
        (("text_encoder_lr",), learns_text, "no text encoder learns (--train_text_encoder)"),
        (("ema_decay",), config.loop.use_ema, "no average is kept (--use_ema)"),
        (("skip_save_text_encoder",), config.method.trains_whole_parts, "the result holds no pipeline"),
        (
            ("stop_early", "evaluation_share", *type(config.encoders).model_fields),
            evaluates,
            "nothing is evaluated (--evaluate_every)",
        ),
        (("num_class_images", "prior_loss_weight"), config.has_prior, "there are no class images"),
        (("hub_model_id", "hub_private"), config.output.push_to_hub, "nothing is uploaded (--push_to_hub)"),
        (("instance_prompt",), not config.photos.concepts_list, "--concepts_list has the prompts"),
        (("logit_mean", "logit_std"), config.objective.weighting_scheme == "logit_normal", "times are not drawn so (--weighting_scheme)"),
        *(((name,), False, f"the optimizer is another (--optimizer {kind})") for name, kind in config.optimization.of_another().items()),
        (("trust_code",), ":" in config.method.kind, "no file names code as its method"),
        (("revision",), not Path(config.model.pretrained_model_name_or_path).expanduser().is_dir(), "the base model is a folder here"),
    )
    given = [(name, why) for names, used, why in conditions if not used for name in names if _differs(config, tree[name])]
    return unused + [f"--{name} has nothing to do: {why}." for name, why in given]


def _differs(config: TrainConfig, flag: Flag) -> bool:
    """Whether a setting was given by hand as something else than its default."""
    return is_set(config, flag.path) and get(config, flag.path) != flag.default
