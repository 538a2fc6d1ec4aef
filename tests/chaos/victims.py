"""The commands that are disturbed, each on tiny pipelines: how it is started, started again, and what must be the same in the end."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreambooth.cli import main
from dreambooth.files.entries import INCOMING
from dreambooth.files.leftovers import PREFIX
from dreambooth.files.locks import HOLDER
from dreambooth.metrics.perceptual import convert_lpips
from tests import tiny
from tests.metrics import encoders

CLOCKS = {"seconds", "made", "images_per_second", "evaluation_seconds", "host", "created", "everything", "date", "when", "cost"}
"""Fields of JSON files that tell times and machines, which no two runs share."""


@dataclass(frozen=True)
class World:
    """Files that all victims read and none writes: a base model, photos, encoders, a finished run."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def encoders(self) -> list[str]:
        return [word for name in ("dino", "clip", "lpips") for word in (f"--{name}_encoder", str(self.root / "encoders" / name))]

    def build(self) -> "World":
        """Made once; a second call does nothing."""
        if not self.base.exists():
            tiny.stable_diffusion().save_pretrained(self.base)
            tiny.photos(self.photos)
            made = self.root / "encoders"
            encoders.dino_folder(made / "dino")
            encoders.clip_folder(made / "clip")
            convert_lpips(*encoders.lpips_states(), made / "lpips", size=64)
        if not (self.run / "run.json").exists():
            here = ["--output_dir", str(self.run), "--class_data_dir", str(self.root / "class")]
            assert main([*_train(self), "--max_train_steps", "2", *here]) == 0
        return self


@dataclass(frozen=True)
class Victim:
    """A command, by its words for a work folder; started again by the same words or by those of `again`."""

    name: str
    words: Callable[[World, Path], list[str]]
    again: Callable[[World, Path], list[str]]


def _train(world: World) -> list[str]:
    return [
        "train", "--pretrained_model_name_or_path", str(world.base), "--instance_data_dir", str(world.photos), "--class_noun", "dog",
        "--identifier", "sks", "--resolution", "16", "--num_class_images", "3", "--prior_inference_steps", "2", "--sample_batch_size", "1",
        "--train_batch_size", "2", "--seed", "1", "--validation_inference_steps", "2", "--num_validation_images", "1",
    ]  # fmt: skip


def _training(*extra: str) -> tuple[Callable[[World, Path], list[str]], Callable[[World, Path], list[str]]]:
    def first(world: World, work: Path) -> list[str]:
        return [*_train(world), "--output_dir", str(work / "run"), "--class_data_dir", str(work / "class"), *extra]

    def again(world: World, work: Path) -> list[str]:
        return [*first(world, work), "--resume_from_checkpoint", "latest"]

    return first, again


def _generating(world: World, work: Path) -> list[str]:
    few = ["--num_images", "3", "--num_inference_steps", "2", "--batch_size", "1"]
    return ["generate", str(world.run), "a [V] dog", "a [V] dog in the snow", *few, "--output_dir", str(work / "out")]


def _evaluating(world: World, work: Path) -> list[str]:
    few = ["--num_prompts", "2", "--num_images", "2", "--class_samples", "2", "--num_inference_steps", "2", "--batch_size", "1"]
    return ["evaluate", str(world.run), *few, *world.encoders, "--output_dir", str(work / "out")]


SHORT = ("--max_train_steps", "6", "--checkpointing_steps", "2")
TRAINED = {
    "full": (*SHORT, "--use_ema"),
    "lora": (*SHORT, "--method", "lora", "--validation_prompt", "a dog", "--validation_steps", "3"),
}
VICTIMS = {
    **{name: Victim(name, *_training(*words)) for name, words in TRAINED.items()},
    "generate": Victim("generate", _generating, _generating),
    "evaluate": Victim("evaluate", _evaluating, _evaluating),
}


def result(work: Path) -> dict[str, str]:
    """What a command has left, by name: digests of weights and pictures, and of JSON without clocks. Logs and records are no result."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.name.startswith(PREFIX) or "/checkpoint-" in f"/{name}":
            continue
        if path.suffix in (".safetensors", ".png", ".csv"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name in ("scores.json", "class_images.json"):
            found[name] = json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True)
    return found


def leftovers(work: Path) -> list[str]:
    """Half-written and passing files, of which none may stay when a command has ended well."""
    found = [path for path in work.rglob("*") if path.name.startswith(PREFIX) or path.name in (INCOMING, HOLDER)]
    return sorted(path.relative_to(work).as_posix() for path in found)


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if name not in CLOCKS}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
