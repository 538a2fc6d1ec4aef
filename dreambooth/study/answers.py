"""Answers that came back: JSON or CSV files as the questionnaires save them, checked against the key."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shortened
from dreambooth.files.json_file import read_json_file
from dreambooth.files.reading import Damaged, TypedDict, open_shape, shaped
from dreambooth.files.table import read_table

SETTING = "answers"
QUESTIONS, CHOICES = ("identity", "prompt"), ("A", "B", "equal")


@open_shape
class Answers(TypedDict):
    """A file of answers as a questionnaire saves it."""

    study: str
    rater: str
    answers: dict[str, dict[str, str | float | None]]


@dataclass(frozen=True)
class Answer:
    """What one person said of one pair; an empty word where the question was left open."""

    rater: str
    comparison: str
    identity: str
    prompt: str
    seconds: float = field(default=0.0, compare=False)
    """From the pair's first sight to its last answer."""


def read_answers(paths: Sequence[str], key: Mapping[str, Any]) -> list[Answer]:
    """All answers, the same one once, although a person may have saved it in both formats.

    Raises SettingError for a file that cannot be read, is of another study, or contradicts another one of the same person.
    """
    known = {asked["id"] for asked in (*key["comparisons"], *key.get("controls", ()))}
    found: dict[tuple[str, str], tuple[Answer, Path]] = {}
    for path in _files(paths):
        for study, answer in _read(path):
            if study != key["study"]:
                raise SettingError(str(path), f"answers study {study}, not {key['study']}.", fix="Each study has its own key.json.")
            if answer.comparison not in known:
                raise SettingError(str(path), f"answers {answer.comparison!r}, which the study does not hold.")
            for question in QUESTIONS:
                if getattr(answer, question) not in (*CHOICES, ""):
                    raise SettingError(
                        str(path),
                        f"{answer.comparison}: {getattr(answer, question)!r} is no answer.",
                        fix=f"There are {', '.join(CHOICES)}.",
                    )
            before = found.setdefault((answer.rater, answer.comparison), (answer, path))
            if before[0] != answer:
                fix = "Leave one of the files out; if they are two people of one name, change it in one of them."
                raise SettingError(str(path), f"{answer.rater} says something else of {answer.comparison} than in {before[1]}.", fix=fix)
    if not found:
        raise SettingError("answers", "the files hold no answers.")
    return [answer for answer, _ in found.values()]


def _files(paths: Sequence[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (".json", ".csv"))
            if not inside:
                raise SettingError(text, "holds no answers.", fix="They are the .json or .csv files that people have sent back.")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise SettingError(text, "there is no such file.")


def _read(path: Path) -> Iterator[tuple[str, Answer]]:
    """Study and answer, one by one; raises SettingError for a file that is none of answers."""
    if path.suffix.lower() == ".csv":
        for line, row in read_table(path, SETTING, needed=("study", "rater", "comparison", *QUESTIONS)):
            yield row["study"], _answer(f"{path}, line {line}", row["rater"], row["comparison"], row)
        return
    try:
        saved = shaped(read_json_file(path, SETTING), Answers)
    except Damaged as error:
        raise SettingError(SETTING, f"{path} is no file of answers ({error}).", fix="It is what a questionnaire saves.") from None
    for name, given in saved["answers"].items():
        yield saved["study"], _answer(f"{path}: {name}", saved["rater"], name, given)


def _answer(where: str, rater: str, comparison: str, given: Mapping[str, Any]) -> Answer:
    identity, prompt = (str(given.get(question) or "") for question in QUESTIONS)
    try:
        seconds = float(str(given.get("seconds") or 0).replace(",", "."))  # spreadsheets of half the world write 3,5
        if not 0 <= seconds < math.inf:
            raise ValueError
    except ValueError:
        reason = f"{where}: {shortened(repr(given['seconds']))} is no number of seconds."
        raise SettingError(SETTING, reason, fix="Leave the cell empty where it is not known.") from None
    return Answer(rater.strip(), comparison, identity, prompt, seconds)
