"""What a batch came to, a line for each row of the table: index.csv for programs, index.html for people."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import dreambooth
from dreambooth.bench.batch.subjects import Subjects
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.table import read_table
from dreambooth.reporting.templates import template

CSV, HTML = "index.csv", "index.html"
ACCEPTED, FINISHED, PERSON, FAILED, WAITING = "accepted", "finished", "needs a person", "failed", "waiting"
"""The states of a row; `finished` is a result that no rule has judged."""
DONE = (ACCEPTED, FINISHED)


@dataclass(frozen=True)
class Entry:
    """One row of the table, as it stands."""

    subject: str
    status: str = WAITING
    verdict: str = ""
    path: str = ""
    """Of what was made, below the output folder: a file of small weights, or the folder of a whole pipeline."""
    sha256: str = ""
    """Of that file; of a folder, that of its SHA256SUMS."""
    minutes: str = ""
    """Of all its tries, scores included."""
    reason: str = ""
    """Why it is not accepted, or what was not made."""


COLUMNS = tuple(one.name for one in fields(Entry))


def write_index(root: Path, entries: Iterable[Entry], *, title: str) -> None:
    """Both files, each whole or not at all."""
    entries, subjects = list(entries), Subjects(root)
    write_text(root / CSV, csv_text([COLUMNS, *(astuple(one) for one in entries)]))
    counts = [(status, sum(one.status == status for one in entries)) for status in (ACCEPTED, FINISHED, PERSON, FAILED, WAITING)]
    cards = []
    for one in entries:
        strip, report = subjects.strip(one.subject), subjects.folder(one.subject) / "report.html"
        cards.append({
            "entry": one, "short": one.sha256[:12],
            "strip": strip.relative_to(root).as_posix() if one.path and strip.is_file() else "",
            "report": report.relative_to(root).as_posix() if one.path and report.is_file() else "",
        })  # fmt: skip
    page = template("index.html", Path(__file__).parent).render(
        title=title, cards=cards, counts=[pair for pair in counts if pair[1]], version=dreambooth.__version__
    )
    write_text(root / HTML, page)


def read_index(root: Path) -> list[Entry]:
    """The lines of index.csv; nothing where there is none, or one that cannot be read: the next start of the batch writes it."""
    try:
        return [Entry(**cells) for _, cells in read_table(root / CSV, CSV, needed=COLUMNS, known=COLUMNS)]
    except (SettingError, OSError):
        return []
