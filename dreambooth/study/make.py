"""`study make`: questionnaires that can be sent to people, and the key that stays at home."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from PIL import Image, ImageOps

from dreambooth.core.errors import SettingError
from dreambooth.evaluation.protocol import without_identifier
from dreambooth.files.atomic import whole_folder, write_json
from dreambooth.files.folders import Place, refuse_mixing, refuse_unwritable, tidy
from dreambooth.photos.files import scan
from dreambooth.photos.load import load
from dreambooth.reporting.inline import SIDE, data_uri
from dreambooth.reporting.templates import template
from dreambooth.schema import Count, Seed, Setting
from dreambooth.study.sources import Shown, Source, photo_folder, source

KEY, FOLDER = "key.json", "questionnaires"
MOST = 24
"""Questionnaires when their number is left out and the pictures would suffice for more: the paper's 600 pairs."""


class StudyMake(Setting):
    """Make blinded side-by-side questionnaires from two runs or two arms of a bench."""

    positional = ("first", "second", "output_dir")

    first: str
    """A run that was evaluated, a folder of such runs (a subject each), or an arm of a bench as FOLDER:ARM."""
    second: str
    """What it is compared with, of the same kind: pairs are equal in subject, prompt and seed."""
    output_dir: str
    """Folder of the study: questionnaires/ to be sent to people, key.json to be kept."""
    photos: str | None = None
    """Folder of the photos that are shown for reference, or one with a folder for each subject; automatic: as the runs say."""
    num_questionnaires: Count | None = None
    """Different questionnaires; automatic: as many as the pictures fill, 24 at most."""
    comparisons: Count = 25
    """Pairs in each questionnaire."""
    trick_questions: Annotated[int, Ge(0), Le(10**6)] = 0
    """Pairs more in each questionnaire, whose answer is known: a photo of the subject beside a picture of another. Who misses them has
    not looked."""
    raters: Count = 3
    """How many people are to answer each questionnaire."""
    seed: Seed = 0
    """Decides which pairs are asked for, their order, and which side is which."""


@dataclass(frozen=True)
class Made:
    """A study on the disk."""

    questionnaires: tuple[Path, ...]
    key: Path
    pairs: int
    trick_questions: int
    raters: int
    subjects: int


def make(settings: StudyMake) -> Made:
    """Write the questionnaires and their key; raises SettingError before anything is written."""
    out = Path(settings.output_dir).expanduser()
    if (out / KEY).exists():
        raise SettingError("output_dir", f"{out} holds a study already; its answers could no longer be read.", fix="Name another folder.")
    first, second = source(settings.first), source(settings.second)
    if first.name == second.name:
        first.name, second.name = _told_apart(settings.first, settings.second)
    shared = sorted(first.pictures.keys() & second.pictures.keys())
    if not shared:
        fix = "Evaluate both with the same prompts and seeds; folders of runs need equal names of subjects."
        raise SettingError("study", f"{settings.first} and {settings.second} have no picture of equal subject, prompt and seed.", fix=fix)
    rng = random.Random(settings.seed)
    chosen = _dealt(shared, settings, rng)
    subjects = sorted({shown[0] for part in chosen for shown in part})
    folders = {subject: photo_folder(first, second, subject, settings.photos) for subject in subjects}
    given = [Place("the photos", folder, "photos") for folder in dict.fromkeys(folders.values())]
    refuse_mixing([*given, Place("output_dir", out, "output", writes=(FOLDER,))])
    photos = {subject: scan(folder).photos for subject, folder in folders.items()}
    tricks = iter(_tricks(first.pictures, photos, settings.trick_questions * len(chosen), seed=settings.seed))
    refuse_unwritable(out, "output_dir")
    comparisons, controls, pages = [], [], []
    for number, part in enumerate(chosen, 1):
        sides = _sides(len(part), rng, odd=number % 2 == 1)
        pairs = [_comparison(shown, swapped, rng.choice(photos[shown[0]])) for shown, swapped in zip(part, sides, strict=True)]
        own = list(islice(tricks, settings.trick_questions))
        order = _mixed(pairs, own, seed=f"{settings.seed} {number}")
        for place, asked in enumerate(order, 1):
            asked["id"] = f"q{number:02d}-{place:02d}"
        comparisons += pairs
        controls += own
        pages.append(order)
    key = {
        "first": first.name, "second": second.name, "toybox": first.toybox or second.toybox, "seed": settings.seed,
        "raters": settings.raters, "comparisons": comparisons, "controls": controls,
    }  # fmt: skip
    key = {"study": hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12], **key}
    names = [f"questionnaire-{number:02d}.html" for number in range(1, len(pages) + 1)]
    with tidy(out), whole_folder(out / FOLDER) as partial:
        for number, (name, order) in enumerate(zip(names, pages, strict=True), 1):
            (partial / name).write_text(_page(key, number, [_asked(one, first, second) for one in order]), encoding="utf-8")
    write_json(out / KEY, key)
    return Made(tuple(out / FOLDER / name for name in names), out / KEY, len(comparisons), len(controls), settings.raters, len(subjects))


def _told_apart(first: str, second: str) -> tuple[str, str]:
    """The ends of two names, from the last folder on in which they differ: what stands above it is nobody's business."""
    one, other = Path(first).parts, Path(second).parts
    same = next((count for count, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), min(len(one), len(other)))
    return "/".join(one[-same - 1 :]), "/".join(other[-same - 1 :])


