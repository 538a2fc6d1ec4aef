"""A table in words: sections with headers and lines, which every format prints in its own way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dreambooth.bench.job import Row
from dreambooth.bench.tables.redact import public
from dreambooth.bench.tables.results import LEAST_GAP, Comparison, Line, Results
from dreambooth.bench.tables.statistics import ALPHA, CONFIDENCE, MIN_SUBJECTS, MIN_TO_CLAIM, REPLICATES, Paired, Summary
from dreambooth.core.wording import counted
from dreambooth.metrics import METRICS
from dreambooth.metrics.networks import NETWORKS

TOYBOX_NOTE = "toybox: a small embedded model of a rendered world. These numbers say nothing about real models."
WARNING = "Warning"
MISSING, MOST_CLAIMED = "-", 3
ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}
LEGEND = (
    f"Means over subjects; ± standard deviation over seeds; in brackets the {CONFIDENCE:.0%} interval over subjects (cluster "
    f"bootstrap, {REPLICATES:,} replicates, expanded by t; none under {MIN_SUBJECTS} subjects). n: subjects x seeds. Bold: better than "
    f"every other arm, by a paired interval that excludes zero and a sign-flip test over subjects (p below {ALPHA}, which takes "
    f"{MIN_TO_CLAIM} of them). {MISSING}: no value."
)
PROTOCOL = {
    "prompts": "Prompts", "images_per_prompt": "Pictures a prompt", "class_samples": "Pictures of the class", "seeds": "Pictures' seeds",
    "class_seeds": "Seeds of the class's pictures",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One cell in words: the number, what stands smaller behind it."""

    text: str
    more: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and a table or none."""

    title: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    lines: tuple[tuple[Entry, ...], ...] = ()
    quiet: frozenset[int] = frozenset()
    """Numbers of the lines that are not ours: the paper's."""


@dataclass(frozen=True)
class Document:
    """All that the pages of a bench say."""

    title: str
    toybox: bool
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = field(default_factory=tuple)
    """What the numbers stand on, by name."""
    claim: str = ""
    """What may be said of the arms, in a sentence."""


def document(found: Results, rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], *, waiting: int = 0) -> Document:
    """The numbers in words, with the failures, how many jobs are not done yet, and what the rows stand on."""
    early = [f"Drawn before the end: {counted(waiting, 'job')} of the plan not done yet."] if waiting else []
    sections = [
        _scores(found, [*early, *_mixed(rows)]), _classes(found), _orderings(found), _tests(found), _undefined(found), _failures(failures),
        Section("Notes", found.layout.notes),
    ]  # fmt: skip
    kept = [section for section in sections if section.lines or section.sentences]
    return Document(found.layout.title, found.toybox, tuple(kept), tuple(_facts(rows, failures, waiting)), claim(found))


def number(metric: str, value: float | None, *, signed: bool = False) -> str:
    """A score as text, three decimals; shares in percent."""
    if value is None:
        return MISSING
    text = f"{value:.1%}" if metric in ("copying", "broken") else f"{value:.3f}"
    if not float(text.rstrip("%")):
        return text.removeprefix("-")
    return f"+{text}" if signed and value > 0 else text


def title_of(metric: str) -> str:
    """A column's heading: DINO ↑."""
    return METRICS[metric].title + ARROWS[METRICS[metric].better]


def counts(summary: Summary | None) -> str:
    """How much a line stands on: 10 x 3, or what is there of it."""
    if summary is None:
        return "0"
    whole = summary.n == summary.subjects * summary.seeds
    return f"{summary.subjects} x {summary.seeds}" if whole else f"{summary.n} of {summary.subjects} x {summary.seeds}"


def _scores(found: Results, mixed: Sequence[str]) -> Section:
    header = ("", "n", *(title_of(metric) for metric in found.layout.metrics))
    lines, quiet = [], set()
    for line in found.lines:
        if line.n:
            lines.append(_line(line))
        elif line.is_arm:
            lines.append((Entry(line.name), Entry("0"), *(Entry(MISSING) for _ in line.cells)))
        if any(cell.paper is not None for cell in line.cells):
            quiet.add(len(lines))
            name = found.paper_label if line.n or line.is_arm else f"{line.name}: {found.paper_label}"
            lines.append((Entry(name), Entry(""), *(Entry(number(cell.metric, cell.paper)) for cell in line.cells)))
    apart = (f"The paper's values are of {found.apart}: its orderings can be compared with those here, its values cannot.",)
    return Section("Scores", (*mixed, LEGEND, *(apart if quiet and found.apart else ())), header, tuple(lines), frozenset(quiet))


