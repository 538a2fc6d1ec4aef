"""Settings against each other: what contradicts itself is refused, what has no effect is reported."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.files.folders import expanded
from dreambooth.methods.words import WordMethod
from dreambooth.prompts.placeholder import holds_placeholder, refuse_unreadable
from dreambooth.schema import Flag, Setting, flags, get, is_set
from dreambooth.setup.config import FOLDERS, UNEVALUATED, TrainConfig, dump
from dreambooth.training.subjects import needs_identifier

WORDS = (
    ("photos", "class_noun"), ("photos", "identifier"), ("photos", "class_prompt"), ("photos", "instance_prompt"),
    ("validation", "validation_prompt"), ("validation", "validation_negative_prompt"),
)  # fmt: skip
"""Settings that a tokenizer will read."""
NEW = object()
"""In the place of a setting's value before, where there was none."""


def check(config: TrainConfig) -> None:
    """Refuse settings that contradict each other, before anything is loaded."""
    for branch, name in (*FOLDERS, ("output", "output_dir"), ("model", "cache_dir")):
        value = get(config, (branch, name))
        if value:
            expanded(value, f"--{name}")
    for path in WORDS:
        refuse_unreadable(get(config, path) or "", f"--{path[-1]}")
    for branch in _branches(config).values():
        branch.refuse_contradictions()
    for name, (reason, fix) in config.method.excludes().items():
        if get(config, flags(type(config))[name].path):
            raise SettingError(f"--{name}", reason, fix=fix)
    if config.text.train_text_encoder and config.output.skip_save_text_encoder and config.method.trains_whole_parts:
        reason = "what the text encoder learns would be lost."
        raise SettingError("--skip_save_text_encoder", reason, fix="Leave out this flag or --train_text_encoder.")
    _check_names(config)
    photos = config.photos
    if config.watching.evaluate_every and not photos.class_noun:
        raise SettingError("--evaluate_every", "the held-out prompts need to know what the subject is.", fix="Give --class_noun.")
    if photos.mask_dir and not config.objective.masked_loss:
        raise SettingError("--mask_dir", "masks have no use yet.", fix="Add --masked_loss, or leave it out.")


def _check_names(config: TrainConfig) -> None:
    """What the subject and its class are called, and what that is for."""
    photos, prior = config.photos, config.prior
    has_class = photos.class_noun or photos.class_prompt or photos.concepts_list or photos.concept == "style"
    if config.has_prior and not has_class:
        fix = "Give --class_noun (dog, backpack ...) or --class_prompt, or leave out --with_prior_preservation."
        raise SettingError("--with_prior_preservation", "there is no class to preserve.", fix=fix)
    no_prior = config.method.why_no_prior()
    if prior.with_prior_preservation and no_prior:
        raise SettingError("--with_prior_preservation", no_prior, fix="Leave it out.")


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


def unused_settings(config: TrainConfig, before: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
    """A sentence for each setting given by hand that has nothing to do in this run, for none is ignored in silence.

    To be asked before `resolve`: what a recipe says for most runs may be idle in this one. `before` are the settings of the run that it
    goes on from, if any: what was so then, in a run's own config.yaml, has not been given now.
    """
    unused: list[tuple[tuple[str, ...], str]] = []
    if config.photos.identifier_tokens > 1 and (config.photos.identifier or isinstance(config.method, WordMethod)):
        why = "the identifier is given" if config.photos.identifier else f"--method {config.method.kind} learns a word of its own"
        unused.append((("photos", "identifier_tokens"), f"--identifier_tokens has nothing to do: {why}."))
    if not config.has_prior:
        why = config.method.why_no_prior() or ""
        for path in (("photos", "class_prompt"), ("prior", "class_data_dir")):
            if get(config, path):
                unused.append((path, f"--{path[1]} has nothing to do without --with_prior_preservation. {why}".strip()))
    learns_text, tree = config.text.train_text_encoder or isinstance(config.method, WordMethod), flags(type(config))
    conditions = (  # what has something to do when, and why not otherwise
        (("text_encoder_lr",), learns_text, "no text encoder learns (--train_text_encoder)"),
        (("skip_save_text_encoder",), config.method.trains_whole_parts, "the result holds no pipeline"),
        (tuple(type(config.encoders).model_fields), config.watching.evaluate_every, UNEVALUATED),
        (("num_class_images", "prior_loss_weight"), config.has_prior, "there are no class images"),
        (("trust_code",), ":" in config.method.kind, "no file names code as its method"),
        (("revision",), not Path(config.model.pretrained_model_name_or_path).expanduser().is_dir(), "the base model is a folder here"),
    )
    idle = {tree[name].path: why for names, used, why in conditions if not used for name in names}
    idle |= {(branch, name): why for branch, setting in _branches(config).items() for name, why in setting.unused().items()}
    differing = [flag for flag in tree.values() if flag.path in idle and _differs(config, flag)]
    unused += [(flag.path, f"--{flag.name} has nothing to do: {idle[flag.path]}.") for flag in differing]
    now = dump(config)
    return [sentence for path, sentence in unused if at(now, path) != at(before, path, NEW)]


def _branches(config: TrainConfig) -> dict[str, Setting]:
    """The settings that the tree consists of, each of which knows its own rules."""
    return {name: value for name in type(config).model_fields if isinstance(value := getattr(config, name), Setting)}


def _differs(config: TrainConfig, flag: Flag) -> bool:
    """Whether a setting was given by hand as something else than its default."""
    return is_set(config, flag.path) and get(config, flag.path) != flag.default
