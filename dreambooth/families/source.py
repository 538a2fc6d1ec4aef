"""Where a base model comes from: a local pipeline folder, a Hub id, or the embedded toybox; and what can be wrong with it."""

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import field_validator
from safetensors import SafetensorError

from dreambooth.core.errors import SettingError
from dreambooth.families.complete import WEIGHTS, Part, refuse_links
from dreambooth.families.downloading import FLAG, RECIPE, UNUSED, downloaded, downloaded_configurations
from dreambooth.families.names import hub_id, known_models, say_what_is_taken
from dreambooth.families.single_file import converted, refuse_single_file
from dreambooth.files.digests import file_digest, is_remembered, remembered_digest, tree_digest
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.files.reading import Damaged, needed_json, read_json
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.formats.loras import read_lora
from dreambooth.schema import BASIC, Setting

log = logging.getLogger(__name__)

UNREADABLE = (OSError, ValueError, KeyError, SafetensorError)
"""What diffusers and transformers raise for files that are missing, damaged or half written."""


class ModelSource(Setting):
    """The base model"""

    pretrained_model_name_or_path: Annotated[str, BASIC] = TOYBOX
    """A diffusers pipeline folder, a single file of SD or SDXL, a model id on the Hub, or a short name (`dreambooth models`);
    automatic: the embedded toybox, which draws its own rendered world and no real photos."""
    lora: str | None = None
    """A LoRA file, its folder or a Hub id, that is added to the base model's weights first; what is learned comes on top."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    variant: str | None = None
    """Variant of the weight files, such as fp16."""
    pretrained_vae_name_or_path: str | None = None
    """Another VAE than the base model's own: a folder, or a Hub id. (With fp16 SDXL's own decodes in float32.)"""
    single_file_config: str | None = None
    """Where the base model is a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    tokenizer_name: str | None = None
    """Another tokenizer than the base model's own: a folder or a Hub id."""
    cache_dir: str | None = None
    """Where downloaded models are kept."""
    safety_checker: bool = True
    """Keep the base model's safety checker, where it has one, in a result that is a whole pipeline; `generate` runs it."""
    verify_base: bool = False
    """Read the base model's files again, and hold them against what they were when they were first read."""
    allow_pickle: bool = False
    """Also load weights saved as pickles (.bin, .ckpt). A pickle can run any code on this machine: only for files you trust."""

    @field_validator("pretrained_model_name_or_path")
    @classmethod
    def _spelt_out(cls, name: str) -> str:
        """The id that a short name stands for, so that a run's configuration means the same when the names mean something else."""
        return hub_id(name)

    @property
    def is_here(self) -> bool:
        """Whether its name is a folder on this disk, so that nothing is downloaded or converted for its configurations."""
        path = Path(self.pretrained_model_name_or_path).expanduser()
        return self.pretrained_model_name_or_path == TOYBOX or path.is_dir()

    def refuse_missing(self) -> None:
        """Raise SettingError for a name that was meant as a folder or a file and is none; nothing is asked of the Hub."""
        if file := self.single_file:
            refuse_single_file(self, file)
        elif self.single_file_config:
            reason = f"{self.pretrained_model_name_or_path} is no single file."
            raise SettingError("--single_file_config", reason, fix="Leave it out.")
        elif not self.is_here:
            refuse_missing_folder(self.pretrained_model_name_or_path, FLAG, needs_owner=True, short_names=known_models())
        if self.lora and Path(self.lora).expanduser().exists():
            read_lora(self.lora, allow_pickle=self.allow_pickle)
        elif self.lora:
            refuse_missing_folder(self.lora, "--lora", needs_owner=True)
        for flag, name in (("--pretrained_vae_name_or_path", self.pretrained_vae_name_or_path), ("--tokenizer_name", self.tokenizer_name)):
            if name:
                refuse_missing_folder(name, flag)

    @property
    def single_file(self) -> Path | None:
        """The file, where the base model is one."""
        path = Path(self.pretrained_model_name_or_path).expanduser()
        return path if path.is_file() or (path.suffix in WEIGHTS and not path.is_dir()) else None

    def folder(self) -> Path:
        """The pipeline on this disk, downloaded first when it is a Hub id, converted when it is a single file; raises SettingError with
        the fix when there is none."""
        name = self.pretrained_model_name_or_path
        path = toybox() if name == TOYBOX else Path(name).expanduser()
        if file := self.single_file:
            return converted(self, file)
        say_what_is_taken(name)
        if not path.is_dir():
            refuse_missing_folder(name, FLAG, needs_owner=True, short_names=known_models())
        folder = path if path.is_dir() else downloaded(self)  # type: ignore[arg-type]
        if not (folder / "model_index.json").is_file():
            raise _no_pipeline(folder)
        return folder

    def configurations(self) -> "ModelSource":
        """The same model without its weights: of one that is not here its configurations alone are downloaded."""
        if self.is_here or self.single_file:
            return self
        refuse_missing_folder(self.pretrained_model_name_or_path, FLAG, needs_owner=True, short_names=known_models())
        folder = downloaded_configurations(self)  # type: ignore[arg-type]
        return self.updated({("pretrained_model_name_or_path",): str(folder), ("revision",): None})

    def index(self) -> dict[str, Any]:
        """`model_index.json`: the pipeline's class and its parts."""
        return needed_json(self.folder() / "model_index.json", setting=FLAG, fix="Save or download the pipeline again.")

    def recipe(self) -> dict[str, Any]:
        """Training settings that the model itself recommends, from `dreambooth.yaml` in its folder, as texts: {"full": {"rank": "8"}}."""
        path = self.folder() / RECIPE
        refuse_links(path.parent, path.parent, flag=FLAG)
        recipe = (read_yaml_file(path, RECIPE) if path.is_file() else None) or {}
        if not isinstance(recipe, dict) or not all(isinstance(values, dict | None) for values in recipe.values()):
            raise SettingError(RECIPE, f"{path} has no settings by method.", fix="Write `full: {setting: value}`.")
        return {method: values or {} for method, values in recipe.items()}

    def check(self, *, replaced: Collection[str] = ()) -> None:
        """See, before anything is loaded, that every part is complete, and is no pickle unless that was asked for.

        Parts that are `replaced`, or that training has no use for, are not looked at.
        """
        folder = self.folder()
        refuse_links(folder, folder, flag=FLAG)
        for name, (library, kind) in parts_of(self.index()).items():
            if library is not None and name not in replaced and name not in UNUSED:
                Part(folder, name, str(library), str(kind), FLAG, self.variant, self.allow_pickle).check()


