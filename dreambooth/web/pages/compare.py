"""Runs side by side, and benches: subjects by arms, coloured by what has become of them."""

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from dreambooth.bench.rows import find_row, is_bench, row_keys
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.files.locks import is_held
from dreambooth.reporting.comparison import compare
from dreambooth.web.pages.runs import REPORTS
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]
Names = Annotated[list[str], Query()]
SHOWN = "dino"
"""The score that colours a finished cell."""
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Cell:
    """The jobs of a subject and an arm."""

    done: int
    score: float | None


@dataclass(frozen=True)
class Bench:
    """A bench's folder."""

    name: str
    plan: str
    arms: list[str]
    subjects: list[str]
    cells: dict[tuple[str, str], Cell]
    tables: list[str]
    is_at_work: bool
    waiting: int
    """Folders of jobs that have no row yet: at work, or interrupted."""


@router.get("/compare")
def choose(request: Request, studio: Root, run: Names = []) -> HTMLResponse:  # noqa: B006
    """Which runs, and their comparison where two to four were chosen."""
    error = ""
    if run:
        try:
            _written(studio, run)
        except SettingError as refused:
            error = f"{refused.reason} {refused.fix}"
    found = [one for one in studio.runs().runs if one.record][:200]
    return page(request, "compare.html", status=422 if error else 200, runs=found, chosen=run, error=error)


@router.get("/compare/page")
def compared(studio: Root, run: Names = []) -> Response:  # noqa: B006
    """The comparison itself, a page that can do nothing."""
    headers = {"content-security-policy": REPORTS}
    return FileResponse(_written(studio, run), media_type="text/html", headers=headers)


@router.get("/bench")
def benches(request: Request, studio: Root) -> HTMLResponse:
    """The benches below the root."""
    folders = [path for path in sorted(studio.root.iterdir()) if path.is_dir() and not path.is_symlink() and is_bench(path)]
    found = [bench for path in folders for bench in _benches(studio, path.name)]
    return page(request, "bench.html", benches=found)


@router.get("/bench/{name}/tables/{path:path}")
def table(studio: Root, name: str, path: str) -> Response:
    """A table of a bench, a page that can do nothing."""
    found = studio.inside(name, "tables", *path.split("/"))
    if not found.is_file() or found.suffix != ".html":
        raise Missing("table", f"{path} is not there.")
    return FileResponse(found, media_type="text/html", headers={"content-security-policy": REPORTS})


def _written(studio: Studio, names: list[str]) -> "str":
    """The comparison's file, written anew; raises SettingError for runs that cannot be compared."""
    runs = [studio.run(name) for name in names]
    path = studio.own / "compared" / f"{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:16]}.html"
    path.parent.mkdir(exist_ok=True)
    compare(runs, path)
    return str(path)


def _benches(studio: Studio, name: str) -> list[Bench]:
    """A bench's rows by plan."""
    root, by_plan = studio.root / name, dict[str, dict[tuple[str, str], list[float | None]]]()
    for key in row_keys(root)[:MOST_ROWS]:
        try:
            row = find_row(root, key)
        except (DreamboothError, FileNotFoundError):
            continue
        by_plan.setdefault(row.plan, {}).setdefault((row.subject, row.arm), []).append(row.scores.get(SHOWN, {}).get("value"))
    folders = {path.name for path in (root / "jobs").iterdir() if path.is_dir()} if (root / "jobs").is_dir() else set[str]()
    waiting = len(folders - set(row_keys(root)))
    found = []
    for plan, values in sorted(by_plan.items()):
        tables = root / "tables" / plan
        pages = sorted(f"{plan}/{path.name}" for path in tables.glob("*.html")) if tables.is_dir() else []
        found.append(Bench(
            name, plan, sorted({arm for _, arm in values}), sorted({subject for subject, _ in values}),
            {place: Cell(len(some), _mean(some)) for place, some in values.items()}, pages, is_held(root), waiting,
        ))  # fmt: skip
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
