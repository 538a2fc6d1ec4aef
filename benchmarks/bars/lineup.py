"""Can a person tell which subject a model has learned? `python -m benchmarks.bars.lineup OUT`: sheets, and a key to open afterwards.

Each sheet: three pictures that a model drew of its subject, and below them photos of five subjects of that class in the same two
colour words, one of which is the right one; two of the others share its pattern, the rest have any. Colours alone do not help; shape,
pattern and its size, and material do. Guessing is right once in five.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.bars.run import rows_of
from benchmarks.selection.referee import SIZE
from dreambooth.files.images import GREY, PAPER
from dreambooth.toybox.world import CONTEXTS, PATTERNS, Scene, Subject, draw_subject, held_out_subjects, render

AMONG, SHOWN, SCALE, GAP, LINE = 5, 3, 192, 8, 24


def main() -> None:
    """Write a sheet for every subject that has a row of the recipe, and `key.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the sheets go")
    parser.add_argument("--bench", type=Path, default=Path(__file__).parents[1] / "tables", help="a bench's output folder")
    parser.add_argument("--seed", type=int, default=0, help="of the places and of the other four")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    first = {row["subject"]: row for row in rows_of(args.bench) if row["seed"] == 0}
    key = {}
    for number, subject in enumerate(s for s in held_out_subjects() if s.name in first):
        rng = np.random.default_rng([args.seed, number, 79])
        place = int(rng.integers(AMONG))
        sheet(drawn(first[subject.name], args.bench), lined_up(subject, place, rng)).save(args.out / f"{number:02d}.png")
        key[f"{number:02d}.png"] = {"subject": subject.name, "right": place + 1}
    (args.out / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")


def drawn(row: dict[str, Any], bench: Path) -> list[Image.Image]:
    """The model's pictures of its subject, the first of each prompt."""
    names = [names[0] for prompt, names in row["pictures"].items() if "[V]" in prompt][:SHOWN]
    return [Image.open(bench / name).convert("RGB") for name in names]


def lined_up(subject: Subject, place: int, rng: np.random.Generator) -> list[Image.Image]:
    """Photos of five subjects from the front, each in a place of its own; the right one at `place`."""
    patterns = [subject.pattern, subject.pattern, *rng.choice(list(PATTERNS), AMONG - 3).tolist()]
    others = [replace(draw_subject(rng, noun=subject.noun, colors=subject.colors), pattern=pattern) for pattern in patterns]
    rng.shuffle(others)  # type: ignore[arg-type]  # a list will do
    all_of_them = [*others[:place], subject, *others[place:]]
    scenes = [Scene(context=str(rng.choice(list(CONTEXTS))), seed=int(rng.integers(1 << 30))) for _ in all_of_them]
    return [Image.fromarray(render(*one, SIZE)) for one in zip(all_of_them, scenes, strict=True)]


def sheet(above: list[Image.Image], below: list[Image.Image]) -> Image.Image:
    """Drawn pictures in the first row, numbered photos in the second."""
    image = Image.new("RGB", (AMONG * (SCALE + GAP) + GAP, 2 * (SCALE + LINE + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for row, (names, pictures) in enumerate(((["drawn"] * SHOWN, above), ([str(n + 1) for n in range(AMONG)], below))):
        for column, (name, picture) in enumerate(zip(names, pictures, strict=False)):
            x, y = GAP + column * (SCALE + GAP), GAP + row * (SCALE + LINE + GAP)
            pen.text((x, y), name, GREY, font=font)
            image.paste(picture.resize((SCALE, SCALE), Image.Resampling.LANCZOS), (x, y + LINE))
    return image


if __name__ == "__main__":
    main()