@contextmanager
def relabel_errors(setting: str) -> Iterator[None]:
    """A block in which a base model that cannot be had is reported under the name that the user gave it by."""
    try:
        yield
    except SettingError as error:
        if error.setting != FLAG:
            raise
        raise SettingError(setting, error.reason, fix=error.fix) from None


def _no_pipeline(folder: Path) -> SettingError:
    """What a folder without model_index.json is, where its own files say so."""
    kind = None
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        config = read_json(folder / "config.json")
        kind = str(config.get("_class_name") or config["architectures"][0])
    if kind and "ControlNet" in kind:
        return SettingError(FLAG, f"{folder} is a {kind}, which steers a base model and is none.", fix="Give the base model itself.")
    if kind:
        fix = f"Give {folder.parent}." if (folder.parent / "model_index.json").is_file() else "Give the whole pipeline's folder."
        return SettingError(FLAG, f"{folder} is a {kind} alone, one part of a pipeline.", fix=fix)
    hint = "Give the folder that diffusers' save_pretrained wrote."
    if list(folder.glob("*lora*.safetensors")) or (folder / "adapter_config.json").is_file():
        hint = "It looks like LoRA weights; name their base model here, and draw with `dreambooth generate BASE --lora FOLDER`."
    return SettingError(FLAG, f"{folder} holds no model_index.json, so it is not a diffusers pipeline folder.", fix=hint)


def replaced(source: ModelSource) -> dict[str, str]:
    """What stands in the place of the base model's own parts, by its bytes where it is a folder here."""
    given = {"vae": source.pretrained_vae_name_or_path, "tokenizer": source.tokenizer_name, "lora": source.lora}
    return {name: part_digest(value) for name, value in given.items() if value}


def part_digest(name: str | None) -> str:
    """The bytes of a part's folder or file; what is no place on this machine counts by its name."""
    if name and Path(name).expanduser().is_file():
        return file_digest(Path(name).expanduser())
    if not (name and Path(name).expanduser().is_dir()):
        return str(name)
    root = Path(name).expanduser()
    return tree_digest(root, (path for path in root.rglob("*") if path.is_file()), short=True)


def parts_of(index: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """A pipeline's parts: the library and the class of each, None for one that it was saved without."""
    return {name: tuple(value) for name, value in index.items() if isinstance(value, list) and len(value) == 2}


def fingerprint(folder: Path, *, again: bool = False) -> str:
    """A digest of everything in a pipeline folder that decides what it draws: the bytes of its weights and configurations, and what
    `model_index.json` sets otherwise than pipelines do by themselves (SDXL's `force_zeros_for_empty_prompt: false`).

    Files are read once and then known by size, time and place; `again` reads them all the same.
    """
    start = ""
    with suppress(FileNotFoundError, Damaged):
        index = read_json(folder / "model_index.json")
        parts = parts_of(index)
        own = {name: value for name, value in index.items() if not (name.startswith("_") or name in parts or value in (True, None))}
        own.pop("requires_safety_checker", None)
        start = json.dumps(own, sort_keys=True) if own else ""
    return tree_digest(folder, _deciding(folder), start=start, digest=partial(remembered_digest, again=again))


def unread_bytes(folder: Path, *, again: bool = False) -> int:
    """How much `fingerprint` would have to read now; what it has read before it knows."""
    return sum(path.stat().st_size for path in _deciding(folder) if again or not is_remembered(path))


def _deciding(folder: Path) -> Iterator[Path]:
    """The files of a pipeline folder that decide what it draws."""
    return (path for path in folder.rglob("*") if path.is_file() and _decides(path.relative_to(folder)))


def _decides(inside: Path) -> bool:
    """Whether a file of a pipeline belongs to a part of it, and not to a training or to what was drawn or exported."""
    is_own = inside.parent != Path() and not any(part.startswith(("checkpoint-", ".", "samples", "export")) for part in inside.parts)
    return is_own and inside.suffix in (*WEIGHTS, ".json", ".txt", ".model")
