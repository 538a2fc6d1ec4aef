"""`study table`: shares of preference by majority vote, as in the paper's Table 2, from the answers that came back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Le

from dreambooth.bench.tables.document import Document, Entry, Section
from dreambooth.bench.tables.statistics import ALPHA, MIN_SUBJECTS, MIN_TO_CLAIM, binomial
from dreambooth.bench.tables.text import as_markdown
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.reading import TypedDict, needed_json, open_shape
from dreambooth.schema import Count, Setting
from dreambooth.study.answers import QUESTIONS, Answer, read_answers
from dreambooth.study.make import KEY
from dreambooth.study.votes import UNDECIDED, Share, agreement, krippendorff, majority, preference, share

PAPER = {"identity": (0.68, 0.22, 0.10), "prompt": (0.81, 0.12, 0.07)}
"""Table 2: DreamBooth, Textual Inversion (both Stable Diffusion), undecided; 600 pairs, 3 users each."""
MIN_PAIRS = 10
"""A claim about one subject needs this many pairs."""
TITLES = {"identity": "subject fidelity", "prompt": "prompt fidelity"}
Side = Literal["first", "second"]


@open_shape
class Pair(TypedDict):
    """A line of the key: which side shows which source."""

    id: str
    subject: str
    A: Side
    B: Side


@open_shape
class Control(TypedDict):
    """A line of the key: a trick question and its answer."""

    id: str
    answer: Literal["A", "B"]


@open_shape
class Key(TypedDict):
    """What `key.json` has to hold."""

    study: str
    first: str
    second: str
    toybox: bool
    seed: int
    raters: int
    comparisons: list[Pair]
    controls: NotRequired[list[Control]]


class StudyTable(Setting):
    """Compute the table of a user study from the answers that came back."""

    positional = ("study", "answers")

    study: str
    """Folder of the study, with its key.json."""
    answers: tuple[str, ...] = ()
    """Files of answers (.json or .csv), or folders of them."""
    min_raters: Count = 2
    """A pair that fewer people have answered is left out of a question, and counted as such."""
    max_missed: Annotated[int, Ge(0), Le(10**6)] | None = None
    """Who answers more trick questions wrongly is left out of everything, and named; automatic: nobody is."""


@dataclass(frozen=True)
class Question:
    """What the raters said to one question."""

    name: str
    shares: Mapping[str, Share]
    """first, second, undecided."""
    pairs: int
    left_out: int
    """Pairs with too few answers."""
    votes: int
    p: float
    """Two-sided: over subjects, by sign flips; in a study of one subject the sign test of its decided pairs."""
    subjects: int
    """Subjects with a pair that counts."""
    alpha: float | None
    agreement: float | None
    side_a: float
    """Of the votes for a side, the share of the left one: far from one half, a habit of the raters."""


@dataclass(frozen=True)
class Tallied:
    """A study's table."""

    questions: tuple[Question, ...]
    document: Document
    paths: tuple[Path, ...]


def table(settings: StudyTable) -> Tallied:
    """The table, also written as table.md and table.csv into the study's folder; raises SettingError for answers that do not fit."""
    folder = Path(settings.study).expanduser()
    key = _key(folder)
    if not settings.answers:
        raise SettingError("answers", "is needed.", fix="Name the files that people have sent back, or their folder.")
    given = read_answers(settings.answers, key)
    checks = _checks(given, key)
    out = _left_out(checks, settings.max_missed)
    real = {comparison["id"] for comparison in key["comparisons"]}
    answers = [answer for answer in given if answer.comparison in real]
    counted = [answer for answer in answers if answer.rater not in out]
    questions = tuple(_tally(question, counted, key, settings.min_raters) for question in QUESTIONS)
    sections = (_preferences(questions, key, settings, out), _raters(answers, checks, out))
    document = _document(sections, counted, key)
    write_text(folder / "table.md", as_markdown(document))
    write_text(folder / "table.csv", _csv(questions, key))
    return Tallied(questions, document, (folder / "table.md", folder / "table.csv"))


def _key(folder: Path) -> dict[str, Any]:
    fix = "Name the folder that `dreambooth study make` wrote; without its key the answers cannot be read."
    return needed_json(folder / KEY, Key, setting="study", fix=fix)


