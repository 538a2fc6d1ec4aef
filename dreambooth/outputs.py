"""What a run leaves: the pipeline or the LoRA file, its record, its card and its pictures."""

import json
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.config import TrainConfig
from dreambooth.core.errors import SettingError
from dreambooth.families import Family
from dreambooth.files.atomic import whole_entries, whole_file, write_json
from dreambooth.files.digests import file_digest
from dreambooth.files.images import contact_sheet, save_png
from dreambooth.files.layouts import write_kohya
from dreambooth.methods import Learner
from dreambooth.prepare import Material
from dreambooth.sample import Picture
from dreambooth.training.records import Record, Saved

RECORD = "run.json"


def start_record(config: TrainConfig, material: Material, *, base: str, seed: int, device: str, processes: int) -> dict[str, Any]:
    """Where a result comes from: base model, photos, seeds, versions, host and clock. Settings themselves are in config.yaml."""
    return {
        "dreambooth": dreambooth.__version__,
        "state": "running",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_model": {"name": config.model.pretrained_model_name_or_path, "revision": config.model.revision, "sha256": base},
        "method": config.method.kind,
        "identifier": material.identifier,
        "instance_prompts": sorted({photo.prompt for photo in material.photos}),
        "class_prompts": sorted({images.prompt for images in material.prior}),
        "photos": [{"name": photo.path.name, "sha256": file_digest(photo.path)} for photo in material.photos],
        "class_images": [{"folder": str(images.folder), "count": images.count} for images in material.prior],
        "seed": seed,
        "host": {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "device": device,
            "processes": processes,
            "cores": os.cpu_count(),
        },
        "versions": {name: _version(name) for name in ("torch", "diffusers", "transformers", "peft", "accelerate")},
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """`run.json`."""
    write_json(folder / RECORD, dict(record))


def read_record(folder: Path) -> dict[str, Any]:
    """What `write_record` wrote."""
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Stopwatch:
    """A tracker that notes in the run's record, at every checkpoint, how far training is and what it has taken."""

    folder: Path
    record: dict[str, Any]
    since: float
    """When training began, as `time.perf_counter` tells it; earlier by what earlier starts have taken."""

    def seconds(self) -> dict[str, float]:
        """Of training so far."""
        return {"training": round(time.perf_counter() - self.since, 2)}

    def take(self, record: Record) -> None:
        if isinstance(record, Saved):
            self.record.update(step=record.step, seconds=self.seconds())
            write_record(self.folder, self.record)

    def close(self) -> None:
        return


def spent(folder: Path, step: int) -> float:
    """Seconds of training until a checkpoint's update, by the record of the start that made it; 0 where there is none.

    An earlier checkpoint than the newest counts its part of them.
    """
    try:
        record = read_record(folder)
        return float(record["seconds"]["training"]) * min(1.0, step / record["step"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return 0.0


def write_result(config: TrainConfig, material: Material, learner: Learner, folder: Path) -> None:
    """The learned, loadable by diffusers, and its card, in the run's folder; earlier files of other names stay."""
    with whole_entries(folder) as partial:
        if config.output.skip_save_text_encoder and config.method.trains_whole_parts:
            _without_text_encoders(learner.family, lambda: learner.save(partial, whole=True))
        else:
            learner.save(partial, whole=True)
        (partial / "README.md").write_text(card(config, material, learner), encoding="utf-8")
    if config.output.output_kohya_format:
        write_kohya(folder, prefixes=kohya_prefixes(learner.family))


def write_pictures(folder: Path, rows: Sequence[tuple[str, Sequence[Picture]]], *, extra: Mapping[str, Any]) -> tuple[Path, ...]:
    """Pictures as PNGs that carry their settings, named by the row they stand in and their seed."""
    paths = []
    for number, (_, pictures) in enumerate(rows):
        for picture in pictures:
            path = folder / f"{number:02d}-seed{picture.seed}.png"
            save_png(path, picture.image, {**picture.settings, **extra})
            paths.append(path)
    return tuple(paths)


def write_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Any]]], *, title: str, footer: str) -> None:
    """A contact sheet as PNG, whole or not at all."""
    with whole_file(path) as partial:
        contact_sheet(rows, title=title, footer=footer).save(partial, "PNG")


def card(config: TrainConfig, material: Material, learner: Learner) -> str:
    """The model card that the Hub shows."""
    family, base, prompt = learner.family, config.model.pretrained_model_name_or_path, material.instance_prompt
    kind = type(family.pipe).__name__
    source = "." if config.method.trains_whole_parts else base
    absent = family.encoder_names if config.output.skip_save_text_encoder and source == "." else ()
    before = f'base = {kind}.from_pretrained("{base}")\n' if absent else ""
    encoders = "".join(f", {name}=base.{name}" for name in absent)
    load = f'{before}pipe = {kind}.from_pretrained("{source}"{encoders})\n{learner.loading()}'.strip()
    return f"""---
base_model: {base}
library_name: diffusers
license: other
instance_prompt: {prompt}
tags: [text-to-image, diffusers, dreambooth, {config.method.kind}]
---

# {prompt}

{family.name}, fine-tuned with DreamBooth ({config.method.kind}) on {len(material.photos)} photos of "{prompt}"{_prior_words(material)}.
The base model's safety checker, where it has one, is not part of this folder. The licence of the base model applies;
`run.json` tells where everything comes from, `config.yaml` repeats the run.

```python
from diffusers import {kind}

{load}
image = pipe("{prompt} on the beach").images[0]
```

Or `dreambooth generate . "a [V] ... on the beach"`.
"""


def push(config: TrainConfig, folder: Path) -> str:
    """Upload the result (no checkpoints, no trackers' logs) to the Hub; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(token=config.output.hub_token)
    try:
        name = api.create_repo(
            config.output.hub_model_id or folder.absolute().name, exist_ok=True, private=config.output.hub_private
        ).repo_id
        skipped = ["checkpoint-*", f"{config.output.logging_dir}/*", ".partial-*"]
        return str(api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=skipped, commit_message="DreamBooth").repo_url)
    except LocalTokenNotFoundError:
        raise SettingError("--push_to_hub", "there is no token.", fix="`hf auth login`, or --hub_token.") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise SettingError(
            "--push_to_hub", f"the upload failed ({reason}); the result is whole in {folder}.", fix="`hf upload` it."
        ) from None


def _prior_words(material: Material) -> str:
    return f', with prior preservation of "{material.prior[0].prompt}"' if material.prior else ""


def _without_text_encoders(family: Family, save: Any) -> None:
    own = {name: getattr(family.pipe, name) for name in family.encoder_names}
    family.pipe.register_modules(**dict.fromkeys(own))
    try:
        save()
    finally:
        family.pipe.register_modules(**own)


def kohya_prefixes(family: Family) -> dict[str, str]:
    """How kohya's tools name a family's parts; raises SettingError for a family that they name otherwise."""
    if len(family.encoder_names) == 2 and family.denoiser_name == "unet":
        return {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    if family.denoiser_name == "unet":
        return {"unet": "lora_unet", "text_encoder": "lora_te"}
    fix = "ComfyUI loads the diffusers file, whose factor it takes as 1: leave out --lora_alpha, too."
    raise SettingError("--output_kohya_format", f"is for SD and SDXL, not {family.name}.", fix=fix)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
