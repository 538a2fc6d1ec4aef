"""Whether a run fits its device, asked before anything is loaded."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import size
from dreambooth.families.complete import WEIGHTS
from dreambooth.memory.estimate import Estimate, estimate, free_bytes, rehearse
from dreambooth.setup.config import TrainConfig
from dreambooth.training.records import Message, Record

SMALL = 512 << 20
"""Bytes of weights below which a model is not asked about: a rehearsal of it would take longer than finding out."""
LEVERS = (
    ("--gradient_checkpointing", ("loop", "gradient_checkpointing"), True),
    ("--mixed_precision bf16", ("loop", "mixed_precision"), "bf16"),
)
"""Settings that lower the peak and change no more than roundings, in the order in which they are tried."""


def refuse_too_large(config: TrainConfig, device: torch.device) -> Iterator[Record]:
    """Say what the run will need; raises SettingError, with what would help, where the device has less."""
    folder = config.model.folder()
    if not config.loop.fit_check or sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in WEIGHTS) < SMALL:
        return
    limit = free_bytes(device)
    found = _estimate(config, device, limit)
    yield Message(f"Memory: {found.device} {found.verdict}.")
    if found.fits is False:
        reason = f"this training {found.verdict} on {device}."
        raise SettingError("--device", reason, fix=f"{_advice(config, device, limit)} --no_fit_check goes on all the same.")


def _estimate(config: TrainConfig, device: torch.device, limit: int | None) -> Estimate:
    """Of the phases that cannot be done in smaller pieces: pictures are drawn fewer at a time where memory runs out."""
    whole = estimate(rehearse(config, device), device, limit=limit)
    return replace(whole, phases=[phase for phase in whole.phases if phase.name not in ("class images", "previews")])


def _advice(config: TrainConfig, device: torch.device, limit: int | None) -> str:
    """What the settings that cost no quality would make of it."""
    asked: list[str] = []
    found: Estimate | None = None
    for words, path, value in LEVERS:
        if getattr(config.loop, path[1]) != value:
            config, asked = config.updated({path: value}), [*asked, words]
            found = _estimate(config, device, limit)
            if found.fits:
                return f"With {' '.join(asked)} it needs {size(found.peak)}, which fits."
    least = f"With {' '.join(asked)} it still needs {size(found.peak)}." if found else "Its activations are as small as they get."
    other = "" if config.method.kind == "lora" else " --method lora needs far less."
    return f"{least}{other}"
