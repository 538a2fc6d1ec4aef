"""Subjects to tune a recipe on, in place of the held-out ones that it is measured on: `python -m benchmarks.bars.tuning OUT`.

Six new subjects of six classes, their photos, and a `subjects.csv`. Three show a pattern that the base model has seen, two one that it
has not, one is plain. Then `dreambooth bench benchmarks/bars/tuning.yaml --dataset_dir OUT --output_dir BENCH` tries recipes on them, and
`python -m benchmarks.bars.run BENCH --subjects OUT --arm NAME` asks of the rows what it asks of the held-out subjects' rows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth.toybox.world import Subject, draw_subject, render_photos

CHOSEN = (
    ("cat", "checkered"), ("backpack", "starry"), ("vase", "zigzag"), ("robot", "hearts"), ("duck", "dotted"), ("teapot", "plain"),
)  # fmt: skip


def main() -> None:
    """Write the photos, the subjects' files beside them, and the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the folders go")
    out = parser.parse_args().out
    lines = ["subject_name,class"]
    for number, (noun, pattern) in enumerate(CHOSEN):
        drawn = draw_subject(np.random.default_rng([2027, number]), noun=noun)
        subject = replace(drawn, pattern=pattern, name=f"{noun}_{pattern}")
        (out / subject.name).mkdir(parents=True, exist_ok=True)
        for photo, pixels in enumerate(render_photos(subject)):
            Image.fromarray(pixels).save(out / subject.name / f"{photo}.png")
        subject.save(out / f"{subject.name}.json")
        lines.append(f"{subject.name},{noun}")
    (out / "subjects.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tuning_subjects(folder: Path) -> list[Subject]:
    """Those that `main` has written there."""
    return [Subject.load(path) for path in sorted(folder.glob("*.json"))]


if __name__ == "__main__":
    main()
