"""Whose word counts. Models, runs and plans travel: what their files may decide stands here, and what only the user's own command does.

A base model's `dreambooth.yaml` may say how to learn, and nothing that names a file, a folder or a device, reaches the network, deletes,
opens pickles or runs code. A file of settings (`--config`, a bench plan) may say anything but a few deeds, which need their own flag.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from dreambooth.core.errors import SettingError, first_line
from dreambooth.core.trees import at
from dreambooth.schema import Flag

LEARNING: Mapping[str, frozenset[str] | None] = {
    "method": None, "objective": None, "optimization": None, "text": None, "cropping": None,
    "photos": frozenset({"identifier_tokens"}),
    "loop": frozenset({
        "max_train_steps", "num_train_epochs", "train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing",
        "mixed_precision", "use_ema", "ema_decay",
    }),
    "prior": frozenset({
        "with_prior_preservation", "num_class_images", "sample_batch_size", "prior_generation_precision", "prior_scheduler", "prior_eta",
        "prior_inference_steps", "prior_guidance_scale",
    }),
    "validation": frozenset({"validation_scheduler", "validation_inference_steps", "validation_guidance_scale"}),
}  # fmt: skip
"""Branches of the tree of settings, with the leaves that a base model may recommend; None for every leaf that is no free text."""
WORDS = frozenset({"lora_layers"})
"""Free text in those branches that names neither files nor code."""
DEEDS: Mapping[str, str] = {
    "allow_pickle": "opens files that can run any code", "trust_code": "runs code that a file names",
    "overwrite_output_dir": "deletes the checkpoints of an earlier run", "push_to_hub": "uploads the result",
    "hub_token": "would be a secret in a file",
}  # fmt: skip
"""What only the user's own command says, by flag, and why."""


def may_recommend(flag: Flag) -> bool:
    """Whether a base model may recommend a value for a setting."""
    branch, name = flag.path[0], flag.path[-1]
    if branch not in LEARNING or name == "kind":
        return False
    names = LEARNING[branch]
    return name in WORDS or not flag.type_name.startswith("text") if names is None else name in names


def refuse_unteachable(names: Iterable[str], known: Mapping[str, Flag], source: str) -> None:
    """Raise SettingError for the first name in a base model's recipe that is no setting, or none that a model may decide."""
    for name in names:
        if name not in known:
            raise SettingError(source, f"the base model's recipe names {name!r}, which is no setting.", fix="Mend the file.")
        if not may_recommend(known[name]):
            fix = f"Delete the line; if you want it, say so yourself: --{name}."
            raise SettingError(source, f"the base model's recipe sets {name}, which is not for a model to decide.", fix=fix)


def refuse_deeds(said: Mapping[str, Any], given: Mapping[str, Any], tree: Mapping[str, Flag], where: str) -> None:
    """Raise SettingError where a file's nested settings ask for a deed of which the user has not spoken in person (`given`, by flag)."""
    for name, why in DEEDS.items():
        if is_on(at(said, tree[name].path)) and given.get(name) is None:
            fix = "`hf auth login` keeps it safely." if name == "hub_token" else f"Add --{name} if you want that, or delete it there."
            raise SettingError(where, f"it sets {name}, which {why}; a file cannot say that for you.", fix=fix)


def is_on(value: Any) -> bool:
    """Whether a switch is on, as files and command lines write it; anything that is no plain "off" counts as on."""
    return value is not None and str(value).strip().lower() not in ("", "false", "no", "off", "0", "f", "n")


def own_class(reference: str, *, may_import: bool) -> Any:
    """What `package.module:Class` names. Without leave to import it has to be there already, imported by the user's own program.

    Raises SettingError where it is not, or cannot be imported.
    """
    module, _, name = reference.partition(":")
    if not may_import and module not in sys.modules:
        reason = f"a file names {reference}, code that would run on this machine; it is not imported."
        raise SettingError("--method", reason, fix="If you trust the file and that code, add --trust_code.")
    try:
        return getattr(import_module(module) if may_import else sys.modules[module], name)
    except Exception as error:  # somebody's module may raise anything
        fix = "Name an importable package.module:Class."
        raise SettingError("--method", f"{reference} cannot be imported ({type(error).__name__}: {first_line(error)}).", fix=fix) from None


def untrusted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A run's nested settings without its deeds: what somebody has allowed their own run counts for nothing on another machine."""
    return {branch: dict(_without_deeds(values)) if isinstance(values, Mapping) else values for branch, values in _without_deeds(tree)}


def _without_deeds(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in values.items() if name not in DEEDS)