def _dealt(shared: list[Shown], settings: StudyMake, rng: random.Random) -> list[list[Shown]]:
    """Questionnaires of pairs, each pair in one of them, subjects in turn so that all weigh alike."""
    decks: dict[str, list[Shown]] = {}
    for shown in shared:
        decks.setdefault(shown[0], []).append(shown)
    for deck in decks.values():
        rng.shuffle(deck)
    order = [deck[place] for place in range(max(map(len, decks.values()))) for deck in decks.values() if place < len(deck)]
    size = settings.comparisons
    count = settings.num_questionnaires or min(MOST, max(1, len(order) // size))
    if settings.num_questionnaires and count * size > len(order):
        fix = f"--num_questionnaires {max(1, len(order) // size)}, or fewer --comparisons, or more pictures."
        raise SettingError("--num_questionnaires", f"{count} of {size} pairs need {count * size}; there are {len(order)}.", fix=fix)
    taken = order[: count * size]
    parts = [taken[place::count] for place in range(count)]
    for part in parts:
        rng.shuffle(part)
    return parts


def _sides(count: int, rng: random.Random, *, odd: bool) -> list[bool]:
    """For each pair whether the second source stands on the left: as often as not, so that a liking for one side cancels.

    Of an odd number of pairs the one left over goes to the second source where `odd`, which is every other questionnaire.
    """
    sides = [(place % 2 == 0) == odd for place in range(count)]
    rng.shuffle(sides)
    return sides


def _comparison(shown: Shown, swapped: bool, photo: Path) -> dict[str, Any]:
    """One line of the key."""
    subject, prompt, training_seed, seed = shown
    sides = ("second", "first") if swapped else ("first", "second")
    return {
        "id": "", "A": sides[0], "B": sides[1], "subject": subject, "prompt": prompt, "training_seed": training_seed, "seed": seed,
        "photo": str(photo),
    }  # fmt: skip


def _tricks(pictures: Mapping[Shown, Path], photos: Mapping[str, Sequence[Path]], count: int, *, seed: int) -> list[dict[str, Any]]:
    """Lines of the key for pairs whose answer is known: another photo of the subject, and a picture of a subject of another class.

    That is one without a prompt in common: prompts hold the class noun. Draws of their own: the real pairs are the same with and without.
    """
    prompts: dict[str, set[str]] = {}
    for subject, prompt, *_ in sorted(pictures):
        prompts.setdefault(subject, set()).add(prompt)
    able = [
        (subject, others)
        for subject, some in photos.items()
        if len(some) > 1 and (others := [o for o in photos if prompts[o].isdisjoint(prompts[subject])])
    ]
    if count and not able:
        reason = "a trick needs two photos of a subject and a picture of a subject of another class, and this study has none."
        raise SettingError("--trick_questions", reason, fix="Leave it out.")
    rng = random.Random(f"trick {seed}")
    rng.shuffle(able)
    made = []
    for subject, others in (able[place % len(able)] for place in range(count)):
        photo, real = rng.sample(list(photos[subject]), 2)
        other = rng.choice(others)
        wrong = rng.choice([path for shown, path in sorted(pictures.items()) if shown[0] == other])
        made.append({
            "id": "", "answer": rng.choice("AB"), "subject": subject, "prompt": rng.choice(sorted(prompts[subject])),
            "photo": str(photo), "real": str(real), "wrong": str(wrong),
        })  # fmt: skip
    return made


def _mixed(pairs: list[dict[str, Any]], tricks: list[dict[str, Any]], *, seed: str) -> list[dict[str, Any]]:
    """Tricks at any places among the pairs, whose order stays."""
    order, rng = list(pairs), random.Random(seed)
    for trick in tricks:
        order.insert(rng.randint(0, len(order)), trick)
    return order


def _asked(line: dict[str, Any], first: Source, second: Source) -> dict[str, str]:
    """What a questionnaire holds of a line of the key: pictures and words, nothing that tells where they come from."""
    if "answer" in line:
        wrong = _opened(Path(line["wrong"]))
        real = ImageOps.fit(load(Path(line["real"])), wrong.size)
        images = {"A": real, "B": wrong} if line["answer"] == "A" else {"A": wrong, "B": real}
    else:
        shown = (line["subject"], line["prompt"], line["training_seed"], line["seed"])
        drawn = {"first": _opened(first.pictures[shown]), "second": _opened(second.pictures[shown])}
        images = {side: drawn[line[side]] for side in "AB"}
    side = min(SIDE, *(max(image.size) for image in images.values()))  # a difference in size would give the sides away
    return {
        "id": line["id"], "text": without_identifier(line["prompt"]), "photo": data_uri(load(Path(line["photo"]))),
        "A": data_uri(images["A"], side), "B": data_uri(images["B"], side),
    }  # fmt: skip


def _opened(path: Path) -> Image.Image:
    """The pixels alone: what a PNG says about its making stays behind."""
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    bare = Image.new("RGB", pixels.size)
    bare.paste(pixels)
    return bare


def _page(key: dict[str, Any], number: int, asked: list[dict[str, str]]) -> str:
    data = {"study": key["study"], "questionnaire": number, "comparisons": asked}
    return template("questionnaire.html", Path(__file__).parent).render(data=data, number=number, count=len(asked), toybox=key["toybox"])
