"""What a run leaves: the pipeline or the LoRA file, its record, its card and its pictures."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.card import card
from dreambooth.config import TrainConfig
from dreambooth.core.errors import SettingError, first_line
from dreambooth.core.wording import written_out
from dreambooth.families import Family
from dreambooth.files.atomic import whole_file, write_text
from dreambooth.files.digests import file_digest
from dreambooth.files.entries import whole_entries
from dreambooth.files.images import contact_sheet, save_png
from dreambooth.files.layouts import KOHYA_FILE, write_kohya
from dreambooth.files.sums import write_sums
from dreambooth.material import since
from dreambooth.methods import Learner
from dreambooth.prepare import Material
from dreambooth.sample import Picture
from dreambooth.setup.record import host

CARD = "README.md"


def origin(config: TrainConfig, material: Material, *, base: str, seed: int, device: str, processes: int) -> dict[str, Any]:
    """Where a result comes from: base model, photos, seeds, versions, host and clock. Settings themselves are in config.yaml."""
    return {
        "dreambooth": dreambooth.__version__,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_model": {"name": config.model.pretrained_model_name_or_path, "revision": config.model.revision, "sha256": base},
        "method": config.method.kind,
        "identifier": material.identifier,
        "instance_prompts": sorted({photo.prompt for photo in material.photos}),
        "class_prompts": sorted({images.prompt for images in material.prior}),
        "photos": [_photo(photo.path, material) for photo in material.photos],
        "class_images": [{"folder": str(images.folder), "count": images.count} for images in material.prior],
        **({"earlier": material.earlier} if material.earlier else {}),
        "seed": seed,
        "host": host(device, processes),
        "versions": {name: _version(name) for name in ("torch", "diffusers", "transformers", "peft", "accelerate")},
    }


def write_result(config: TrainConfig, material: Material, learner: Learner, folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The learned, loadable by diffusers, and its card, in the run's folder; earlier files of other names stay. Returns their names.

    All of them replace an earlier result together, and SHA256SUMS says which belong together.
    """
    with whole_entries(folder) as partial:
        if config.output.skip_save_text_encoder and config.method.trains_whole_parts:
            _without_text_encoders(learner.family, lambda: learner.save(partial, whole=True))
        else:
            learner.save(partial, whole=True)
        if config.writes_kohya(type(learner.family)):
            write_kohya(partial, prefixes=kohya_prefixes(learner.family))
        write_text(partial / CARD, card(config, material, learner, record))
        written = sorted(path.name for path in partial.iterdir())
        write_sums(partial)
    if KOHYA_FILE not in written:
        (folder / KOHYA_FILE).unlink(missing_ok=True)  # an earlier run's, which would be taken for this one's
    return written


def write_pictures(
    folder: Path, rows: Sequence[tuple[str, Sequence[Picture]]], *, extra: Mapping[str, Any], first: int = 0
) -> tuple[Path, ...]:
    """Pictures as PNGs that carry their settings, named by the row they stand in, counted from `first`, and their seed."""
    paths = []
    for number, (_, pictures) in enumerate(rows, start=first):
        for picture in pictures:
            path = folder / f"{number:02d}-seed{picture.seed}.png"
            save_png(path, picture.image, {**picture.settings, **extra})
            paths.append(path)
    return tuple(paths)


def write_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Any]]], *, title: str, footer: str) -> None:
    """A contact sheet as PNG, whole or not at all."""
    with whole_file(path) as partial:
        contact_sheet(rows, title=title, footer=footer).save(partial, "PNG")


def check_push(config: TrainConfig, folder: Path) -> None:
    """Raise SettingError, before any work, for a name that the Hub would not take or a token that it does not know."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = _hub_name(config, folder)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise SettingError("--hub_model_id", f"the Hub takes no model named {name!r} ({first_line(error)}).", fix="Give another.") from None
    try:
        HfApi(token=_token(config)).whoami()
    except Exception as error:  # the transport's own errors differ from version to version
        fix = "`hf auth login` or --hub_token; offline, leave the flag out and `hf upload` the result later."
        told = _without_token(first_line(error), config)
        raise SettingError("--push_to_hub", f"the Hub does not know who asks ({told}).", fix=fix) from None


def push(
    config: TrainConfig, material: Material, learner: Learner, folder: Path, written: Sequence[str], record: Mapping[str, Any]
) -> str:  # fmt: skip
    """Upload what was `written` by `write_result`, and the pictures drawn at the end; returns the address.

    Nothing else: contact sheets and reports show the user's photos, and the run's record names this machine and its folders.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, text = HfApi(token=_token(config)), card(config, material, learner, record, is_public=True)
    files = [file for name in [*written, "samples/final"] for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
    adds = [CommitOperationAdd(file.relative_to(folder).as_posix(), _public(file, text)) for file in files]
    try:
        name = api.create_repo(_hub_name(config, folder), exist_ok=True, private=config.output.hub_private).repo_id
        return str(api.create_commit(name, adds, commit_message="DreamBooth").repo_url)
    except Exception as error:  # whatever it was: the run is done, and its result lies there whole
        reason = f"the upload failed ({_without_token(first_line(error), config)}); the result is whole in {folder}."
        raise SettingError("--push_to_hub", reason, fix="`hf upload` it.") from None  # what it came from may hold the token


def _token(config: TrainConfig) -> str | None:
    return config.output.hub_token.get_secret_value() if config.output.hub_token else None


def _without_token(text: str, config: TrainConfig) -> str:
    """What a library has said, without the token that it may have said it of: a header that is refused, say."""
    token = _token(config)
    return text.replace(token, "***").replace(repr(token)[1:-1], "***") if token else text


def _hub_name(config: TrainConfig, folder: Path) -> str:
    return config.output.hub_model_id or folder.absolute().name


def _public(file: Path, card: str) -> str | bytes:
    """A file as it may be seen by all: the card's public text, configurations without the folder that they were read from."""
    if file.name == CARD:
        return written_out(card).encode()
    if file.suffix != ".json":
        return str(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name not in ("_name_or_path", "name_or_path")}
    return written_out(json.dumps(content, indent=2, ensure_ascii=False)).encode()


def _photo(path: Path, material: Material) -> dict[str, Any]:
    """A photo's name and bytes; of one that came later, also since which update."""
    digest = file_digest(path)
    return {"name": path.name, "sha256": digest, **since(material, digest)}


def _without_text_encoders(family: Family, save: Any) -> None:
    own = {name: getattr(family.pipe, name) for name in family.encoder_names}
    family.pipe.register_modules(**dict.fromkeys(own))
    try:
        save()
    finally:
        family.pipe.register_modules(**own)


def kohya_prefixes(family: Family | type[Family]) -> dict[str, str]:
    """How kohya's tools name a family's parts; raises SettingError for a family that they name otherwise."""
    if not family.kohya_prefixes:
        fix = "ComfyUI loads the diffusers file, whose factor it takes as 1: leave out --lora_alpha, too."
        raise SettingError("--output_kohya_format", f"is for SD and SDXL, not {family.name}.", fix=fix)
    return dict(family.kohya_prefixes)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
