"""What a run would need and do, before it is started: the same checks as the command line's, nothing loaded and nothing written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from dreambooth.core.device import pick_device
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.core.wording import duration, size
from dreambooth.families import family_of
from dreambooth.families.names import known_model
from dreambooth.memory.estimate import Estimate, estimate, free_bytes, rehearse
from dreambooth.photos.load import scan
from dreambooth.run import request
from dreambooth.run.plan import needed_bytes
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.config import TrainConfig, named, resolve
from dreambooth.setup.model import silence_libraries
from dreambooth.setup.runs import FoundRun
from dreambooth.training.ranks import Ranks
from dreambooth.training.records import Message, Record
from dreambooth.web.studio import Studio


@dataclass
class Planned:
    """A plan, or why there is none."""

    refusal: SettingError | None = None
    """What has to be mended first."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fits: bool | None = None
    device: str = ""


def device_of(config: TrainConfig) -> str:
    """The device that a training will use, by a name that is the same for the same one; raises SettingError for one that is not here."""
    return device_name(pick_device(config.loop.device))


def device_name(device: torch.device) -> str:
    """cpu, cuda:0, cuda:1 ..."""
    return device.type if device.type in ("cpu", "mps") else f"{device.type}:{device.index or 0}"


def refuse(config: TrainConfig) -> list[str]:
    """Check a request by names, photos and what is known of its model; returns remarks. Raises SettingError."""
    silence_libraries()
    check(config)
    config = named(config)
    request.refuse(config, Ranks(0, 1, pick_device(config.loop.device)))
    records, remarks = request.read(config), unused_settings(config)
    while True:
        try:
            record = next(records)
        except StopIteration as done:
            material = done.value
            break
        remarks += _important(record)
    if config.model.is_here:
        kind = family_of(config.model)
        resolved = resolve(config, kind)
        remarks += [words for record in request.fit(resolved, kind, material) for words in _important(record)]
    return remarks


def _important(record: Record) -> list[str]:
    return [record.text] if isinstance(record, Message) and record.important else []


def planned(config: TrainConfig, studio: Studio) -> Planned:
    """Time, memory, disk and terms of a run."""
    found = Planned()
    try:
        found.device = device_of(config)
        found.remarks = refuse(config)
        found.lines = list(_lines(config, studio, found))
    except SettingError as error:
        found.refusal = error
    except DreamboothError as error:
        found.refusal = SettingError("", str(error))
    return found


def _lines(config: TrainConfig, studio: Studio, found: Planned) -> list[tuple[str, str]]:
    photos = scan(str(config.photos.instance_data_dir)).photos
    noun = config.photos.class_noun
    lines = [("Photos", f"{len(photos)} of a {noun}" if noun else str(len(photos)))]
    known = known_model(config.model.pretrained_model_name_or_path)
    if known:
        lines.append(("Licence", f"{known.licence}; commercial use: {known.commercial}"))
    if not config.model.is_here:
        lines.append(("Download", known.terms() if known else "The model is downloaded first; what it needs is known after that."))
        return lines
    device = pick_device(config.loop.device)
    memory, resolved, steps, disk = _rehearsed(config.model_dump_json(exclude_unset=True), device, len(photos))
    memory = replace(memory, limit=free_bytes(device))
    found.fits = memory.fits
    return [
        *lines,
        ("Training", f"{steps} updates, {_photos(resolved.loop.train_batch_size)} each, at {resolved.cropping.resolution} px"),
        ("Time", _time(resolved, steps, studio.runs().runs)),
        ("Memory", f"{memory.device} {memory.verdict}"),
        ("Disk", f"about {size(disk)}"),
    ]


@lru_cache(16)
def _rehearsed(settings: str, device: torch.device, photos: int) -> tuple[Estimate, TrainConfig, int, int]:
    """The memory of a run, its settings with the recipe's, its updates and the bytes that it leaves: kept for the start."""
    config = TrainConfig.parse(json.loads(settings))
    rehearsal = rehearse(resolve(config, family_of(config.model)), device)
    resolved = rehearsal.config
    steps = resolved.loop.steps(photos, resolved.loop.train_batch_size)
    return estimate(rehearsal, device, limit=None), resolved, steps, needed_bytes(resolved, rehearsal.trainable, rehearsal.family, steps)


def _time(config: TrainConfig, steps: int, runs: Sequence[FoundRun]) -> str:
    """What earlier runs of the kind took for as many updates."""
    for run in runs:
        same = (run.record.get("base_model") or {}).get("name") == config.model.pretrained_model_name_or_path
        seconds, step = (run.record.get("seconds") or {}).get("training"), run.record.get("step")
        if same and run.record.get("method") == config.method.kind and seconds and step:
            return f"about {duration(seconds / step * steps)}, by {run.name}"
    return "measured as soon as it has begun"


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
