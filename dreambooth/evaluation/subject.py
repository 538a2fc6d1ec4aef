"""What is to be evaluated: a run or another model, its subject, its photos and its base model; found without loading any weights."""

from dataclasses import dataclass
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.evaluation.selection import Choice
from dreambooth.evaluation.verdict import Standing
from dreambooth.families import ModelSource, fingerprint
from dreambooth.families.source import FLAG, relabel_errors
from dreambooth.files.digests import tree_digest
from dreambooth.files.packaged import TOYBOX
from dreambooth.metrics.encoders import encoders_beside
from dreambooth.photos.load import PhotoError, PhotoFile, load, scan
from dreambooth.prompts.placeholder import class_prompt
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import named, read_config, refuse_no_model, run_folder
from dreambooth.setup.record import read_record, unknown_photos
from dreambooth.training.state import step_of


@dataclass(frozen=True)
class Examined:
    """One model and one subject."""

    name: str
    """The run, checkpoint, folder or Hub id."""
    path: Path
    """That as a folder; RUN@best is then a checkpoint by its number."""
    run: Path | None
    config: TrainConfig | None
    noun: str
    identifier: str | None
    class_prompt: str
    is_style: bool
    photos: tuple[PhotoFile, ...]
    photo_names: tuple[str, ...]
    base: ModelSource
    weights: str
    """A digest of what draws the pictures, so that older pictures are known for what they are."""
    base_weights: str

    @property
    def standing(self) -> Standing | None:
        """Where the model stands among the checkpoints of its run; None where that was not evaluated while it trained."""
        if self.run is None:
            return None
        record = read_record(self.run)
        choice, at = record.get("choice"), record.get("result_step") if self.path == self.run else step_of(self.path)
        if not choice or at is None or "last" not in choice:  # never evaluated, or by an earlier version, which said less
            return None
        return Standing(self.run.name, at, Choice(choice["step"], choice["why"], choice["last"]))

    @property
    def is_toybox(self) -> bool:
        """Whether the base model is the embedded toybox, whose figures say nothing about real models."""
        return is_toybox(self.base.pretrained_model_name_or_path)


def examine(
    name: str, *, instance_data_dir: str | None = None, class_noun: str | None = None, identifier: str | None = None,
    allow_pickle: bool = False, single_file_config: str | None = None,
) -> Examined:  # fmt: skip
    """Read a run's own words and photos; what is given by hand counts more. Raises SettingError naming what is missing."""
    path = named(name)
    run = run_folder(path)
    config = read_config(run, allow_pickle=allow_pickle) if run else None
    if run is None:
        refuse_no_model(name, single_file_config=single_file_config)  # a mistyped name is reported first
    photos_setting = config.photos if config else None
    if photos_setting and photos_setting.concepts_list and not (instance_data_dir and class_noun and identifier):
        fix = "Say which one: --instance_data_dir, --class_noun and --identifier."
        raise SettingError("run", f"{name} learned several subjects.", fix=fix)
    noun = class_noun or _noun(config)
    folder = instance_data_dir or (photos_setting.instance_data_dir if photos_setting else None)
    if not folder:
        raise SettingError("--instance_data_dir", "the photos of the subject are not known.", fix="Name their folder.")
    pictures, names = read_folder(folder)
    others = unknown_photos(run, [Path(folder).expanduser() / name for name in names]) if run and not instance_data_dir else []
    if others:
        reason = f"{folder} holds photos that the run was not trained on ({', '.join(others[:3])})."
        raise SettingError("--instance_data_dir", reason, fix="Name the folder of the subject's photos; given by hand, it is believed.")
    base = config.model if config else ModelSource(
        pretrained_model_name_or_path=name, allow_pickle=allow_pickle, single_file_config=single_file_config
    )  # fmt: skip
    prior = (photos_setting.class_prompt if photos_setting else None) or class_prompt(noun)
    with relabel_errors("run" if config is None else FLAG):
        base_weights = fingerprint(base.folder())
    return Examined(
        name=str(path) if run else name, path=path, run=run, config=config, noun=noun,
        identifier=identifier or (photos_setting.identifier if photos_setting else None),
        class_prompt=prior, is_style=bool(photos_setting and photos_setting.concept == "style"), photos=pictures, photo_names=names,
        base=base, weights=weights_digest(path, base_weights) if run else base_weights, base_weights=base_weights,
    )  # fmt: skip


def is_toybox(base: str) -> bool:
    """Whether a base model is the toybox, by name or as a folder."""
    return base == TOYBOX or encoders_beside(base) is not None


def weights_digest(path: Path, base: str) -> str:
    """A digest of a run's or checkpoint's own weight files on top of a base model; its checkpoints and exports do not count for the run."""
    beside = ("checkpoint-", "samples", "logs", "export", ".")
    own = (file for file in path.rglob("*.safetensors") if not file.relative_to(path).parts[0].startswith(beside))
    return tree_digest(path, own, start=base)


def read_folder(folder: str) -> tuple[tuple[PhotoFile, ...], tuple[str, ...]]:
    """All photos of a folder that can be read, and their names; raises SettingError when there is none."""
    pictures, names, complaint = [], [], "it holds no photo."
    for path in scan(folder).photos:
        try:
            load(path)
            pictures.append(PhotoFile(path))
            names.append(path.name)
        except PhotoError as error:
            complaint = str(error)
    if not pictures:
        raise SettingError("--instance_data_dir", f"none of the photos in {folder} can be read ({complaint})", fix="Name another folder.")
    return tuple(pictures), tuple(names)


def _noun(config: TrainConfig | None) -> str:
    """The class noun of a run: as given, else from its class prompt."""
    photos = config.photos if config else None
    if photos and photos.class_noun:
        return photos.class_noun
    if photos and photos.concept == "style":
        return "painting"
    words = (photos.class_prompt or "").lower().split() if photos else []
    for start in (["a", "photo", "of"], ["photo", "of"], ["a"], ["an"], ["the"]):
        if words[: len(start)] == start and len(words) > len(start):
            words = words[len(start) :]
    if not words:
        raise SettingError("--class_noun", "what the subject is is not known.", fix="Give it: --class_noun dog.")
    return " ".join(words)
