"""Whatever stands in a text that people write, it is read, or refused in one sentence, and soon.

Sound texts are damaged in the ways in which editors, spreadsheets, mail and people damage them: bytes lost, doubled or exchanged, other
encodings, values of another kind in any place, tricks that make readers slow. 50 cases a reader here, 500 by `make fuzz`.
"""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dreambooth.api import train_config
from dreambooth.bench.datasets import DREAMBENCH, TABLE, open_dataset
from dreambooth.bench.plan import read_plan
from dreambooth.bench.study.make import KEY
from dreambooth.bench.study.table import StudyTable, table
from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.parse import read_flags
from dreambooth.config import TrainConfig, dump, resolve, write_yaml
from dreambooth.contradictions import check, idle
from dreambooth.core.errors import SettingError
from dreambooth.evaluation.protocol import of_file
from dreambooth.families import ModelSource
from dreambooth.families.stable_diffusion import StableDiffusion
from dreambooth.photos.files import caption_beside
from dreambooth.prompts import fill, read_prompts
from dreambooth.sample import Sampling
from dreambooth.training.concepts import read_concepts
from dreambooth.training.prior import MANIFEST, ClassImages
from tests import tiny

CASES, SEED = int(os.environ.get("DREAMBOOTH_FUZZ_CASES", "50")), int(os.environ.get("DREAMBOOTH_FUZZ_SEED", "0"))
SECONDS, LETTERS = 30, 1500
"""In which each case has been read, and of what is said when it is refused."""

CONCEPTS = json.dumps([
    {"instance_prompt": "a [V] dog", "instance_data_dir": "~/dogs", "class_prompt": "a dog", "class_data_dir": "class",
     "num_class_images": 200},
    {"instance_prompt": "a zwx 강아지", "instance_data_dir": "/photos/두 번째"},
], indent=2, ensure_ascii=False)  # fmt: skip
PROMPTS = "# places\na [V] dog on the beach\n\na [V] dog, in Zürich\n강아지 [V]\n"
PLAN = """name: own
title: "Own: a plan"
about: >-
  Two ways.
metrics: [dino, clip_t]
settings: &all {mixed_precision: no, max_train_steps: 1e3}
evaluation: {num_prompts: 2, seed: 1}
arms:
  DreamBooth: {settings: {<<: *all, learning_rate: 1e-4}, num_photos: 3, keep: delta:4}
  "LoRA {rank}":
    settings: {method: lora, evaluate_every: 50, stop_early: yes}
    sweep: {rank: [4, 8], learning_rate: [1e-4]}
  untuned: {model: untuned}
paper:
  DreamBooth: {dino: 0.668}
baseline: DreamBooth
num_subjects: 2
notes:
  - one, two
"""
RECIPE = "full: {learning_rate: 1e-5, max_train_steps: 450, validation_scheduler: ddim}\nlora:\n  rank: 16\n  random_flip: no\n"
CONFIG = write_yaml(train_config(class_noun="dog", instance_data_dir="photos", report_to=["tensorboard"], method="lora"))
CSV = "subject_name,class,live,description\ndog7,dog,1,a red dog\ntoy1,toy,no,\nmug,mug,,\n"
LISTED = "Classes\n\nsubject_name,class\nbackpack,backpack\ndog,dog\n\nPrompts\n\nObject Prompts\n\na, b\n"
STUDY = {
    "study": "abc", "first": "ours", "second": "theirs", "toybox": False, "seed": 0, "raters": 2,
    "comparisons": [
        {"id": f"q01-{n:02d}", "A": "first", "B": "second", "subject": f"dog{n % 2}", "prompt": "a [V] dog", "training_seed": 0, "seed": n,
         "photo": "/photos/0.png"} for n in range(3)
    ],
    "controls": [{"id": "q01-04", "answer": "A", "subject": "dog0", "prompt": "a [V] dog", "photo": "a", "real": "b", "wrong": "c"}],
}  # fmt: skip
GIVEN = {
    "study": "abc", "rater": "René",
    "answers": {f"q01-{n:02d}": {"identity": "A", "prompt": "equal", "seconds": 2.5} for n in (0, 1, 2, 4)},
}  # fmt: skip
ROWS = "".join(f"abc,Ana,q01-{n:02d},B,A,3.5\n" for n in range(3))
MANIFESTS = {
    "made_with": {"model": "m", "prompt": "a dog", "sampling": Sampling().model_dump()}, "next_seed": 2,
    "images": {"00000.png": {"seed": 0, "look": "a"}, "00001.png": {"seed": 1, "look": "b"}}, "rejected": {"2": "black"},
}  # fmt: skip
FLAGS = "\n".join((
    "--instance_data_dir", "photos", "--class_noun=dog", "--rank", "8", "--method", "lora", "--report_to", "wandb,tensorboard",
    "--seed", "1", "--no-use_captions",
))  # fmt: skip

