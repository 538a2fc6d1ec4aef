"""Where a run starts: anew in a free folder, or at a checkpoint; and what may change then, and what has changed although it may not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import resume_command
from dreambooth.files.entries import INCOMING
from dreambooth.files.leftovers import PREFIX
from dreambooth.files.places import remove
from dreambooth.schema import flags, get, is_set
from dreambooth.setup.config import FOLDERS, TrainConfig, dump, rooted
from dreambooth.setup.given import read_yaml
from dreambooth.setup.journal import METRICS, RECORDS
from dreambooth.setup.record import CONFIG, RECORD, read_record
from dreambooth.setup.states import State
from dreambooth.training.state import checkpoints, find_checkpoint, step_of

RESULTS = ("model_index.json", "*.safetensors", "*/*.safetensors")
"""What shows that a folder holds a model: a pipeline, or what an adapter or a word has learned."""

RESUMABLE = {
    "max_train_steps", "resume_from_checkpoint", "allow_changed_settings", "output_dir", "overwrite_output_dir", "logging_dir", "report_to",
    "push_to_hub", "hub_token", "hub_model_id", "hub_private", "output_kohya_format", "checkpointing_steps", "checkpoints_total_limit",
    "log_interval", "device", "skip_final_inference", "sample_batch_size", "preset", "skip_save_text_encoder", "cache_dir",
    "ignore_photo_errors", "identifier_tokens", "verify", "verify_base", "fit", "fit_check", "allow_pickle", "trust_code", "group_offload",
    "fsdp",
}  # fmt: skip
"""Settings that may change when a run is resumed, beside those of the pictures drawn meanwhile."""


def differences(old: Mapping[str, Any], config: TrainConfig, *, given: bool = False) -> list[str]:
    """Settings that decide the result and have changed since a checkpoint: `--rank 4 -> 8`. One that is newer than the checkpoint had
    its default. `given`: only those given by hand count, before the others have been filled in."""
    changed, fresh = [], type(config)()
    for name, flag in flags(type(config)).items():
        if name in RESUMABLE or flag.path[0] in ("validation", "watching", "encoders") or (given and not is_set(config, flag.path)):
            continue
        before, now = at(old, flag.path, get(fresh, flag.path)), get(config, flag.path)
        before, now = (list(value) if isinstance(value, tuple) else value for value in (before, now))
        if flag.path in FOLDERS:
            before, now = (rooted(value) if isinstance(value, str) else value for value in (before, now))
        if before != now:
            changed.append(f"--{name} {before} -> {now}")
    return changed


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    checkpoint: Path | None = None
    """The one to go on from; None for step 0."""
    is_done: bool = False
    """Whether the folder holds this run, finished: there is nothing to do."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the folder says about the run there."""
    remarks: list[str] = field(default_factory=list)


def starting_point(config: TrainConfig, folder: Path) -> Start:
    """Where the run begins that was asked for; nothing finished is replaced unless that was asked for, too.

    Raises SettingError for a folder that holds checkpoints or a model where nothing was said about them, and where there is nothing
    to go on from.
    """
    record = read_record(folder) if (folder / RECORD).is_file() else {}
    if not config.loop.resume_from_checkpoint:
        _refuse_occupied(config, folder)
        return Start(record=record)
    wanted, overwrite = config.loop.resume_from_checkpoint, config.output.overwrite_output_dir
    finished, reached, total = record.get("state") == State.FINISHED, int(record.get("step") or 0), config.loop.max_train_steps
    if wanted == "latest" and finished and total and total <= reached and not overwrite:
        _refuse_other_request(config, folder)
        return Start(is_done=True, record=record)
    checkpoint, remarks = find_checkpoint(folder, wanted, verify=config.loop.verify)
    if checkpoint is None:
        _refuse_occupied(config, folder)
        return Start(None, record=record, remarks=[f"{folder} holds no checkpoint: training starts at step 0."])
    if finished and step_of(checkpoint) < reached and not overwrite and (wanted != "latest" or (total and total <= reached)):
        reason = f"{folder} holds the finished result of step {reached}, which going on from {checkpoint.name} would replace."
        raise SettingError("--resume_from_checkpoint", reason, fix="Choose another --output_dir, or pass --overwrite_output_dir.")
    return Start(checkpoint, record=record, remarks=remarks)


def _refuse_occupied(config: TrainConfig, folder: Path) -> None:
    """Raise SettingError for a folder that holds something that a new run would replace."""
    if config.output.overwrite_output_dir:
        return
    if checkpoints(folder) and not config.loop.resume_from_checkpoint:
        fix = f"Go on with it: {resume_command(folder)}, choose another folder, or pass --overwrite_output_dir."
        raise SettingError("--output_dir", f"{folder} holds the checkpoints of an earlier run.", fix=fix)
    there = (path for pattern in RESULTS for path in folder.glob(pattern) if not path.relative_to(folder).parts[0].startswith(PREFIX))
    found = next(there, folder / INCOMING)
    if found.exists():
        fix = "Choose another folder, or pass --overwrite_output_dir."
        raise SettingError("--output_dir", f"{folder} holds a model already ({found.relative_to(folder)}).", fix=fix)


def _refuse_other_request(config: TrainConfig, folder: Path) -> None:
    """Raise SettingError where a finished run's own settings are others than those given now."""
    changed = differences(dump(type(config).parse(read_yaml(folder / CONFIG))), config, given=True)
    if changed and not config.loop.allow_changed_settings:
        fix = "Choose another --output_dir, or train longer with a larger --max_train_steps."
        raise SettingError("--resume_from_checkpoint", f"{folder} is finished, with other settings: {'; '.join(changed)}.", fix=fix)


def clear(folder: Path, *, overwrite: bool) -> None:
    """Delete what an earlier run left that would be taken for this one's: checkpoints and records (that was asked for), and pictures of
    its steps."""
    asked = [*checkpoints(folder), folder / RECORDS, folder / METRICS, folder / INCOMING] if overwrite else []
    for path in [*asked, *folder.glob("samples/step-*"), *folder.glob("samples/final")]:
        remove(path, root=folder)
