"""The pictures of docs/came-out-wrong.md: `python -m benchmarks.symptoms [OUT]`, half an hour of one core; it can be stopped.

Short runs on the toybox, each with one thing wrong; what each draws lies above what the right run draws, at equal prompts and seeds, and
nothing is chosen: the seeds are 0, 1, 2 ... A run that is done is not done again; `--only NAME` makes one picture.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

import dreambooth
from dreambooth.files.images import grid_sheet, save_png
from dreambooth.setup.record import RECORD
from dreambooth.toybox.world import Subject, held_out_subjects, render

SIZE, QUALITY = 128, 82
PICTURES = Path(__file__).parents[1] / "docs" / "images"
SETTINGS: Mapping[str, Any] = {"pretrained_model_name_or_path": "toybox", "seed": 0, "skip_final_inference": True}


@dataclass(frozen=True)
class Trained:
    """One run: what of the recipe is changed, and on which photos."""

    subject: str = "dog_spots"
    settings: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    """Where all photos were taken; left empty, each in a place of its own."""


RUNS = {
    "right": Trained(),
    "few_steps": Trained(settings={"max_train_steps": 35}),
    "high_rate": Trained(settings={"learning_rate": 3e-3}),
    "burnt": Trained(settings={"learning_rate": 4.5e-2, "max_train_steps": 35}),
    "no_prior": Trained(settings={"with_prior_preservation": False}),
    "one_place": Trained(place="purple rug"),
    "flipped": Trained(subject="teapot_stars", settings={"random_flip": True}),
}
NEW = ("a [V] dog on the beach", "a [V] dog in the jungle", "a [V] dog with a city in the background", "an oil painting of a [V] dog")


@dataclass(frozen=True)
class Symptom:
    """One picture of the page: columns are prompts, one seed each; rows are runs with their labels, the wrong one first."""

    rows: Mapping[str, str]
    prompts: tuple[str, ...] = NEW
    photos: str = ""
    """The run whose photos are the last row."""


SYMPTOMS = {
    "few-steps": Symptom({"few_steps": "35 steps", "right": "350 steps, the recipe's"}),
    "high-rate": Symptom({"high_rate": "a rate of 3e-3", "right": "4.5e-4, the recipe's"}),
    "burnt": Symptom({"burnt": "a hundred times the recipe's rate, 35 steps", "right": "the recipe's rate"}),
    "no-prior": Symptom({"no_prior": "without class images", "right": "with class images"}, prompts=("a dog",) * 4),
    "one-place": Symptom(
        {"one_place": "all photos on one rug", "right": "each photo in another place"}, prompts=("a [V] dog",) * 4, photos="one_place"
    ),
    "flipped": Symptom({"flipped": "--random_flip"}, prompts=("a [V] teapot on the beach",) * 4, photos="flipped"),
}


def photos(trained: Trained, folder: Path) -> list[Image.Image]:
    """The photos of a run, written into a folder."""
    subject = _subject(trained.subject)
    pictures = []
    for number, scene in enumerate(subject.photo_scenes()):
        scene = replace(scene, context=trained.place) if trained.place else scene
        pictures.append(Image.fromarray(render(subject, scene, SIZE)))
        save_png(folder / f"{number}.png", pictures[-1], {})
    return pictures


def learned(trained: Trained, taken: Path, folder: Path) -> dreambooth.Run:
    """A run in a folder, trained where it is not yet there, with its photos in another."""
    photos(trained, taken)
    begun = {"resume_from_checkpoint": "latest"} if (folder / RECORD).is_file() else {}
    noun = _subject(trained.subject).noun
    return dreambooth.train(instance_data_dir=taken, output_dir=folder, class_noun=noun, **SETTINGS, **trained.settings, **begun)


def run(name: str, out: Path) -> dreambooth.Run:
    """A run of the list."""
    return learned(RUNS[name], out / "photos" / name, out / name)


def sheet(symptom: Symptom, out: Path) -> Image.Image:
    """The symptom's picture."""
    rows = []
    for name, label in symptom.rows.items():
        model = run(name, out)
        drawn = [model.generate(prompt, num_images=1, seed=seed)[0] for seed, prompt in enumerate(symptom.prompts)]
        rows.append((label, drawn))
    if symptom.photos:
        taken = photos(RUNS[symptom.photos], out / "photos" / symptom.photos)
        rows.append(("the photos of the first row", taken[: len(symptom.prompts)]))
    return grid_sheet(rows, symptom.prompts, footer="toybox: a small model of a rendered world")


def _subject(name: str) -> Subject:
    return next(one for one in held_out_subjects() if one.name == name)


def main() -> None:
    """Train what is missing, and write the pictures."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("out", nargs="?", default="runs/symptoms", help="folder of the runs")
    words.add_argument("--only", choices=SYMPTOMS, help="one picture")
    words.add_argument("--pictures", default=PICTURES, type=Path, help="where the pictures go")
    asked = words.parse_args()
    for name, symptom in SYMPTOMS.items():
        if asked.only in (None, name):
            path = asked.pictures / f"wrong-{name}.jpg"
            sheet(symptom, Path(asked.out)).save(path, "JPEG", quality=QUALITY, optimize=True)
            print(f"{path}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