WORDS = [
    "", "~", "null", "no", "on", "-1", "0", "1e999", "9" * 400, "NaN", "true", "0x10", "1_000", "2024-05-01", "[V]", "{", "[", "}]",
    "'", '"', ":", "a: b", "&a [*a]", "*a", "<<: *all", "!!python/object:os.system", "\t", "\\", '"\\ud800"', "\\udce9", "%", "|", ">",
    "- ", "? ", "---", ",,", "x" * 5000, "../..", "/dev/zero", "~nobody/x", "\ufeff", "\u202e", "\x1b[2J", "😀", "method: [lora]",
    "kind: {a: b}", "[" * 2000, '{"a":' * 2000,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 10**40, 1e308, "", " ", "~", "no", "1e3", "\ud800", "\0", "x" * 3000, [], {}, [[]], {"a": {"b": []}},
    ["a", 1], [None], "∞",
]  # fmt: skip
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp949", "latin-1", "cp1252"]


class Reader(NamedTuple):
    """A text, the file that it stands in, and what reads it there."""

    text: str
    file: str
    read: Callable[[Path], object]


def damaged(text: str, other: str, rng: random.Random) -> bytes:
    """One to three things that happen to a text."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = _structure(text, rng) if rng.random() < 0.4 else _letters(text, other, rng)
    if rng.random() < 0.15:
        return text.encode(rng.choice(ENCODINGS), "replace")
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.15 and data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _letters(text: str, other: str, rng: random.Random) -> str:
    start, length = rng.randrange(len(text) + 1), rng.randrange(1, 40)
    match rng.randrange(7):
        case 0:
            return text[:start]
        case 1:
            return text[:start] + text[start + length :]
        case 2:
            return text[: start + length] + text[start:]
        case 3:
            return text[:start] + rng.choice(WORDS) + text[start + rng.choice((0, length)) :]
        case 4:
            return text[:start] + other[rng.randrange(len(other)) :]
        case 5:
            return text.replace(rng.choice(["\n", " ", ":", ",", '"', "no", "1"]), rng.choice(WORDS), rng.choice((1, -1)))
        case _:
            lines = text.split("\n")
            rng.shuffle(lines)
            return "\n".join(lines)


def _structure(text: str, rng: random.Random) -> str:
    """A value of another kind somewhere in a tree, or a word of another kind in a table."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        words = text.split()
        return text.replace(rng.choice(words), rng.choice(WORDS), 1) if words else rng.choice(WORDS)
    places = list(_places(tree))
    if not places:
        return json.dumps(rng.choice(VALUES))
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(rng.choice(WORDS))] = holder[key]
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5)


def _places(tree: Any) -> Any:
    """Every (holder, key) of a nested value."""
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in items:
        yield tree, key
        yield from _places(value)


def configured(path: Path) -> None:
    """A configuration as `train` takes it from a file, down to what is kept of it."""
    config = train_config(config=path)
    check(config)
    idle(config)
    dump(config)
    resolve(config.updated({("model", "pretrained_model_name_or_path"): "toybox"}), StableDiffusion)


def recipe(path: Path) -> None:
    """A base model's recipe, filled in."""
    source = ModelSource(pretrained_model_name_or_path=str(path.parent))
    source.recipe()
    for method in ("full", "lora"):
        resolve(train_config(pretrained_model_name_or_path=str(path.parent), method=method, class_noun="dog"), StableDiffusion)


def captions(path: Path) -> None:
    """A caption beside a photo."""
    fill(caption_beside(path.with_suffix(".png")) or "a [V] dog", "sks")


