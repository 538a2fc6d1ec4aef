"""The commands that are disturbed, each on tiny pipelines: how it is started, started again, and what must be the same in the end."""

import hashlib
import json
import re
import shutil
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
NOT_COMPARED = CLOCKS | {"sha256", "shared"}
"""Nor are digests, since the files themselves are compared, nor what a bench found drawn already."""
DAY = re.compile(rb'"modelspec\.date": ?"[^"]*"')
"""In the header of an exported file: the day that it was written."""
PLAN = "name: two\ntitle: Two subjects\narms: {plain: {settings: {with_prior_preservation: false}}}\n"


@dataclass(frozen=True)
class World:
    """Files that all victims read and none writes: base models, photos, encoders, finished runs, two subjects and a plan for them."""

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
    def lora(self) -> Path:
        return self.root / "lora"

    @property
    def first_stage(self) -> Path:
        return self.root / "stage-1"

    @property
    def later_stage(self) -> Path:
        return self.root / "stage-2"

    @property
    def subjects(self) -> Path:
        return self.root / "subjects"

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
        for folder, make in {self.first_stage: tiny.deepfloyd, self.later_stage: tiny.deepfloyd_superresolution}.items():
            if not folder.exists():
                make().save_pretrained(folder)
        if not self.subjects.exists():
            tiny.photos(self.subjects / "dog7")
            tiny.photos(self.subjects / "toy1", count=3)
            (self.subjects / "subjects.csv").write_text("subject_name,class,live\ndog7,dog,1\ntoy1,toy,0\n")
            (self.subjects / "plan.yaml").write_text(PLAN)
        for folder, more in {self.run: [], self.lora: ["--method", "lora", "--learning_rate", "0.01"]}.items():
            if not (folder / "run.json").exists():
                here = ["--output_dir", str(folder), "--class_data_dir", str(self.root / "class")]
                assert main([*_train(self, self.base), "--max_train_steps", "2", *here, *more]) == 0
        return self


@dataclass(frozen=True)
class Victim:
    """A command, by its words for a work folder; started again by the same words or by those of `again`."""

    name: str
    words: Callable[[World, Path], list[str]]
    again: Callable[[World, Path], list[str]]
    needs: Callable[[World], Path] | None = None
    """A folder that the command writes into, which it finds in its work folder."""

    def begin(self, world: World, work: Path) -> None:
        """A work folder as the command's first start finds it."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        if self.needs:
            shutil.copytree(self.needs(world), work / self.needs(world).name)


def _train(world: World, base: Path) -> list[str]:
    return [
        "train", "--pretrained_model_name_or_path", str(base), "--instance_data_dir", str(world.photos), "--class_noun", "dog",
        "--identifier", "sks", "--resolution", "16", "--num_class_images", "3", "--prior_inference_steps", "2", "--sample_batch_size", "1",
        "--train_batch_size", "2", "--seed", "1", "--validation_inference_steps", "2", "--num_validation_images", "1",
    ]  # fmt: skip


def _training(*extra: str, later: bool = False) -> tuple[Callable[[World, Path], list[str]], Callable[[World, Path], list[str]]]:
    """A training of the base, or of a later stage on class pictures that the stages before it draw."""

    def first(world: World, work: Path) -> list[str]:
        base, own = (world.later_stage, ["--prior_stages", str(world.first_stage)]) if later else (world.base, [])
        return [*_train(world, base), "--output_dir", str(work / "run"), "--class_data_dir", str(work / "class"), *own, *extra]

    def again(world: World, work: Path) -> list[str]:
        return [*first(world, work), "--resume_from_checkpoint", "latest"]

    return first, again


def _generating(world: World, work: Path) -> list[str]:
    few = ["--num_images", "3", "--num_inference_steps", "2", "--batch_size", "1"]
    return ["generate", str(world.run), "a [V] dog", "a [V] dog in the snow", *few, "--output_dir", str(work / "out")]


def _evaluating(world: World, work: Path) -> list[str]:
    few = ["--num_prompts", "2", "--num_images", "2", "--class_samples", "2", "--num_inference_steps", "2", "--batch_size", "1"]
    return ["evaluate", str(world.run), *few, *world.encoders, "--output_dir", str(work / "out")]


def _drawing_through_stages(world: World, work: Path) -> list[str]:
    few = ["--num_images", "3", "--num_inference_steps", "2", "--batch_size", "1"]
    stages = [str(world.first_stage), "a sks dog", "a cat", "--then", str(world.later_stage)]
    return ["generate", *stages, *few, "--output_dir", str(work / "out")]


def _benching(world: World, work: Path) -> list[str]:
    few = ["--num_prompts", "2", "--num_images", "2", "--class_samples", "2", "--max_train_steps", "4", "--checkpointing_steps", "2"]
    tiny_ones = ["--pretrained_model_name_or_path", str(world.base), "--resolution", "16", "--identifier", "sks", *world.encoders]
    plan = [str(world.subjects / "plan.yaml"), "--dataset_dir", str(world.subjects), "--validation_inference_steps", "2"]
    return ["bench", *plan, *few, *tiny_ones, "--output_dir", str(work / "bench")]


def _exporting(format: str, run: Callable[[World], Path]) -> Victim:
    """An export into the run's own folder."""

    def first(world: World, work: Path) -> list[str]:
        return ["export", str(work / run(world).name), "--as", format]

    return Victim(f"export {format}", first, lambda world, work: [*first(world, work), "--overwrite"], needs=run)


SHORT = ("--max_train_steps", "6", "--checkpointing_steps", "2")
TRAINED = {
    "full": (*SHORT, "--use_ema"),
    "lora": (*SHORT, "--method", "lora", "--validation_prompt", "a dog", "--validation_steps", "3"),
    "later stage": (*SHORT, "--with_prior_preservation", "--validation_prompt", "a dog", "--validation_steps", "3"),
}
VICTIMS = {
    one.name: one
    for one in (
        *(Victim(name, *_training(*words, later=name == "later stage")) for name, words in TRAINED.items()),
        Victim("generate", _generating, _generating),
        Victim("generate through stages", _drawing_through_stages, _drawing_through_stages),
        Victim("evaluate", _evaluating, _evaluating),
        Victim("bench", _benching, _benching),
        *(_exporting(format, lambda world: world.lora) for format in ("kohya", "comfy", "pipeline")),
        _exporting("lora", lambda world: world.run),
    )
}


def result(work: Path) -> dict[str, str]:
    """What a command has left, by name: digests of weights and pictures, and of JSON without clocks. Logs and records are no result."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.name.startswith(PREFIX) or "/checkpoint-" in f"/{name}":
            continue
        if path.suffix in (".safetensors", ".png", ".jpg", ".csv"):
            found[name] = hashlib.sha256(DAY.sub(b"", path.read_bytes())).hexdigest()
        if path.name in ("scores.json", "class_images.json") or (path.suffix == ".json" and path.parent.name in ("rows", "export")):
            found[name] = json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True)
    return found


def leftovers(work: Path) -> list[str]:
    """Half-written and passing files, of which none may stay when a command has ended well."""
    found = [path for path in work.rglob("*") if path.name.startswith(PREFIX) or path.name in (INCOMING, HOLDER)]
    return sorted(path.relative_to(work).as_posix() for path in found)


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if name not in NOT_COMPARED}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
