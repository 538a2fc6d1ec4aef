"""Benches: subjects by arms, coloured by what has become of their jobs, while they are done and afterwards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from dreambooth.bench.job import Row
from dreambooth.bench.progress import PROGRESS, JobState, standings
from dreambooth.bench.rows import find_row, is_bench, row_keys, row_path
from dreambooth.core.errors import DreamboothError
from dreambooth.setup.runs import run_of
from dreambooth.setup.states import State
from dreambooth.web.pages.runs import REPORTS
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]
SHOWN = "dino"
"""The score in a finished cell."""
MOST_ROWS = 20_000
TELLING = (State.RUNNING, State.FAILED, State.INTERRUPTED, State.QUEUED, State.FINISHED)
"""What the colour of a cell of several jobs goes by: the first of these that one of them has."""

COUNTED = (State.FINISHED, State.RUNNING, State.QUEUED, State.FAILED, State.INTERRUPTED)


@dataclass(frozen=True)
class Cell:
    """The jobs of a subject and an arm."""

    jobs: Sequence[JobState]
    score: float | None
    """Their mean score, of those that are finished."""
    phase: str = ""
    """What the one at work is doing."""

    @property
    def state(self) -> State:
        """What colours it."""
        return next(state for state in TELLING if any(job.state is state for job in self.jobs))

    @property
    def done(self) -> int:
        """How many are finished."""
        return sum(job.state is State.FINISHED for job in self.jobs)

    @property
    def cause(self) -> str:
        """Why one of them failed."""
        return next((job.cause for job in self.jobs if job.cause), "")


@dataclass(frozen=True)
class Bench:
    """A plan in a bench's folder."""

    name: str
    plan: str
    arms: list[str]
    subjects: list[str]
    cells: dict[tuple[str, str], Cell]
    """By subject and arm; where an arm was not asked about a subject there is none."""
    tables: list[str]
    is_at_work: bool

    @property
    def counts(self) -> list[tuple[State, int]]:
        """How many jobs are in which state."""
        found = Counter(job.state for cell in self.cells.values() for job in cell.jobs)
        return [
            (state, found[state])
            for state in (State.FINISHED, State.RUNNING, State.QUEUED, State.FAILED, State.INTERRUPTED)
            if found[state]
        ]


@router.get("/bench")
def benches(request: Request, studio: Root) -> HTMLResponse:
    """The benches below the root; the tables alone where a page asks that has the rest."""
    folders = [path for path in sorted(studio.root.iterdir()) if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    found = [bench for path in folders if is_bench(path) or (path / PROGRESS).is_dir() for bench in _benches(studio, path)]
    return page(request, "bench_tables.html" if "hx-request" in request.headers else "bench.html", benches=found)


@router.get("/bench/{name}/tables/{path:path}")
def table(studio: Root, name: str, path: str) -> Response:
    """A table of a bench, a page that can do nothing."""
    found = studio.inside(name, "tables", *path.split("/"))
    if not found.is_file() or found.suffix != ".html":
        raise Missing("table", f"{path} is not there.")
    return FileResponse(found, media_type="text/html", headers={"content-security-policy": REPORTS})


def _benches(studio: Studio, root: Path) -> list[Bench]:
    """A bench by its plans: those that were started, and those of which there are only rows."""
    found = []
    for one in standings(root):
        by_cell = dict[tuple[str, str], list[JobState]]()
        for (arm, subject, _), job in one.jobs.items():
            by_cell.setdefault((subject, arm), []).append(job)
        cells = {place: _cell(studio, root, some) for place, some in by_cell.items()}
        found.append(Bench(root.name, one.plan, list(one.arms), one.subjects, cells, _tables(root, one.plan), one.is_at_work))
    started = {bench.plan for bench in found}
    by_plan = dict[str, dict[tuple[str, str], list[JobState]]]()
    for key in row_keys(root)[:MOST_ROWS]:
        row = _row(root, key)
        if row and row.plan not in started:
            by_plan.setdefault(row.plan, {}).setdefault((row.subject, row.arm), []).append(JobState(State.FINISHED, key))
    for plan, by_cell in sorted(by_plan.items()):
        arms, subjects = ([*dict.fromkeys(sorted(place[at] for place in by_cell))] for at in (1, 0))
        cells = {place: _cell(studio, root, some) for place, some in by_cell.items()}
        found.append(Bench(root.name, plan, arms, subjects, cells, _tables(root, plan), is_at_work=False))
    return found


def _cell(studio: Studio, root: Path, jobs: Sequence[JobState]) -> Cell:
    rows = [row for job in jobs if job.state is State.FINISHED and (row := _row(root, job.key))]
    scores = [row.scores[SHOWN]["value"] for row in rows if SHOWN in row.scores]
    at_work = next((job for job in jobs if job.state is State.RUNNING), None)
    run = run_of(root / "jobs" / at_work.key / "run", studio.root) if at_work else None
    status = run.status if run else None
    phase = f"{status.phase} {status.step}" if status and status.phase == "training" and status.step else status.phase if status else ""
    return Cell(jobs, sum(scores) / len(scores) if scores else None, phase if status and status.state.is_active else "")


def _row(root: Path, key: str) -> Row | None:
    """A row; None for one that is damaged, or not there."""
    try:
        found = row_path(root, key).stat()
        return _read(root, key, found.st_mtime_ns, found.st_size)
    except FileNotFoundError:
        return _read(root, key)


@lru_cache(MOST_ROWS)
def _read(root: Path, key: str, *of: int) -> Row | None:
    try:
        return find_row(root, key)
    except (DreamboothError, FileNotFoundError):
        return None


def _tables(root: Path, plan: str) -> list[str]:
    folder = root / "tables" / plan
    return sorted(f"{plan}/{path.name}" for path in folder.glob("*.html")) if folder.is_dir() else []
