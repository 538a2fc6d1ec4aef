"""What the study learns from and is held against, as files: `python -m benchmarks.sr_finetuning.data FOLDER` renders the toybox's.

    FOLDER/SUBJECT/photos/      five photos to tune on, as in every test on the toybox
    FOLDER/SUBJECT/others/      as many pictures of as many other subjects of the training world, each with its caption: the control's
    FOLDER/SUBJECT/truth/       other scenes of the subject, which nothing learns from
    FOLDER/SUBJECT/masks/       where the subject is in those, by the same names
    FOLDER/SUBJECT/subject.txt  its class noun

The same tree with photographs and masks by hand is a study of a real cascade.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth.toybox.world import (
    CONTEXTS,
    Scene,
    Subject,
    caption,
    draw_training_subject,
    held_out_subjects,
    render,
    render_mask,
    render_photos,
)

KNOWN = (
    "backpack_sunny", "boot_stars", "bowl_checks", "candle_stripes", "cat_dots", "dog_spots", "plushie_stars", "robot_checks", "vase_dots",
)  # fmt: skip
"""Subjects whose patterns the training world has; the others' zigzags and hearts it has not."""
UNKNOWN = (
    "backpack_hearts", "boot_zigzag", "candle_hearts", "clock_zigzag", "dog_zigzag", "duck_hearts", "teapot_zigzag", "vase_hearts",
)  # fmt: skip
SUBJECTS = (*UNKNOWN, *KNOWN)
SCENES, SIZE = 8, 128


@dataclass(frozen=True)
class SubjectFiles:
    """One subject's part of the tree."""

    folder: Path

    @property
    def noun(self) -> str:
        return (self.folder / "subject.txt").read_text(encoding="utf-8").strip()

    @property
    def truth(self) -> list[Path]:
        return sorted((self.folder / "truth").glob("*.png"))

    def mask(self, picture: Path) -> np.ndarray:
        """Where the subject is, bool [h, w]."""
        with Image.open(self.folder / "masks" / picture.name) as image:
            return np.asarray(image.convert("L")) > 127


def write(folder: Path, subject: Subject, size: int) -> None:
    """Render a subject's files, unless they are there."""
    if (folder / "subject.txt").is_file():
        return
    rng = np.random.default_rng([7, *subject.name.encode()])
    for place, pixels in enumerate(render_photos(subject, size)):
        save(folder / "photos" / f"{place}.png", pixels)
    for place in range(len(subject.photo_scenes())):
        other = draw_training_subject(rng)
        scene = Scene(context=str(rng.choice(list(CONTEXTS))), seed=int(rng.integers(1 << 30)))
        save(folder / "others" / f"{place}.png", render(other, scene, size))
        (folder / "others" / f"{place}.txt").write_text(caption(other, scene), encoding="utf-8")
    for place, context in enumerate(rng.permutation(list(CONTEXTS))[:SCENES]):
        scene = Scene(context=str(context), view=("front", "side")[place % 2], seed=int(rng.integers(1 << 30)))
        save(folder / "truth" / f"{place}.png", render(subject, scene, size))
        save(folder / "masks" / f"{place}.png", (render_mask(subject, scene, size) * 255).round().astype(np.uint8))
    (folder / "subject.txt").write_text(subject.noun, encoding="utf-8")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--size", type=int, default=SIZE)
    options = parser.parse_args()
    for subject in held_out_subjects():
        if subject.name in options.subjects:
            write(options.folder / subject.name, subject, options.size)


if __name__ == "__main__":
    main()