def _checks(answers: Sequence[Answer], key: Mapping[str, Any]) -> dict[str, list[bool]]:
    """Rater -> whether each trick question that was answered was answered rightly; only the question about the subject has an answer."""
    right = {control["id"]: control["answer"] for control in key.get("controls", ())}
    found: dict[str, list[bool]] = {}
    for answer in answers:
        if answer.comparison in right and answer.identity:
            found.setdefault(answer.rater, []).append(answer.identity == right[answer.comparison])
    return found


def _left_out(checks: Mapping[str, Sequence[bool]], max_missed: int | None) -> set[str]:
    if max_missed is not None and not checks:
        fix = "dreambooth study make --trick_questions 2 asks some."
        raise SettingError("--max_missed", "nobody has answered a trick question.", fix=fix)
    return {rater for rater, rightly in checks.items() if max_missed is not None and rightly.count(False) > max_missed}


def _tally(question: str, answers: Sequence[Answer], key: Mapping[str, Any], min_raters: int) -> Question:
    votes: dict[str, list[str]] = {}
    for answer in answers:
        if getattr(answer, question):
            votes.setdefault(answer.comparison, []).append(getattr(answer, question))
    winners: dict[str, list[str]] = {}
    units = []
    for comparison in key["comparisons"]:
        given = votes.get(comparison["id"], [])
        if len(given) >= min_raters:
            unblinded = [UNDECIDED if vote == "equal" else comparison[vote] for vote in given]
            winners.setdefault(comparison["subject"], []).append(majority(unblinded))
            units.append(unblinded)
    if not units:
        raise SettingError("answers", f"no pair has {min_raters} answers about {TITLES[question]}.", fix="Collect more, or --min_raters 1.")
    shares = {word: share(word, winners) for word in ("first", "second", UNDECIDED)}
    first, second = shares["first"].count, shares["second"].count
    sides = Counter(vote for given in votes.values() for vote in given)
    return Question(
        question, shares, len(units), len(key["comparisons"]) - len(units), sum(map(len, units)),
        binomial(first, first + second) if len(winners) == 1 else preference(winners), len(winners), krippendorff(units), agreement(units),
        sides["A"] / (sides["A"] + sides["B"]) if sides["A"] + sides["B"] else 0.5,
    )  # fmt: skip


def _document(sections: tuple[Section, ...], answers: Sequence[Answer], key: Mapping[str, Any]) -> Document:
    facts = [
        ("Raters", str(len({answer.rater for answer in answers}))), ("Subjects", str(_subjects(key))), ("Study", key["study"]),
        ("Pairs in the study", str(len(key["comparisons"]))), ("Seed", str(key["seed"])),
    ]  # fmt: skip
    return Document(f"User study: {key['first']} against {key['second']}", bool(key["toybox"]), sections, facts=tuple(facts))


def _subjects(key: Mapping[str, Any]) -> int:
    return len({comparison["subject"] for comparison in key["comparisons"]})


def _preferences(questions: Sequence[Question], key: Mapping[str, Any], settings: StudyTable, out: set[str]) -> Section:
    """The paper's Table 2."""
    subjects = _subjects(key)
    names = (("first", key["first"]), ("second", key["second"]), (UNDECIDED, UNDECIDED))
    lines = [(Entry(name), *(_share(q, word) for q in questions)) for word, name in names]
    lines += [
        (Entry("pairs"), *(Entry(str(q.pairs), f"{q.left_out} left out" if q.left_out else "") for q in questions)),
        (Entry("answers"), *(Entry(str(q.votes)) for q in questions)),
        (Entry("p"), *(Entry(f"{q.p:.2g}") for q in questions)),
        (Entry("Krippendorff's alpha"), *(Entry("-" if q.alpha is None else f"{q.alpha:.2f}") for q in questions)),
        (Entry("raters agree"), *(Entry("-" if q.agreement is None else f"{q.agreement:.0%}") for q in questions)),
        (Entry("votes for the left side"), *(Entry(f"{q.side_a:.0%}") for q in questions)),
    ]
    if subjects == 1:
        tested = f"sign test of the decided pairs, p below {ALPHA}, at least {MIN_PAIRS} pairs; it speaks of this subject alone"
    else:
        tested = (
            f"sign-flip test over subjects, p below {ALPHA}, which takes {MIN_TO_CLAIM} of them: pairs of one subject are not independent"
        )
    over = "Wilson's over pairs, widened to a cluster bootstrap over subjects" if subjects >= MIN_SUBJECTS else "Wilson's over pairs"
    sentences = [
        f"Shares of pairs, by the majority of their raters; a split vote is undecided. In brackets the 95% interval: {over}. Bold: "
        f"preferred ({tested}).",
        _paper(bool(key["toybox"])),
    ]
    missing = sum(q.left_out for q in questions)
    if missing:
        few = f"pairs that fewer than {settings.min_raters} people answered"
        sentences.append(f"Left out: {few}. The study asked for {key['raters']} each.")
    if out:
        sentences.append(f"Left out, for more than {settings.max_missed} trick questions answered wrongly: {', '.join(sorted(out))}.")
    return Section("Preferences", tuple(sentences), ("", *(TITLES[q.name] for q in questions)), tuple(lines))


