"""A model of the Hub: its terms said, its files or its configurations alone fetched into the cache; or a sentence why they are not."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.core.errors import SettingError
from dreambooth.families.complete import WEIGHTS
from dreambooth.families.names import known_model
from dreambooth.files.disk import failing, in_words
from dreambooth.files.pretrained import nearest_folder

if TYPE_CHECKING:
    from dreambooth.families.source import ModelSource

log = logging.getLogger(__name__)

FLAG, RECIPE = "--pretrained_model_name_or_path", "dreambooth.yaml"
CHECKER = ("safety_checker", "feature_extractor")
UNUSED = (*CHECKER, "image_encoder", "watermarker")
"""Parts of a pipeline that neither training nor drawing needs; they are not loaded. The checker's files go into results (`safety`)."""
CONFIGURATIONS = ("model_index.json", RECIPE, "*/config.json", "*/scheduler_config.json", "*/tokenizer_config.json")
"""The files of a pipeline that say what its networks are."""


@cache
def downloaded(source: "ModelSource") -> Path:
    """A Hub model's folder in the cache, asked for once; raises SettingError saying why it is not to be had."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    name = source.pretrained_model_name_or_path
    _say_terms(source)  # type: ignore[arg-type]
    with _explained(source):
        path = DiffusionPipeline.download(
            name, revision=source.revision, variant=source.variant, cache_dir=source.cache_dir,
            use_safetensors=None if source.allow_pickle else True, **dict.fromkeys(UNUSED),
        )  # fmt: skip
    return Path(path)


@cache
def _say_terms(source: "ModelSource") -> None:
    """What a known model's makers ask, once, before anything of it is downloaded."""
    known = known_model(source.pretrained_model_name_or_path)
    if known and not _has_weights(source):
        log.warning("%s", known.terms())


def _has_weights(source: "ModelSource") -> bool:
    """Whether a Hub model's weights are in the cache; the plan leaves its configurations there without them."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(
        source.pretrained_model_name_or_path, "model_index.json", cache_dir=source.cache_dir, revision=source.revision
    )
    return isinstance(index, str) and any(path.suffix in WEIGHTS for path in Path(index).parent.rglob("*"))


@cache
def downloaded_configurations(source: "ModelSource") -> Path:
    """What a Hub model's parts are, without their weights, in the cache."""
    from huggingface_hub import snapshot_download

    _say_terms(source)  # type: ignore[arg-type]
    with _explained(source):
        path = snapshot_download(
            source.pretrained_model_name_or_path, revision=source.revision, cache_dir=source.cache_dir, allow_patterns=list(CONFIGURATIONS)
        )
    return Path(path)


@cache
def downloaded_checker(source: "ModelSource") -> Path:
    """The folder of a Hub model in the cache, with its safety checker's files: safetensors, or a pickle where there are none."""
    from huggingface_hub import snapshot_download

    network, pictures = CHECKER
    variants = dict.fromkeys((f".{source.variant}" if source.variant else "", ""))
    names = [*(f"model{one}.safetensors" for one in variants), *(f"pytorch_model{one}.bin" for one in variants)]
    path = Path()
    for name in names:
        wanted = [f"{network}/config.json", f"{network}/{name}", f"{pictures}/*.json"]
        with _explained(source):
            path = Path(snapshot_download(
                source.pretrained_model_name_or_path, revision=source.revision, cache_dir=source.cache_dir, allow_patterns=wanted
            ))  # fmt: skip
        if (path / network / name).is_file():
            break
    return path


@contextmanager
def _explained(source: "ModelSource") -> Iterator[None]:
    """A block that asks the Hub; raises SettingError saying why a model is not to be had."""
    from huggingface_hub import constants, errors

    name = source.pretrained_model_name_or_path
    try:
        yield
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        cache = Path(source.cache_dir or constants.HF_HUB_CACHE)
        denied = next((cause for cause in _causes(error) if isinstance(cause, PermissionError)), None)
        problem = failing(error, cache) or (in_words(denied, cache) if denied else None)
        if problem:
            raise SettingError(
                "--cache_dir", str(problem), fix="Models are kept there; another place for them is --cache_dir or HF_HOME."
            ) from None
        for cause in _causes(error):  # diffusers wraps most of them in an OSError of its own
            if isinstance(cause, errors.GatedRepoError):
                fix = f"Accept its licence at https://huggingface.co/{name}, then `hf auth login`."
                raise SettingError(FLAG, f"{name} is gated.", fix=fix) from None
            if isinstance(cause, errors.RepositoryNotFoundError):
                fix = nearest_folder(Path(name)) or "Check the name; for a private model `hf auth login` first."
                raise SettingError(FLAG, f"the Hub knows no model {name}.", fix=fix) from None
            if isinstance(cause, errors.RevisionNotFoundError):
                raise SettingError("--revision", f"{name} has no revision {source.revision!r}.") from None
            if isinstance(cause, errors.LocalEntryNotFoundError):
                break  # nobody could be asked
            if isinstance(cause, errors.EntryNotFoundError):
                fix = "Name a base model here; if this is a LoRA, draw with `dreambooth generate BASE --lora NAME`."
                raise SettingError(FLAG, f"{name} has no model_index.json, so it is no diffusers pipeline.", fix=fix) from None
        if "safetensors" in str(error):
            fix = "Pass --allow_pickle if you trust it."
            raise SettingError(FLAG, f"{name} has no safetensors weights.", fix=fix) from None
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        reason = f"{name} is neither a folder here nor in the cache, and the Hub cannot be reached{offline}."
        fix = nearest_folder(Path(name)) or "Connect, or give the path of a pipeline folder."
        raise SettingError(FLAG, reason, fix=fix) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
