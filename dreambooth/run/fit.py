"""Whether a run fits its device, asked before anything is loaded; and what makes it fit."""

from collections.abc import Generator, Iterator

import torch

from dreambooth.core.device import OutOfMemory, parse_memory
from dreambooth.core.errors import DreamboothError, RunError, SettingError
from dreambooth.core.wording import size
from dreambooth.families import family_of
from dreambooth.families.complete import WEIGHTS
from dreambooth.memory.estimate import free_bytes, installed_bytes, with_configurations
from dreambooth.memory.fitting import Fit, first_saving, fitting, least_estimate, saved
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.resuming import Start
from dreambooth.training.ranks import Ranks
from dreambooth.training.records import Message, Record, Waiting

SMALL = 512 << 20
"""Bytes of weights below which a model is not asked about: a rehearsal of it would take longer than finding out."""
THIS_DEVICE = "device"
"""What --fit means alone."""


def fitted(config: TrainConfig, processes: Ranks, start: Start, *, of_hub: bool) -> Generator[Record, None, TrainConfig]:
    """Say what the run will need, and give it back with what --fit chooses; raises SettingError where the device has less.

    Asked twice: for models `of_hub` before they are downloaded, as their configurations are enough, and for others once those have been
    checked. A run that goes on has what was chosen when it began.
    """
    if of_hub == (config.model.is_here or bool(config.model.single_file)):
        return config
    given, device, wanted = config, processes.device, None if start.checkpoint else config.loop.fit
    if not wanted and (not config.loop.fit_check or _is_small(config)):
        return config
    config = with_configurations(config)
    config = resolve(config, family_of(config.model))
    limit = free_bytes(device) if wanted in (None, THIS_DEVICE) else parse_memory(wanted, "--fit")
    limit = processes.agreed(limit or 0) or None
    if wanted:
        yield Waiting("Fit: looking for the cheapest settings ...")
    plain = least_estimate(config, device, limit=limit)
    if not wanted:
        yield Message(f"Memory: {plain.device} {plain.verdict}{_taken(device, limit)}.")
    if plain.fits is not False:
        yield from [Message(f"Fit: nothing has to be changed; {plain.device} {plain.verdict}.")] if wanted else []
        return given
    found = fitting(config, device, limit=limit, plain=plain, processes=processes.count)
    if wanted and found.estimate.fits:
        yield Message(f"Fit: {found.explained(config)}; {saved(plain, found)}.")
        return given.updated(found.changes)
    if wanted:
        raise SettingError("--fit", f"the least that this training needs is {_least(config, found)}.", fix=_other(config))
    reason = f"this training {plain.verdict}{_taken(device, limit)}, on {device}."
    raise SettingError("--device", reason, fix=f"{_advice(config, found)} --no_fit_check goes on all the same.")


def explained(records: Iterator[Record], config: TrainConfig, processes: Ranks) -> Iterator[Record]:
    """Records, of which memory that runs out is explained by what the run needs, and by the setting that would lower it."""
    try:
        yield from records
    except OutOfMemory as error:
        advice = _after_all(config, processes)
        raise RunError(f"{error} {advice} Finished checkpoints are kept.") from error


def _after_all(config: TrainConfig, processes: Ranks) -> str:
    """What a run that has run out of memory needs, and with what it needs less."""
    try:
        plain = least_estimate(config, processes.device, limit=None)
        found = first_saving(config, processes.device, plain=plain, processes=processes.count)
    except (DreamboothError, RuntimeError, MemoryError):  # there may be too little memory to think about it
        return "A smaller --resolution needs less."
    needs = f"This needs {size(plain.peak)}"
    if found is None:
        return f"{needs}. {_other(config)}"
    return f"{needs}; with {found.explained(config)} {size(found.estimate.peak)}."


def _is_small(config: TrainConfig) -> bool:
    """Whether the weights are here, and hardly any."""
    if not config.model.is_here:
        return False
    return sum(path.stat().st_size for path in config.model.folder().rglob("*") if path.suffix in WEIGHTS) < SMALL


def _taken(device: torch.device, limit: int | None) -> str:
    """A word about what others hold of a device."""
    there = installed_bytes(device)
    return f" (free of {size(there)})" if there and limit and limit < 0.9 * there else ""


def _least(config: TrainConfig, found: Fit) -> str:
    return f"{size(found.estimate.peak)} ({found.estimate.highest.name})" + (f", with {found.explained(config)}" if found.levers else "")


def _advice(config: TrainConfig, found: Fit) -> str:
    if found.estimate.fits:
        return f"--fit trains it with {found.explained(config)}: {size(found.estimate.peak)}."
    return f"The least that it needs is {_least(config, found)}. {_other(config)}"


def _other(config: TrainConfig) -> str:
    """What would need far less, and be another training."""
    return "A smaller --resolution needs less." if config.method.kind == "lora" else "--method lora needs far less."
