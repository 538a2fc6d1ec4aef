"""From a folder or Hub ids to a pipeline of diffusers': whole, of this family, each part in its precision; or a sentence why not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dreambooth.core.device import is_out_of_memory
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.families.complete import Part
from dreambooth.families.fitting import refuse_incomplete, refuse_unfit
from dreambooth.families.source import FLAG, UNUSED, ModelSource, parts_of
from dreambooth.files.digests import remembered_digest
from dreambooth.files.disk import failing
from dreambooth.files.places import readable_name

if TYPE_CHECKING:
    from dreambooth.families.base import Family


_shared: ContextVar[dict[str, Any] | None] = ContextVar("shared", default=None)
"""Tokenizers and text encoders by the bytes of their files and their precision, within `sharing_text`."""


@contextmanager
def sharing_text() -> Iterator[None]:
    """A block in which pipelines with the same text encoder, which none of them trains, are loaded with one between them."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _digest(folder: Path, dtype: torch.dtype) -> str:
    """Of a part's files, each read once and then known by size and time, and the precision that it is loaded in."""
    return " ".join([str(dtype), *(f"{path.name}:{remembered_digest(path)}" for path in sorted(folder.iterdir()) if path.is_file())])


def load_pipeline(
    family: "type[Family]",
    source: ModelSource,
    *,
    replaced: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> Any:
    """The pipeline in float32 (libraries disagree on the default), but for parts that `dtypes` names; `replaced` ones are used instead
    of its own. A part is never held in another precision on the way.

    Raises SettingError for a folder that cannot be loaded whole, or that holds something else than a text-to-image model of the family.
    """
    import diffusers
    from transformers import AutoTokenizer

    index, own = source.index(), dict(replaced or {})
    given = {"vae": source.pretrained_vae_name_or_path, "tokenizer": source.tokenizer_name}
    refuse_incomplete(family, source, own | {name: None for name, value in given.items() if value})
    safe = {"use_safetensors": None if source.allow_pickle else True}
    if source.pretrained_vae_name_or_path:
        family.refuse_vae()
        name, kind = source.pretrained_vae_name_or_path, getattr(diffusers, (index.get("vae") or [None, None])[1] or family.vae_classes[0])
        own["vae"] = _part(kind, name, source, flag="--pretrained_vae_name_or_path", folder="vae", dtype=torch.float32, **safe)
    of_processor = str(parts_of(index).get("tokenizer", (None, None))[1]).endswith("Processor")
    if source.tokenizer_name or (of_processor and "tokenizer" not in own):
        name, flag = (source.tokenizer_name, "--tokenizer_name") if source.tokenizer_name else (str(source.folder()), FLAG)
        own["tokenizer"] = _part(AutoTokenizer, name, source, flag=flag, folder="tokenizer", trust_remote_code=False)
    refuse_unfit(family, source, own)
    shared, digests = _shared.get(), {}
    if shared is not None and not family.text_trainable:
        digests = {
            name: _digest(source.folder() / name, (dtypes or {}).get(name, torch.float32))
            for name in family.text_parts()
            if name not in own
        }
        own |= {name: shared[digest] for name, digest in digests.items() if digest in shared}
    optional: dict[str, Any] = {name: None for name in UNUSED if name in index}
    if "safety_checker" in optional:
        optional["requires_safety_checker"] = False
    source.check(replaced=own)
    late = {"tokenizer": own.pop("tokenizer")} if of_processor else {}
    optional |= dict.fromkeys(late)  # diffusers would make the processor's class, which wants torchvision, to see whether it is one
    kind = getattr(diffusers, index["_class_name"])
    try:
        with readable_name(source.folder()) as folder, torch.random.fork_rng(devices=[]):  # some networks draw what is then replaced
            dtype = {"default": torch.float32, **(dtypes or {})}
            pipe = kind.from_pretrained(folder, variant=source.variant, local_files_only=True, dtype=dtype, **safe, **optional, **own)
    except Exception as error:  # of somebody's damaged files the libraries raise anything, plain Exception and RecursionError too
        if is_out_of_memory(error):
            raise RunError(f"Out of memory while loading {source.folder()}. A smaller model needs less.") from error
        where = f"{source.folder()} cannot be loaded: {first_line(error)}."
        fix = "The folder is damaged or half written; save it again."
        raise failing(error, source.folder()) or SettingError(FLAG, where, fix=fix) from error
    pipe.register_modules(**late)
    pipe.set_progress_bar_config(disable=True)
    if shared is not None:
        shared |= {digest: getattr(pipe, name) for name, digest in digests.items()}
    return pipe


def _part(kind: Any, name: str, source: ModelSource, *, flag: str, folder: str, **options: Any) -> Any:
    """A part from its own folder or Hub id; a folder of a whole pipeline, which has it in `folder`, will do, too."""
    nested = {"subfolder": folder} if (Path(name) / folder).is_dir() else {}
    if Path(name).is_dir():
        library = "transformers" if folder == "tokenizer" else "diffusers"
        Part(Path(name), folder, library, kind.__name__, flag, None, source.allow_pickle, alone=not nested).check()
    try:
        with readable_name(name) as place:
            return kind.from_pretrained(place, cache_dir=source.cache_dir, **nested, **options)
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise RunError(f"Out of memory while loading {name}.") from error
        wrong = SettingError(flag, f"{name} cannot be loaded ({first_line(error)}).", fix="Give a folder or a Hub id.")
        raise failing(error, Path(name)) or wrong from None
