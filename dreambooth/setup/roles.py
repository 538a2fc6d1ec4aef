"""Which folder of a request is for what, by the setting that names it; and what the folders themselves say that they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource
from dreambooth.files.folders import Place, chain, is_inside, is_same, refuse_mixing
from dreambooth.files.packaged import TOYBOX
from dreambooth.photos.entries import MASKS
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.record import RECORD
from dreambooth.training.concepts import entry_name
from dreambooth.training.prior import MANIFEST
from dreambooth.training.subjects import prompts_of, subjects

PARTS = (
    "unet", "transformer", "vae", "text_encoder*", "tokenizer*", "scheduler", "feature_extractor", "image_encoder", "safety_checker",
)  # fmt: skip
RUN_WRITES = (*PARTS, "checkpoint-*", ".partial-*", "requests", "samples/step-*", "samples/final", "samples/evaluation")
"""Names below a run's folder that training and evaluation write, replace or delete."""


def refuse_mixed_training(config: TrainConfig) -> None:
    """Raise SettingError where two folders of a training are one or lie in each other wrongly (rules: `dreambooth.files.folders`)."""
    folder, logs = config.output_dir, config.output_dir / config.output.logging_dir
    writes, others = (*RUN_WRITES, "samples", "evaluation"), []
    if is_inside(logs, folder):
        writes = (*writes, config.output.logging_dir)
    else:
        others.append(Place("--logging_dir", logs, "output", content="logs"))
    if config.model.cache_dir:
        others.append(Place("--cache_dir", Path(config.model.cache_dir), "output", content="models"))
    places = [*read_by(config), *models(config.model), *others, Place("--output_dir", folder, "output", writes=writes)]
    refuse_mixing(places)
    for place in places:
        _refuse_stranger(place)


def refuse_mixed_pictures(out: Path, run: Path | None, config: TrainConfig | None, others: Sequence[Place] = ()) -> None:
    """Raise SettingError where what is written into `out` would be taken for a run's photos, masks or class images, or replace its own.

    `others` are folders that are read beside those of the run's `config`. The run's own folder as `out` is left to the caller, and so is
    a run whose own folders were mixed when it was trained: it can be drawn from, into another folder.
    """
    try:
        known = read_by(config) if config else []
    except SettingError:
        known = []  # the run's list of concepts is gone, and with it its folders' names
    own = [Place("run", run, "output", content="run", writes=RUN_WRITES)] if run else []
    wanted = Place("--output_dir", out, "output", content="run")
    for place in (*others, *known, *own):
        refuse_mixing([place, wanted])
    _refuse_stranger(wanted)
    if (out / RECORD).is_file() and not (run and is_same(out, run)):
        raise SettingError("--output_dir", f"{out} is the folder of another run.", fix="Choose another folder.")


def _refuse_stranger(place: Place) -> None:
    """Raise SettingError for a folder whose own files say that it is for something else."""
    path = place.path.expanduser()
    if place.holds in ("photos", "masks", "class images") and (path / RECORD).is_file():
        reason = f"{path} is the folder of a run, whose contact sheets would be taken for {place.holds}."
        raise SettingError(place.setting, reason, fix=f"Put the {place.holds} into a folder of their own.")
    if place.holds in ("photos", "masks", "output") and (path / MANIFEST).is_file():
        reason = f"{path} holds class images that were drawn into it (see its {MANIFEST})."
        raise SettingError(place.setting, reason, fix="Choose another folder." if place.holds == "output" else "Move the others out.")


def read_by(config: TrainConfig) -> list[Place]:
    """The folders of photos, masks and class images that a training reads, whether they are there or not.

    Raises SettingError for a list of concepts that cannot be read, and for class images of two prompts in one folder.
    """
    places = [*_photos(config), *_class_images(config)]
    if config.objective.masked_loss and config.photos.mask_dir:
        return [*places, Place("--mask_dir", Path(config.photos.mask_dir), "masks", content="")]
    if config.objective.masked_loss:
        beside = [Place(f"--masked_loss ({MASKS})", place.path / MASKS, "masks") for place in places if place.holds == "photos"]
        return [*places, *(place for place in beside if place.path.is_dir())]
    return places


def models(source: ModelSource) -> list[Place]:
    """The folders of the base model and of what takes the place of its parts, where they are folders here."""
    named = {
        "--pretrained_model_name_or_path": source.pretrained_model_name_or_path,
        "--pretrained_vae_name_or_path": source.pretrained_vae_name_or_path, "--tokenizer_name": source.tokenizer_name,
    }  # fmt: skip
    here = {setting: Path(name).expanduser() for setting, name in named.items() if name and name != TOYBOX}
    return [Place(setting, path, "a model", content="") for setting, path in here.items() if path.is_dir()]


def _photos(config: TrainConfig) -> Iterator[Place]:
    if config.photos.concepts_list:
        for number, subject in enumerate(subjects(config.photos, config.photos.identifier or PLACEHOLDER), start=1):
            yield Place(entry_name(number), subject.folder.root, "photos")
    elif config.photos.instance_data_dir:
        yield Place("--instance_data_dir", Path(config.photos.instance_data_dir), "photos")


def _class_images(config: TrainConfig) -> Iterator[Place]:
    """A place for each folder of class images that a setting names; one folder may serve several subjects of one class prompt."""
    if not config.has_prior:
        return
    everyones = config.prior.class_data_dir
    named = [("--class_data_dir", everyones, prompts_of(config.photos)[1])] if not config.photos.concepts_list else [
        (entry_name(number) if subject.class_data_dir else "--class_data_dir", subject.class_data_dir or everyones,
         subject.class_prompt)
        for number, subject in enumerate(subjects(config.photos, config.photos.identifier or PLACEHOLDER), start=1)
    ]  # fmt: skip
    prompts: dict[object, str | None] = {}
    for setting, folder, prompt in named:
        if not folder:
            continue
        known = prompts.setdefault(chain(Path(folder))[-1], prompt)
        if known != prompt:
            reason = f"{folder} cannot hold class images of both {known!r} and {prompt!r}."
            raise SettingError(setting, reason, fix="Give each subject its own class_data_dir in --concepts_list.")
        yield Place(setting, Path(folder), "class images", content="")
