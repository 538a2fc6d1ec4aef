"""What may change when a run goes on from a checkpoint, and what has changed although it may not."""

from collections.abc import Mapping
from typing import Any

from dreambooth.config import FOLDERS, TrainConfig, rooted
from dreambooth.schema import at, flags, get

RESUMABLE = {
    "max_train_steps", "resume_from_checkpoint", "allow_changed_settings", "output_dir", "overwrite_output_dir", "logging_dir", "report_to",
    "push_to_hub", "hub_token", "hub_model_id", "hub_private", "output_kohya_format", "checkpointing_steps", "checkpoints_total_limit",
    "log_interval", "device", "skip_final_inference", "sample_batch_size", "preset", "skip_save_text_encoder", "cache_dir",
    "ignore_photo_errors", "identifier_tokens",
}  # fmt: skip
"""Settings that may change when a run is resumed, beside those of the pictures drawn meanwhile."""


def differences(old: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """Settings that decide the result and have changed since a checkpoint: `--rank 4 -> 8`. One that is newer than the checkpoint had
    its default."""
    changed, fresh = [], type(config)()
    for name, flag in flags(type(config)).items():
        if name in RESUMABLE or flag.path[0] in ("validation", "watching", "encoders"):
            continue
        before, now = at(old, flag.path, get(fresh, flag.path)), get(config, flag.path)
        before, now = (list(value) if isinstance(value, tuple) else value for value in (before, now))
        if flag.path in FOLDERS:
            before, now = (rooted(value) if isinstance(value, str) else value for value in (before, now))
        if before != now:
            changed.append(f"--{name} {before} -> {now}")
    return changed
