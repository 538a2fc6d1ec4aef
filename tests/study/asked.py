"""A bench's folder, a study made of it, and answers to it, for the study's tests."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth.study import StudyMake, StudyTable, make, table
from tests.bench.made_up import NOUNS, OFF, ON, row
from tests.metrics import encoders


def bench_folder(root: Path) -> Path:
    """A bench's folder: six subjects, two arms, three prompts of two pictures each, which say in their PNGs who made them."""
    (root / "rows").mkdir(parents=True)
    for place, (subject, noun) in enumerate(NOUNS.items()):
        save(root / "shared" / "photos" / subject / "0.png", encoders.picture(900 + place, (200, 120)), "")
        for arm in (ON, OFF):
            one = row(arm, subject, 0, dino=0.5)
            pictures = {}
            for number, words in enumerate(("on the beach", "in <b>snow</b>", "on grass")):
                names = [f"jobs/{one.key}/pictures/{number:02d}-seed{seed}.png".replace(" ", "-") for seed in range(2)]
                for seed, name in enumerate(names):
                    size = (96, 96) if arm == ON else (64, 64)
                    save(root / name, encoders.picture(place * 50 + number * 4 + seed + (arm == ON) * 500, size), arm)
                pictures[f"a [V] {noun} {words}"] = names
            (root / "rows" / f"{one.key}.json").write_text(json.dumps({**one.plain(), "pictures": pictures}))
    return root


def save(path: Path, image: Image.Image, model: str) -> None:
    """A PNG that says who made it, as the bench's do."""
    notes = PngInfo()
    notes.add_text("dreambooth", json.dumps({"model": model}))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, pnginfo=notes)


def made(bench, **changed):
    given = {"first": f"{bench}:{ON}", "second": f"{bench}:{OFF}", "output_dir": bench.parent / "study", "comparisons": 10}
    return make(StudyMake.parse({name: str(value) for name, value in {**given, **changed}.items()}))


def key_of(study) -> dict:
    return json.loads(study.key.read_text())


def data_of(path) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.S)[1])


def answer(study, folder, votes: Callable, *, raters=("ann", "bob", "cid"), questionnaires=(1, 2, 3)):
    """Files of answers: `votes(rater, comparison of the key)` says identity and prompt as first, second or equal."""
    key = key_of(study)
    for number in questionnaires:
        for rater in raters:
            answers = {}
            for comparison in key["comparisons"]:
                if comparison["id"].startswith(f"q{number:02d}-"):
                    side = {comparison["A"]: "A", comparison["B"]: "B", "equal": "equal", "": ""}
                    identity, prompt = votes(rater, comparison)
                    answers[comparison["id"]] = {"identity": side[identity], "prompt": side[prompt], "seconds": 1}
            output = {"study": key["study"], "questionnaire": number, "rater": rater, "answers": answers}
            folder.mkdir(exist_ok=True)
            (folder / f"{number}-{rater}.json").write_text(json.dumps(output))
    return folder


def tally(study, folder, **changed):
    return table(StudyTable.parse({"study": str(study.key.parent), "answers": [str(folder)], **changed}))
