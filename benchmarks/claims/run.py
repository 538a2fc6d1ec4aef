"""Two claims of the paper, measured on the toybox: `python -m benchmarks.claims.run`, or `make claims`.

1. Prior preservation lowers PRES (the class stays itself) and keeps the class diverse (section 4.3, Table 3).
2. Too many updates lower CLIP-T (section 4.5: overfitting).

Every (subject, seed, arm) is one row in a file of its own; started again, only missing rows are made. All arms use the toybox's recipe;
the settings are fixed before measuring.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dreambooth.api import train_config
from dreambooth.families import Family
from dreambooth.files.atomic import write_json
from dreambooth.files.images import save_png
from dreambooth.metrics import SCORES, Evidence, Shot, Undefined
from dreambooth.metrics.encoders import Encoders, LoadedEncoders
from dreambooth.opened import Opened, open_model
from dreambooth.sample import Sampling, draw
from dreambooth.stream import train
from dreambooth.toybox.world import Subject, held_out_subjects

SUBJECTS = ("dog_spots", "teapot_stars", "robot_checks", "duck_hearts", "boot_zigzag")
PLACES = (
    "on the beach", "in the snow", "in the jungle", "with a city in the background", "on top of pink fabric",
    "with a wheat field in the background",
)  # fmt: skip
PICTURES, CLASS_SAMPLES, MANY = 2, 24, 4
"""Pictures a prompt, class images, and how many times the recipe's updates are too many."""
ARMS = ("prior", "no prior", "no prior, too many updates")
ROWS = Path(__file__).parent / "rows"


def main() -> None:
    """Make the missing rows, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    args = parser.parse_args()
    if not args.table:
        for name in args.subjects:
            for seed in args.seeds:
                _rows_of(next(s for s in held_out_subjects() if s.name == name), seed)
    from benchmarks.claims.table import table

    print(table(ROWS))


def _rows_of(subject: Subject, seed: int) -> None:
    """All arms of one subject and seed. The two arms without the prior are one run, looked at twice."""
    missing = [arm for arm in ARMS if not _path(subject, seed, arm).is_file()]
    if not missing:
        return
    eyes = Encoders().beside("toybox").look(device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = [Image.fromarray(pixels) for pixels in subject.photos(128)]
        for number, photo in enumerate(photos):
            save_png(folder / "photos" / f"{number}.png", photo, {})
        base: dict[str, Any] = {
            "instance_data_dir": folder / "photos", "class_noun": subject.noun, "seed": seed, "skip_final_inference": True,
        }  # fmt: skip
        if ARMS[0] in missing:
            _train(train_config(**base, output_dir=folder / "prior"))
            _score(subject, seed, ARMS[0], open_model(str(folder / "prior")), photos, eyes)
        if len(missing) > 1 or missing[0] != ARMS[0]:
            steps = _recipe_steps(subject)
            settings = {"with_prior_preservation": False, "max_train_steps": MANY * steps, "checkpointing_steps": steps}
            _train(train_config(**base, **settings, output_dir=folder / "alone"))
            _score(subject, seed, ARMS[1], open_model(str(folder / "alone" / f"checkpoint-{steps}")), photos, eyes)
            _score(subject, seed, ARMS[2], open_model(str(folder / "alone")), photos, eyes)


def _recipe_steps(subject: Subject) -> int:
    recipe = train_config(class_noun=subject.noun).model.recipe()
    return int(recipe["full"]["max_train_steps"])


def _train(config: Any) -> None:
    for _ in train(config):
        pass


def _score(subject: Subject, seed: int, arm: str, opened: Opened, photos: list[Image.Image], eyes: LoadedEncoders) -> None:
    """Draw and measure one model; one row."""
    prompts = [f"a {subject.noun} {place}" for place in PLACES]
    sampling = opened.config.validation.sampling(128) if opened.config else Sampling()
    named = [prompt.replace("a ", f"a {opened.identifier} ", 1) for prompt in prompts]
    drawn = tuple(_shots(opened.family, named, prompts, PICTURES, sampling))
    alone = tuple(_shots(opened.family, [f"a {subject.noun}"], [f"a {subject.noun}"], CLASS_SAMPLES, sampling))
    evidence, row = Evidence(drawn, tuple(photos), alone), {"subject": subject.name, "seed": seed, "arm": arm}
    for metric in SCORES:
        try:
            row[metric.name] = metric(evidence, eyes).mean()
        except Undefined as error:
            row[metric.name] = str(error)
    write_json(_path(subject, seed, arm), row)
    print(json.dumps(row), flush=True)


def _shots(family: Family, named: Sequence[str], plain: Sequence[str], count: int, sampling: Sampling) -> Iterator[Shot]:
    asked = [(n, p, row, seed) for row, (n, p) in enumerate(zip(named, plain, strict=True)) for seed in range(count)]
    pictures = draw(family, [n for n, *_ in asked], [seed for *_, seed in asked], sampling=sampling, batch_size=12)
    for picture, (_, p, row, seed) in zip(pictures, asked, strict=True):
        yield Shot(picture.image, picture.prompt, p, row, seed, picture.finite)


def _path(subject: Subject, seed: int, arm: str) -> Path:
    return ROWS / f"{subject.name}-{seed}-{arm.replace(', ', '-').replace(' ', '_')}.json"


if __name__ == "__main__":
    main()