def _line(line: Line, head: tuple[Entry, ...] = ()) -> tuple[Entry, ...]:
    widest = line.n
    entries = []
    for cell in line.cells:
        own = cell.summary
        if own is None:
            entries.append(Entry(MISSING))
            continue
        parts = [f"± {number(cell.metric, own.sd)}"] if own.sd is not None else []
        if own.interval:
            parts.append(f"[{number(cell.metric, own.interval[0])}, {number(cell.metric, own.interval[1])}]")
        if widest and own.n < widest.n:
            parts.append(f"n {counts(own)}")
        entries.append(Entry(number(cell.metric, own.mean), " ".join(parts), cell.best))
    n = counts(widest) if line.is_arm else counted(widest.subjects, "subject") if widest else "0"
    return (*head, Entry(line.name), Entry(n), *entries)


def _classes(found: Results) -> Section:
    if len(found.by_class) < 2:
        return Section("")
    lines = [_line(line, (Entry(noun),)) for noun, some in found.by_class.items() for line in some if line.n]
    header = ("class", "", "n", *(title_of(metric) for metric in found.layout.metrics))
    return Section("By class", (), header, tuple(lines))


def _orderings(found: Results) -> Section:
    """Which of the paper's orderings are found again."""
    tally = Counter(comparison.verdict for comparison in found.orderings)
    prose = f"Of the paper's {counted(len(found.orderings), 'ordering')}: {tally['holds']} held here, {tally['reversed']} reversed, "
    prose += f"{tally['undecided']} undecided (the interval holds zero, or p is not below {ALPHA}, which takes {MIN_TO_CLAIM} subjects). "
    prose += f"Values of the paper closer than {LEAST_GAP} are no ordering. n: pairs, of how many subjects."
    header = ("metric", "the paper's ordering", "paper", "here", "difference here", "n", "p")
    lines = []
    for c in found.orderings:
        assert c.paper is not None
        values = f"{number(c.metric, c.paper[0])} > {number(c.metric, c.paper[1])}"
        verdict = Entry(c.verdict, strong=c.verdict != "undecided")
        ordering = Entry(f"{c.first} > {c.second}")
        lines.append((Entry(METRICS[c.metric].title), ordering, Entry(values), verdict, *_difference(c.metric, c.paired)))
    return Section("The paper's orderings", (prose,) if lines else (), header, tuple(lines))


def _tests(found: Results) -> Section:
    if not found.tests:
        return Section("")
    header = ("metric", "arm", "difference", "n", "p", "")
    lines = [
        (Entry(METRICS[c.metric].title), Entry(c.first), *_difference(c.metric, c.paired), Entry(judged(c)))
        for c in sorted(found.tests, key=lambda c: found.layout.metrics.index(c.metric))
    ]
    prose = (
        f'Arm less "{found.tests[0].second}", over the same subjects and seeds: mean difference with its interval over subjects, and the '
        "two-sided sign-flip permutation test over subjects, whose p is never below 2 / 2^subjects (not corrected for the number of "
        "tests). n: pairs, of how many subjects."
    )
    return Section(f'Against "{found.tests[0].second}"', (prose,), header, tuple(lines))


def claim(found: Results) -> str:
    """What the tests against the baseline let one say; nothing where a plan has no two arms with numbers."""
    tests = [test for test in found.tests if test.paired]
    subjects = max((test.paired.subjects for test in tests if test.paired), default=0)
    if not tests:
        return ""
    if subjects < MIN_TO_CLAIM:
        return f"With {counted(subjects, 'subject')} nothing may be claimed of the arms against each other; that takes {MIN_TO_CLAIM}."
    base, parts = found.tests[0].second, []
    for arm in dict.fromkeys(test.first for test in tests):
        words: dict[str, list[str]] = {}
        for test in (test for test in tests if test.first == arm):
            words.setdefault(judged(test), []).append(METRICS[test.metric].title)
        decided = [f"{word} in {' and '.join(words[word])}" for word in ("better", "worse", "higher", "lower") if word in words]
        parts += [f'"{arm}" is {", ".join(decided)}'] if decided else []
    head = f'Against "{base}", over {counted(subjects, "subject")}'
    if not parts:
        return f"{head}, no difference may be claimed."
    shown, more = parts[:MOST_CLAIMED], len(parts) - MOST_CLAIMED
    rest = f"; {counted(more, 'arm')} more below" if more > 0 else ""
    care = f"Nothing else may be claimed, and the {counted(len(tests), 'test')} are not corrected for their number."
    return f"{head}: {'; '.join(shown)}{rest}. {care}"


