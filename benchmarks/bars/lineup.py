"""Can a person say which subject a model has learned? A sheet for each held-out subject, and the count of a reader's answers.

    python -m benchmarks.bars.lineup make SHEETS [--seed 11]              # 00.png ...: nothing in the folder says which is right
    python -m benchmarks.bars.lineup count ANSWERS.json [--seed 11]       # {"00.png": 3, ...}, a number from 1 to 5 for each

Each sheet: three pictures that a model drew of its subject, and below them photos of five subjects of that class in the same two
colour words, one of which is the right one; two of the others share its pattern, the rest have any. Colours alone do not help; shape,
pattern and its size, and material do. Guessing is right once in five.
"""

import argparse
import json
import math
from collections.abc import Iterator
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
    """Write the sheets, or count the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("make", "count"))
    parser.add_argument("path", type=Path, help="where the sheets go; or the file of answers")
    parser.add_argument("--bench", type=Path, default=Path(__file__).parents[1] / "tables", help="a bench's output folder")
    parser.add_argument("--seed", type=int, default=0, help="of the places and of the other four")
    args = parser.parse_args()
    first = {row["subject"]: row for row in rows_of(args.bench) if row["seed"] == 0}
    asked = list(line_ups({subject.name: subject for subject in held_out_subjects() if subject.name in first}, args.seed))
    if args.verb == "count":
        print(*counted(asked, json.loads(args.path.read_text(encoding="utf-8"))), sep="\n")
        return
    args.path.mkdir(parents=True, exist_ok=True)
    for name, subject, place, rng in asked:
        sheet(drawn(first[subject.name], args.bench), lined_up(subject, place, rng)).save(args.path / name)


def line_ups(subjects: dict[str, Subject], seed: int) -> Iterator[tuple[str, Subject, int, np.random.Generator]]:
    """For each subject its sheet's name, itself, its place from 0, and what draws the other four."""
    for number, subject in enumerate(subjects.values()):
        rng = np.random.default_rng([seed, number, 79])
        yield f"{number:02d}.png", subject, int(rng.integers(AMONG)), rng


def counted(asked: list[tuple[str, Subject, int, np.random.Generator]], answers: dict[str, int]) -> list[str]:
    """Which answers are right, and how often guessing alone would do as well or better."""
    missing = [name for name, *_ in asked if name not in answers]
    if missing:
        raise SystemExit(f"There is no answer for {', '.join(missing)}.")
    lines = [f"{name} {subject.name}: {answers[name]}, right is {place + 1}" for name, subject, place, _ in asked]
    right, count = sum(answers[name] == place + 1 for name, _, place, _ in asked), len(asked)
    chance = sum(math.comb(count, k) * (AMONG - 1) ** (count - k) for k in range(right, count + 1)) / AMONG**count
    return [*lines, f"{right} of {count} are right; guessing gives {count / AMONG:g}, and so many or more in {chance:.1e} of the cases."]


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
