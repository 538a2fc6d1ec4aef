"""The axes of a grid of pictures: which two of six vary, and over which values. Read before anything is loaded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import nearest, shown
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import named
from dreambooth.setup.strength import SCALED
from dreambooth.training.state import checkpoints, step_of

AXES = {
    "prompt": "prompts", "seed": "seeds", "guidance_scale": "guidance", "num_inference_steps": "steps", "checkpoint": "checkpoints",
    "lora_scale": "lora_strength",
}  # fmt: skip
"""Names, and how they are also written."""
USUAL: Mapping[str, tuple[float, ...]] = {
    "guidance_scale": (1.0, 3.0, 5.0, 7.5, 10.0), "num_inference_steps": (10, 20, 30, 50), "lora_scale": (0.0, 0.5, 0.75, 1.0, 1.25),
}  # fmt: skip
"""Values where none are given."""
BOUNDS = {"guidance_scale": (0, 1000), "num_inference_steps": (1, 10**6), "lora_scale": (-10, 10), "seed": (0, 2**63 - 1)}
WHOLE = ("num_inference_steps", "seed")


@dataclass(frozen=True)
class Axis:
    """One side of a grid."""

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A picture for each value of one axis with each value of another."""

    rows: Axis
    columns: Axis

    def cells(self) -> list[dict[str, Any]]:
        """What varies of each picture, row by row."""
        return [{self.rows.name: row, self.columns.name: column} for row in self.rows.values for column in self.columns.values]


@dataclass(frozen=True)
class Subject:
    """What a request says beside its grid."""

    run: str
    folder: Path | None
    """The run's folder, where the model is the result of one and not one of its checkpoints."""
    config: TrainConfig | None
    lora: str | None
    prompts: Sequence[str]
    seeds: Sequence[int]
    given: frozenset[str]
    """Settings of the pictures that were given by hand."""


def read_grid(text: str, values: Sequence[str], subject: Subject) -> Grid:
    """The grid of `prompt,lora_scale` and of values such as `lora_scale=0.5,1`; raises SettingError for what it cannot be."""
    names = [_name(word.strip(), "--grid") for word in text.split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise SettingError("--grid", f"a grid has two different axes, not {text!r}.", fix=f"Name two of {', '.join(AXES)}.")
    wanted = _values(values, names)
    if "prompt" not in names and len(subject.prompts) > 1:
        raise SettingError("--grid", f"{len(subject.prompts)} prompts were given, and prompt is no axis.", fix="Name prompt, or give one.")
    if "seed" not in names and "num_images" in subject.given:
        raise SettingError("--num_images", "a grid has one picture in each place.", fix="Leave it out, or name seed as an axis.")
    if twice := next((name for name in names if name in USUAL and name in subject.given), None):
        raise SettingError(f"--{twice}", "is an axis of the grid.", fix=f"Give its values: --grid_values {twice}=...")
    return Grid(*(_axis(name, wanted.get(name), subject) for name in names))


def _name(word: str, setting: str) -> str:
    """An axis by its name, however it is written."""
    plain = word.lower().replace("-", "_")
    found = next((name for name, other in AXES.items() if plain in (name, other)), None)
    if found is None:
        raise SettingError(setting, f"{shown(word)!r} is no axis.", fix=nearest(plain, AXES) or f"There are {', '.join(AXES)}.")
    return found


def _values(texts: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        head, equals, rest = text.partition("=")
        words = [word.strip() for word in rest.split(",") if word.strip()]
        if not equals or not words:
            raise SettingError("--grid_values", f"{shown(text)!r} gives no values.", fix="Write them as in lora_scale=0.5,1.")
        name = _name(head.strip(), "--grid_values")
        if name == "prompt" or name not in names:
            fix = "Prompts are given as prompts." if name == "prompt" else f"Name it: --grid {names[0]},{name}."
            raise SettingError("--grid_values", f"{name} takes no values here.", fix=fix)
        if name in found or len(set(words)) < len(words):
            raise SettingError("--grid_values", f"{shown(text)!r}: a value or an axis stands twice.", fix="Leave out one of them.")
        found[name] = words
    return found


def _axis(name: str, words: Sequence[str] | None, subject: Subject) -> Axis:
    if name == "prompt":
        return Axis(name, tuple(subject.prompts), tuple(subject.prompts))
    if name == "checkpoint":
        return _checkpoints(words, subject)
    if name == "lora_scale" and not subject.lora and not (subject.config and subject.config.method.kind in SCALED):
        raise SettingError("--grid", f"{subject.run} holds no LoRA whose strength could vary.", fix="Name another axis, or add --lora.")
    values = tuple(_number(name, word) for word in words) if words else tuple(subject.seeds) if name == "seed" else USUAL[name]
    return Axis(name, values, tuple(f"{name.replace('_', ' ')} {value:.12g}" for value in values))


def _number(name: str, word: str) -> float | int:
    low, high = BOUNDS[name]
    try:
        value = int(word) if name in WHOLE else float(word)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        what = "a whole number" if name in WHOLE else "a number"
        raise SettingError("--grid_values", f"{name}={shown(word)}: it should be {what} from {low} to {high}.")
    return value


def _checkpoints(words: Sequence[str] | None, subject: Subject) -> Axis:
    """The named checkpoints of a run; without names all that it has kept, and its result."""
    if subject.folder is None:
        raise SettingError("--grid", f"{subject.run} is no run, so it has no checkpoints to vary.", fix="Name a run's own folder.")
    if words:
        paths = [subject.folder if word == "result" else named(f"{subject.run}@{word}", "--grid_values") for word in words]
        return Axis("checkpoint", tuple(map(str, paths)), tuple("result" if word == "result" else f"step {word}" for word in words))
    kept = checkpoints(subject.folder)
    labels = (*(f"step {step_of(path)}" for path in kept), "result")
    return Axis("checkpoint", (*map(str, kept), str(subject.folder)), labels)