def answered(path: Path) -> None:
    """The answers to a study."""
    (path.parent / KEY).write_text(json.dumps(STUDY), encoding="utf-8")
    table(StudyTable(study=str(path.parent), answers=(str(path),), min_raters=1))


def keyed(path: Path) -> None:
    """The key of a study."""
    (path.parent / "answers.json").write_text(json.dumps(GIVEN), encoding="utf-8")
    table(StudyTable(study=str(path.parent), answers=(str(path.parent / "answers.json"),), min_raters=1))


def class_images(path: Path) -> None:
    """A folder of class images with a list of them."""
    images = ClassImages(path.parent, "a dog", 4, Sampling(), "m")
    images.missing()


def flags(path: Path) -> None:
    """A command line, a word a line."""
    words = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    values, _, _ = read_flags(words, TrainConfig, aliases=ALIASES, extra=("config",))
    config = TrainConfig.parse(values)
    check(config)


READERS = {
    "concepts list": Reader(CONCEPTS, "concepts.json", read_concepts),
    "prompts": Reader(PROMPTS, "prompts.txt", lambda path: [fill(p.text, "sks") for p in of_file(read_prompts(path))]),
    "caption": Reader("a [V] dog\nin Zürich, 강아지", "0.txt", captions),
    "configuration": Reader(CONFIG, "config.yaml", configured),
    "plan": Reader(PLAN, "plan.yaml", lambda path: read_plan(str(path)).layout()),
    "recipe": Reader(RECIPE, "dreambooth.yaml", recipe),
    "subjects": Reader(CSV, TABLE, lambda path: open_dataset(str(path.parent), path.parent).some(count=2)),
    "dreambench": Reader(LISTED, DREAMBENCH, lambda path: open_dataset(str(path.parent), path.parent).some(count=2)),
    "answers": Reader(json.dumps(GIVEN, indent=1), "rene.json", answered),
    "answers in a table": Reader(f"study,rater,comparison,identity,prompt,seconds\n{ROWS}", "ana.csv", answered),
    "key of a study": Reader(json.dumps(STUDY), KEY, keyed),
    "list of class images": Reader(json.dumps(MANIFESTS), MANIFEST, class_images),
    "flags": Reader(FLAGS, "flags.txt", flags),
}
JSON_TREES = {"configuration", "plan", "recipe"}
"""Readers of YAML, of which JSON is a part: half of their cases begin as JSON, whose values can be exchanged."""


def as_tree(text: str, folder: Path) -> str:
    from dreambooth.files.yaml_file import read_yaml_file

    (folder / "sound.yaml").write_text(text, encoding="utf-8")
    return json.dumps(read_yaml_file(folder / "sound.yaml", "--config"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which all readers find what their texts name."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tiny.photos(tmp_path, count=1, size=(8, 8))
    for name in ("dog7", "toy1", "mug", "backpack", "dog"):
        (tmp_path / name).mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_text_is_read_or_refused_in_a_sentence(name, place):
    reader, read, refused = READERS[name], 0, 0
    texts = [reader.text, *([as_tree(reader.text, place)] if name in JSON_TREES else [])]
    others = [other.text for other in READERS.values()]
    for case in range(CASES):
        rng = random.Random(f"{name} {SEED} {case}")
        data = damaged(rng.choice(texts), rng.choice(others), rng)
        (place / reader.file).write_bytes(data)
        began = time.perf_counter()
        try:
            reader.read(place / reader.file)
            read += 1
        except SettingError as error:
            assert error.reason and len(str(error)) < LETTERS, f"case {case}: {data[:3000]!r}: {error}"
            refused += 1
        except BaseException as error:
            raise AssertionError(f"case {case}: {data[:3000]!r}") from error
        assert time.perf_counter() - began < SECONDS, f"case {case}: {data[:3000]!r}"
    assert read + refused == CASES and refused > 0, "nothing was damaged"


@pytest.mark.parametrize("name", READERS)
def test_a_sound_text_is_read(name, place):
    reader = READERS[name]
    (place / reader.file).write_text(reader.text, encoding="utf-8")
    reader.read(place / reader.file)