def _raters(answers: Sequence[Answer], checks: Mapping[str, Sequence[bool]], out: set[str]) -> Section:
    """What each person did: one who clicks through shows as fast, or one-sided, or at odds with all others, or misses what is plain."""
    of_pair: dict[str, list[Answer]] = {}
    for answer in answers:
        of_pair.setdefault(answer.comparison, []).append(answer)
    lines = []
    for rater in sorted({answer.rater for answer in answers}):
        own = [answer for answer in answers if answer.rater == rater]
        votes = [(question, answer.comparison, vote) for question in QUESTIONS for answer in own if (vote := getattr(answer, question))]
        sides = Counter(vote for _, _, vote in votes)
        others = [
            vote == getattr(other, question)
            for question, comparison, vote in votes
            for other in of_pair[comparison]
            if other.rater != rater and getattr(other, question)
        ]
        seconds = [answer.seconds for answer in own if answer.seconds]
        lines.append((
            Entry(rater, "left out" if rater in out else ""), Entry(str(len(own))), Entry(f"{median(seconds):.0f} s" if seconds else "-"),
            Entry(f"{sides['A'] / (sides['A'] + sides['B']):.0%}" if sides["A"] + sides["B"] else "-"),
            Entry(f"{sides['equal'] / len(votes):.0%}" if votes else "-"), Entry(f"{mean(others):.0%}" if others else "-"),
            Entry(f"{sum(checks[rater])} of {len(checks[rater])}" if rater in checks else "-"),
        ))  # fmt: skip
    prose = (
        "Look here before believing the shares: a person who takes two seconds a pair, always chooses one side, or agrees with nobody has "
        "not looked. Leave such a file out by hand, for every question, and say so."
    )
    head = ("", "pairs", "median time", "left side", "both equally", "agrees with others", "trick questions")
    return Section("Raters", (prose,), head, tuple(lines))


def _share(question: Question, word: str) -> Entry:
    own = question.shares[word]
    return Entry(f"{own.value:.0%}", f"[{own.low:.0%}, {own.high:.0%}]", _won(question) == word)


def _won(question: Question) -> str:
    """The side that is preferred beyond doubt, or nothing."""
    if question.p >= ALPHA or (question.subjects == 1 and question.pairs < MIN_PAIRS):
        return ""
    return "first" if question.shares["first"].count > question.shares["second"].count else "second"


def _paper(toybox: bool) -> str:
    prose = "; ".join(
        f"{TITLES[name]} {first:.0%}, {second:.0%}, undecided {neither:.0%}" for name, (first, second, neither) in PAPER.items()
    )
    label = "The paper, on another model, so that only the order can be compared" if toybox else "The paper"
    return f"{label} (Table 2: DreamBooth, Textual Inversion on Stable Diffusion; 600 pairs, 3 users each): {prose}."


def _csv(questions: Sequence[Question], key: Mapping[str, Any]) -> str:
    counts = ("count", "pairs", "subjects", "left_out", "votes", "p", "alpha", "agreement")
    rows: list[Sequence[object]] = [("toybox", "question", "choice", "name", "share", "low", "high", *counts)]
    for q in questions:
        for word, own in q.shares.items():
            numbers = (own.value, own.low, own.high, own.count, q.pairs, q.subjects, q.left_out, q.votes, q.p, q.alpha, q.agreement)
            texts = ("" if number is None else f"{number:.6g}" for number in numbers)
            rows.append((int(key["toybox"]), q.name, word, key.get(word, word), *texts))
    return csv_text(rows)
