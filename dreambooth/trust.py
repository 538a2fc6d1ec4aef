"""Whose files may decide what. A person's own command line may say anything; a base model or a run that somebody sent may not.

a base model's dreambooth.yaml    settings of learning and drawing, by name (`refuse_unteachable`)
a run's config.yaml               everything, but no code of its own and no pickles unless the command line says so, too
"""

from collections.abc import Iterable

from dreambooth.core.errors import SettingError
from dreambooth.schema import Flag

BRANCHES = ("method", "objective", "optimization", "text", "cropping")
"""Branches of the tree whose settings say how a model learns, and nothing else."""
SINGLE = {
    "max_train_steps", "num_train_epochs", "train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "mixed_precision",
    "use_ema", "ema_decay", "with_prior_preservation", "num_class_images", "sample_batch_size", "prior_generation_precision",
    "prior_scheduler", "prior_eta", "prior_inference_steps", "prior_guidance_scale", "identifier_tokens", "num_validation_images",
    "validation_negative_prompt", "validation_scheduler", "validation_inference_steps", "validation_guidance_scale",
}  # fmt: skip
"""Settings of other branches that a recipe may hold, too. None of them names a file, a network, a device or a program."""

_methods: set[str] = set()
"""Methods of other programs (`package.module:Class`) that this process's user has named."""


def refuse_unteachable(names: Iterable[str], known: dict[str, Flag], source: str) -> None:
    """Raise SettingError for the first name in a base model's recipe that is no setting, or none that a model may decide."""
    for name in names:
        if name not in known:
            raise SettingError(source, f"the base model's recipe names {name!r}, which is no setting.", fix="Mend the file.")
        path = known[name].path
        if name not in SINGLE and (path[0] not in BRANCHES or path[-1] == "kind"):
            fix = f"Delete the line, or give --{name} yourself."
            raise SettingError(source, f"the base model's recipe sets {name}, which is not for a model to decide.", fix=fix)


def trust_method(method: str | None) -> None:
    """Note a method that the user has named."""
    if method:
        _methods.add(method)


def refuse_untrusted(method: str) -> None:
    """Raise SettingError for code that a file names and nobody else: loading it would run it."""
    if method not in _methods:
        reason = f"the file names a method of another program, {method}, whose code would be run."
        raise SettingError("--method", reason, fix=f"If you trust it: --trust_code, or for a training --method {method}.")


def refuse_pickles_of(source: str, *, asked: bool, given: bool) -> None:
    """Raise SettingError where a file asks for pickles and the user has not."""
    if asked and not given:
        reason = f"{source} asks for weights saved as pickles, which can run any code."
        raise SettingError("--allow_pickle", reason, fix="Pass --allow_pickle yourself if you trust them.")
