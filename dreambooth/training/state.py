"""Checkpoints: whole folders or none, from which a run goes on bit for bit as if it had not stopped.

`checkpoint-N/` holds the learned in the ecosystem's layout, and `training_state/` beside it: the optimizer's state, the gradient scaler,
and, with a moving average, the weights themselves (the layout then holds the average). There is no random state to keep: every draw is a
function of (seed, update, row).
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import whole_folder, write_json
from dreambooth.files.places import remove
from dreambooth.files.reading import TypedDict, needed_json, open_shape
from dreambooth.files.sums import differing, refuse
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.methods.base import Learner
from dreambooth.schema import nearest
from dreambooth.training.ema import Average
from dreambooth.training.step import Update

STATE = "training_state"


@open_shape
class SavedLoop(TypedDict):
    """What is read of the settings of the loop."""

    seed: int


@open_shape
class SavedSettings(TypedDict):
    """The settings that a checkpoint was made with."""

    loop: SavedLoop


@open_shape
class Saved(TypedDict):
    """`state.json`: the optimizer's state without its tensors, and how far the run is."""

    step: Annotated[int, Ge(0)]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    settings: SavedSettings


def checkpoints(output_dir: Path) -> list[Path]:
    """All whole checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if (path / STATE / "state.json").is_file()), key=step_of)


def step_of(path: Path) -> int:
    """The number of updates behind a checkpoint."""
    return int(path.name.removeprefix("checkpoint-"))


def find_checkpoint(output_dir: Path, wanted: str, *, verify: bool = True) -> tuple[Path | None, list[str]]:
    """`latest` (None when there is none yet) or a checkpoint by name, and a sentence for each newer one that `latest` had to skip.

    Raises SettingError for a checkpoint that is named and missing, half written or damaged, and where `latest` finds none but damaged ones.
    """
    present = checkpoints(output_dir)
    if wanted != "latest":
        return _named_checkpoint(output_dir, wanted, present, verify=verify), []
    skipped: list[str] = []
    for path in reversed(present):
        harm = differing(path) if verify else []
        if not harm:
            return path, skipped
        skipped.append(f"{path.name} is skipped: {harm[0]} is damaged.")
    if skipped:
        fix = "Start anew with --overwrite_output_dir, or use them as they are with --no_verify."
        raise SettingError("--resume_from_checkpoint", f"no checkpoint in {output_dir} is whole. {' '.join(skipped)}", fix=fix)
    return None, []


def _named_checkpoint(output_dir: Path, wanted: str, present: list[Path], *, verify: bool) -> Path:
    path = output_dir / Path(wanted).name
    names = [p.name for p in present]
    if path not in present:
        state = "is half written" if path.is_dir() else "does not exist"
        there = f"There are {', '.join(names)}." if names else "This run has no checkpoint; leave the flag out."
        raise SettingError("--resume_from_checkpoint", f"{path} {state}.", fix=f"{there} {nearest(path.name, names)}")
    if verify:
        refuse(path, differing(path), fix="Resume from another checkpoint (`latest` takes the newest whole one), or pass --no_verify.")
    return path


@dataclass(frozen=True)
class Inputs:
    """What decides a run, as its checkpoints keep it: when one goes on, what has changed since is named."""

    settings: Mapping[str, Any]
    material: Mapping[str, Any]
    """What it is trained on (`dreambooth.run.provenance`)."""


def save_checkpoint(folder: Path, learner: Learner, update: Update, average: Average | None, *, step: int, inputs: Inputs) -> None:
    """Write `checkpoint-N` whole, or not at all."""
    with whole_folder(folder) as partial:
        with average.applied() if average else nullcontext():
            learner.save(partial, whole=False)
        state = partial / STATE
        state.mkdir()
        tensors, rest = _flat(update.state_dict())
        parts = {"optimizer": tensors}
        if average:
            parts |= {"weights": _named(average.parameters), "average": _named(average.values)}
        for name, values in parts.items():
            save_tensors(state / f"{name}.safetensors", values)
        saved = {"step": step, "optimizer": rest, "scaler": update.scaler.state_dict(), "settings": dict(inputs.settings)}
        saved["material"] = dict(inputs.material)
        write_json(state / "state.json", saved)


def load_checkpoint(folder: Path, learner: Learner, update: Update, average: Average | None) -> int:
    """Put a checkpoint into an attached model and its optimizer; returns how many updates are behind it."""
    state = folder / STATE
    saved = read_state(folder)
    learner.load(folder)
    if average:
        if not (state / "average.safetensors").is_file():
            raise SettingError("--use_ema", f"{folder} was saved without a moving average.", fix="Leave --use_ema out.")
        _fill(average.parameters, load_tensors(state / "weights.safetensors")[0])
        _fill(average.values, load_tensors(state / "average.safetensors")[0])
    tensors, _ = load_tensors(state / "optimizer.safetensors")
    update.load_state_dict(_nested(saved["optimizer"], tensors))
    if update.scaler.is_enabled() and saved["scaler"]:
        update.scaler.load_state_dict(saved["scaler"])
    return int(saved["step"])


def read_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint; raises SettingError when it is damaged."""
    return needed_json(folder / STATE / "state.json", Saved, setting="--resume_from_checkpoint", fix="Resume from another checkpoint.")


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint; one that somebody else has deleted is no error."""
    remove(path, root=path.parent)


def _named(tensors: Any) -> dict[str, torch.Tensor]:
    return {f"{place:05d}": tensor for place, tensor in enumerate(tensors)}


@torch.no_grad()
def _fill(places: list[Any], tensors: dict[str, torch.Tensor]) -> None:
    for place, tensor in zip(places, tensors.values(), strict=True):
        place.data.copy_(tensor) if isinstance(place, nn.Parameter) else place.copy_(tensor)


def _flat(tree: Any, path: str = "") -> tuple[dict[str, torch.Tensor], Any]:
    """A state dict as tensors by path, and the rest as JSON in which each tensor's place is marked."""
    if isinstance(tree, torch.Tensor):
        return {path: tree}, {"tensor": path}
    if isinstance(tree, dict):
        parts = {key: _flat(value, f"{path}/{key}") for key, value in tree.items()}
        keys = [[key, part[1]] for key, part in parts.items()]
        return {name: t for part in parts.values() for name, t in part[0].items()}, {"dict": keys}
    if isinstance(tree, (list, tuple)):
        parts = [_flat(value, f"{path}/{place}") for place, value in enumerate(tree)]
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {name: t for part in parts for name, t in part[0].items()}, {kind: [part[1] for part in parts]}
    return {}, {"value": tree}


def _nested(rest: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The state dict back from `_flat`'s two halves."""
    (kind, value), = rest.items()  # fmt: skip
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _nested(part, tensors) for key, part in value}
    if kind in ("list", "tuple"):
        parts = [_nested(part, tensors) for part in value]
        return tuple(parts) if kind == "tuple" else parts
    return value
