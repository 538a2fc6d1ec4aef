"""The README's picture: `python -m benchmarks.showcase [OUT]`, a quarter of an hour of one core; it can be stopped.

Four subjects learned by the toybox's recipe, and what each model draws. Nothing is chosen by what came out: of each class the first
held-out subject, and seed 0 of training and of every picture. A run that is done is not done again.
"""

import argparse
from pathlib import Path

from PIL import Image

from benchmarks.symptoms import PICTURES, QUALITY, Trained, learned, photos
from dreambooth.files.images import grid_sheet
from dreambooth.toybox.world import held_out_subjects

CLASSES = ("dog", "teapot", "robot", "backpack")
PROMPTS = (
    "a [V] {} on the beach", "a [V] {} in the snow", "a [V] {} with a city in the background", "a [V] {} from above",
    "a pencil sketch of a [V] {}", "a red [V] {}",
)  # fmt: skip


def row(noun: str, out: Path) -> tuple[str, list[Image.Image]]:
    """A subject's name, the first of its photos, and its picture of every prompt."""
    name = next(one.name for one in held_out_subjects() if one.noun == noun)
    model = learned(Trained(subject=name), out / "photos" / name, out / name)
    drawn = [model.generate(prompt.format(noun), num_images=1, seed=0)[0] for prompt in PROMPTS]
    return name, [photos(Trained(subject=name), out / "photos" / name)[0], *drawn]


def main() -> None:
    """Train what is missing, and write the picture."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("out", nargs="?", default="runs/showcase", type=Path, help="folder of the runs")
    words.add_argument("--picture", default=PICTURES / "showcase.jpg", type=Path, help="where the picture goes")
    asked = words.parse_args()
    heads = ("one of its photos", *(prompt.format("...") for prompt in PROMPTS))
    sheet = grid_sheet([row(noun, asked.out) for noun in CLASSES], heads, footer="toybox: a small model of a rendered world; seed 0")
    sheet.save(asked.picture, "JPEG", quality=QUALITY, optimize=True)
    print(f"{asked.picture}: {asked.picture.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
