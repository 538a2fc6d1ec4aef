"""What a run leaves: weights, the model card, where they come from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.core.errors import SettingError
from dreambooth.families import Family
from dreambooth.files.atomic import write_text
from dreambooth.files.entries import whole_entries
from dreambooth.files.names import KOHYA_FILE
from dreambooth.files.sums import write_sums
from dreambooth.formats.kohya import write_beside
from dreambooth.methods import Learner
from dreambooth.run.card import card
from dreambooth.run.export_facts import facts_of
from dreambooth.run.material import Material
from dreambooth.run.provenance import since
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.record import host
from dreambooth.training.subjects import LearnedPhoto

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
        "photos": [_photo(photo, material) for photo in material.photos],
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
            write_beside(learner.family, partial, facts_of(config, record))
        write_text(partial / CARD, card(config, material, learner, record))
        written = sorted(path.name for path in partial.iterdir())
        write_sums(partial)
    if KOHYA_FILE not in written:
        (folder / KOHYA_FILE).unlink(missing_ok=True)  # an earlier run's, which would be taken for this one's
    return written


def _photo(photo: LearnedPhoto, material: Material) -> dict[str, Any]:
    """A photo's name and bytes; of one that came later, also since which update."""
    return {"name": photo.path.name, "sha256": photo.digest(), **since(material, photo.digest())}


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
        fix = "Export the run: dreambooth export RUN --as comfy (or kohya)."
        raise SettingError("--output_kohya_format", f"is for SD and SDXL, not {family.name}.", fix=fix)
    return dict(family.kohya_prefixes)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