def judged(comparison: Comparison) -> str:
    """What a paired test lets one say."""
    own = comparison.paired
    if own is None or own.subjects < MIN_TO_CLAIM:
        return f"fewer than {MIN_TO_CLAIM} subjects: nothing is claimed"
    better = {"higher": 1, "lower": -1, "neither": 0}[METRICS[comparison.metric].better]
    words = {0: "higher" if own.sign > 0 else "lower", own.sign: "better", -own.sign: "worse"}
    return words[better] if own.sign else "undecided"


def _difference(metric: str, own: Paired | None) -> tuple[Entry, Entry, Entry]:
    if own is None:
        return Entry(MISSING, "no shared jobs"), Entry("0"), Entry(MISSING)
    more = f"[{number(metric, own.interval[0], signed=True)}, {number(metric, own.interval[1], signed=True)}]" if own.interval else ""
    return Entry(number(metric, own.difference, signed=True), more), Entry(f"{own.n} of {own.subjects}"), Entry(f"{own.p:.2g}")


def _undefined(found: Results) -> Section:
    sentences = [
        f"{METRICS[metric].title}, {counted(jobs, 'job')}: {public(reason)}"
        for metric, reasons in found.undefined.items()
        for reason, jobs in reasons.items()
    ]
    return Section("Missing values", tuple(sentences))


def _failures(failures: Sequence[Mapping[str, Any]]) -> Section:
    lines = [tuple(Entry(public(str(f.get(name, "")))) for name in ("arm", "subject", "seed", "kind", "reason")) for f in failures]
    prose = (f"{counted(len(lines), 'job')} failed; no number above holds anything of them.",) if lines else ()
    return Section("Failures", prose, ("arm", "subject", "seed", "kind", "reason"), tuple(lines))


def _mixed(rows: Sequence[Row]) -> list[str]:
    """A warning for each thing that should have been equal in all rows and is not."""
    prose = []
    for name, values in _stands_on(rows).items():
        if len(values) > 1 and not (name == PROTOCOL["prompts"] and _one_suite(rows)):
            each = ", ".join(f"{value} ({counted(n, 'job')})" for value, n in values.items())
            prose.append(f"{WARNING}: the rows were not made alike, so their numbers should not be compared. {name}: {each}.")
    return prose


def _one_suite(rows: Sequence[Row]) -> bool:
    """Whether living subjects were all asked as many prompts, and things, too: the two lists of one suite may differ in length."""
    return all(len({row.protocol.get("prompts") for row in rows if row.live == live}) <= 1 for live in (True, False))


def _facts(rows: Sequence[Row], failures: Sequence[Mapping[str, Any]], waiting: int) -> list[tuple[str, str]]:
    subjects = sorted({row.subject for row in rows})
    facts = [(name, ", ".join(values)) for name, values in _stands_on(rows).items()]
    facts.append((counted(len(subjects), "subject"), ", ".join(subjects)))
    facts.append(("Training seeds", ", ".join(map(str, sorted({row.seed for row in rows})))))
    facts.append(("Jobs", f"{len(rows)} finished, {len(failures)} failed" + (f", {waiting} not done yet" if waiting else "")))
    seconds = sum(row.seconds.get("everything", 0.0) for row in rows)
    if seconds:
        facts.append(("Time of all jobs", f"{seconds / 3600:.1f} h"))
    return facts


def _stands_on(rows: Sequence[Row]) -> dict[str, Counter[str]]:
    """Encoders, counts, seeds and base model, each with how many rows say so."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for kind, title in ((name, network.title) for name, network in NETWORKS.items()):
            encoder = row.protocol.get("encoders", {}).get(kind)
            if encoder:
                found.setdefault(title, Counter())[str(encoder)] += 1
        for key, title in PROTOCOL.items():
            if row.protocol.get(key) not in (None, []):
                found.setdefault(title, Counter())[_span(row.protocol[key])] += 1
        if row.base:
            found.setdefault("Base model's weights", Counter())[row.base[:12]] += 1
        found.setdefault("World", Counter())["toybox" if row.toybox else "photographs"] += 1
    return found


def _span(value: Any) -> str:
    return f"{value[0]} to {value[-1]}" if isinstance(value, (list, tuple)) else str(value)
