"""Models out of transformers' folders: whole, in float32, or not at all."""

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.device import is_out_of_memory
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.files.disk import failing
from dreambooth.files.places import readable_name

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""How a model is named on the Hub: owner/name; a few old ones have no owner."""


def refuse_missing_folder(name: str, flag: str, *, needs_owner: bool = False, short_names: Collection[str] = ()) -> None:
    """Raise SettingError for the name of a model that is nothing on this disk and can be nothing on the Hub: it was meant as a folder, or
    as one of the `short_names`."""
    if not is_nothing(name, needs_owner=needs_owner):
        return
    listed = ", or a name that `dreambooth models` lists" if short_names else ""
    near = difflib.get_close_matches(name.casefold(), short_names, n=1)
    fix = nearest_folder(Path(name)) or (f"Did you mean {near[0]}?" if near else f"Give a folder, a Hub id (owner/name){listed}.")
    is_model = bool(short_names) and Path(name).name == name and not name.startswith((".", "~"))
    raise SettingError(flag, f"there is no model {name} here." if is_model else f"there is no folder {name}.", fix=fix)


def is_nothing(name: str, *, needs_owner: bool = False) -> bool:
    """Whether the name of a model is nothing on this disk, and can be nothing on the Hub, where with `needs_owner` a name has an owner."""
    try:
        is_there = Path(name).expanduser().exists()
    except (OSError, RuntimeError):  # a name that no disk takes, a user whom nobody knows
        is_there = False
    return not is_there and not (HUB_ID.fullmatch(name) and ("/" in name or not needs_owner))


def nearest_folder(path: Path) -> str:
    """Which folder beside it may have been meant, as a question; nothing where none is near."""
    try:
        path = path.expanduser()
        names = [found.name for found in path.parent.iterdir() if found.is_dir()]
    except (OSError, RuntimeError):
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else ""


def from_pretrained(
    kind: Any, where: str, flag: str, *, has_weights: bool = True, otherwise: str | None = None, brought_by: str = "", **options: Any
) -> Any:
    """A part from a folder or Hub id; raises SettingError saying how to have it without a network, or that weights are missing.

    `otherwise` is what the user can do instead; for an encoder, to leave it out. `brought_by` is a command of ours that fetches it.
    transformers fills weights that a folder lacks with random numbers and goes on; scores of such an encoder look quite ordinary.
    """
    import transformers

    refuse_missing_folder(where, flag)
    transformers.logging.disable_progress_bar()
    place = str(Path(where).expanduser())
    if kind.__name__.startswith("Auto"):
        options["trust_remote_code"] = False  # left out, the library asks on the terminal whether to run a model's own code
    try:
        with readable_name(place) as name:
            if not has_weights:
                return kind.from_pretrained(name, **options)
            model, info = kind.from_pretrained(name, dtype=torch.float32, output_loading_info=True, **options)
    except ImportError as error:
        raise SettingError(flag, f"{where} needs another package ({_needed(error)}).", fix="Install it, or take another model.") from None
    except Exception as error:  # of damaged files the libraries raise anything, plain Exception and RecursionError too
        if problem := failing(error, Path(place)):
            raise problem from error
        if is_out_of_memory(error):
            raise RunError(f"Out of memory while loading {where}.") from error
        if Path(place).is_dir() or _cached(place):
            raise SettingError(flag, f"{where} cannot be loaded ({first_line(error)}).", fix="Give a folder of its kind.") from None
        reason = f"{where} is neither a folder here nor in the cache, and the Hub cannot be reached."
        instead = otherwise or f"{flag} none"
        fetched = f"Connect once and run: {brought_by}. Or pass" if brought_by else (
            f"Fetch it where there is a network (hf download {where} --local-dir FOLDER) and pass"
        )  # fmt: skip
        fix = f"{fetched} {flag} FOLDER, or {instead}."
        raise SettingError(flag, reason, fix=fix) from None
    missing = sorted(info["missing_keys"])
    if missing:
        reason = f"{where} lacks {len(missing)} weights of a {kind.__name__} ({missing[0]} ...)."
        raise SettingError(flag, reason, fix="Give a folder of its kind.")
    return model


def check_tokenizer(tokenizer: Any, where: str, flag: str) -> None:
    """Raise SettingError for a tokenizer without a vocabulary, which transformers makes of a folder that lacks one: it reads all alike."""
    try:
        one, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a dog on the beach", "two cats in snow"))
    except Exception as error:  # the library's own kind is plain Exception
        raise SettingError(flag, f"{where} reads nothing ({first_line(error)}).", fix="Save or download it again.") from None
    if one == other or len(set(one)) < 2:
        raise SettingError(flag, f"{where} has no vocabulary: it reads every prompt alike.", fix="Save or download it again.")


def _needed(error: ImportError) -> str:
    """The package's name where the message tells it: transformers' own sentences are long."""
    words = str(error).split()
    return next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "install"), first_line(error)).strip("`.,")


def _cached(name: str) -> bool:
    """Whether a Hub id's configuration lies in the cache: then it is something else that is wrong."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False
