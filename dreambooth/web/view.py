"""What all pages share: templates, addresses, words, and what is shown of a run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse

from dreambooth.core.wording import duration, size
from dreambooth.files.images import read_settings
from dreambooth.files.places import is_inside
from dreambooth.reporting.curves import Chart, Measured, charts, measured
from dreambooth.reporting.templates import template
from dreambooth.setup.journal import RECORDS, metric_rows, read_records
from dreambooth.setup.record import RECORD
from dreambooth.setup.runs import FoundRun
from dreambooth.setup.states import State, Status
from dreambooth.training.state import checkpoints
from dreambooth.web import jobs
from dreambooth.web.studio import Missing, Studio

TEMPLATES = Path(__file__).parent / "templates"
PLAY = "samples/play"
"""Where the pictures of a run's Play page lie, one folder for each request."""
STEPPING = ("sample", "save", "stop", "finish")


def page(request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from its template."""
    shared = {"size": size, "duration": duration, "run_url": run_url, "path": request.url.path, "clock": clock, "State": State}
    return HTMLResponse(template(name, TEMPLATES).render(**shared, **values), status_code=status)


def studio_of(request: Request) -> Studio:
    """The root that this server serves."""
    return request.app.state.studio


def run_url(name: str, *tail: str) -> str:
    """The address of a run's page, or of something below it."""
    return "/".join((f"/runs/{quote(name)}", *(("-", *(quote(part) for part in tail)) if tail else ())))


def clock(seconds: float) -> str:
    """A moment as people read it: the hour of today, else the day."""
    moment = time.localtime(seconds)
    return time.strftime("%H:%M" if time.time() - seconds < 43200 else "%d %b %H:%M", moment)


@dataclass(frozen=True)
class RunView:
    """A run, or what is to become one, as its page shows it."""

    name: str
    status: Status | None
    run: FoundRun | None
    job: jobs.Job | None
    """Its newest job."""
    phase: str = ""
    done: int = 0
    total: int = 0
    left: str = ""
    """Time that the training will still take, in words."""
    place: int = 0
    """Bytes of the records that this view has read: where its events go on."""
    previews: Sequence[tuple[int, list[str]]] = ()
    charts: Sequence[Chart] = ()
    scores: Sequence[Measured] = ()
    messages: Sequence[tuple[float, str, bool]] = ()
    log: str = ""

    @property
    def state(self) -> str:
        return str(self.status.state) if self.status else "unknown"

    @property
    def is_active(self) -> bool:
        return bool(self.status and self.status.state.is_active)

    @property
    def is_waiting(self) -> bool:
        return self.is_active or bool(self.status and self.status.state is State.QUEUED)

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to go on from."""
        return bool(self.run and not self.run.remark and self.status and self.status.state in (State.INTERRUPTED, State.FAILED))


def status_of(studio: Studio, name: str) -> Status | None:
    """What a run is doing: as its newest training job says, else as its folder does. Raises Missing where there is neither."""
    return _status(studio, *_found(studio, name))


def _found(studio: Studio, name: str) -> tuple[FoundRun | None, jobs.Job | None]:
    """A run's folder and its newest training job, where they are; raises Missing where there is neither."""
    try:
        run = studio.run(name)
    except Missing:
        run = None
    own = [job for job in jobs.of_run(studio, name) if job.verb == "train"]
    if not own and run is None:
        raise Missing("run", f"there is no run {name} here.", fix="It may have been deleted or moved.")
    return run, own[-1] if own else None


def _status(studio: Studio, run: FoundRun | None, job: jobs.Job | None) -> Status | None:
    status = jobs.status_of(studio, job) if job else None
    if status and (run is None or status.state is State.QUEUED or status.state.is_active):
        return status
    if job and status and run and status.state is State.FAILED and job.started > _ended(run):
        return status
    return run.status if run else status


def run_view(studio: Studio, name: str) -> RunView:
    """A run's page; raises Missing."""
    run, job = _found(studio, name)
    status = _status(studio, run, job)
    log = jobs.log_of(studio, job) if job else ""
    if run is None:
        return RunView(name, status, None, job, log=log)
    place = (run.folder / RECORDS).stat().st_size if (run.folder / RECORDS).is_file() else 0
    lines = read_records(run.folder)
    phase, done, total = _progress(lines, status)
    choice = run.record.get("choice") or {}
    rows = metric_rows(run.folder)
    return RunView(
        name, status, run, job, phase, done, total, _left(lines, status), place, _previews(run, lines),
        charts(rows, chosen=choice.get("step")), measured(rows), _messages(lines), log,
    )  # fmt: skip


def chosen(run: FoundRun) -> tuple[list[int], int | None]:
    """The steps of a run's checkpoints, and the one to take: the best where an evaluation has found one."""
    steps = [int(path.name.removeprefix("checkpoint-")) for path in checkpoints(run.folder)]
    best = (run.record.get("choice") or {}).get("step")
    return steps, best if best in steps else None


@dataclass(frozen=True)
class Drawing:
    """Pictures that were drawn on a run's Play page."""

    id: str
    job: jobs.Job | None
    status: Status
    pictures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    is_grid: bool = False


def drawings(studio: Studio, run: FoundRun) -> list[Drawing]:
    """All requests of a run's Play page, the newest first, those that wait among them."""
    by_id = {job.id: job for job in jobs.of_run(studio, run.name) if job.verb == "generate"}
    folder = run.folder / PLAY
    there = {path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()} if folder.is_dir() else set[str]()
    found = []
    for name in there | set(by_id):
        job = by_id.get(name)
        pictures = sorted(path for path in (folder / name).glob("*.png") if is_inside(path, run.folder)) if name in there else []
        own = [path for path in pictures if not path.stem.startswith(("contact_sheet", "grid"))]
        sheet = [path for path in pictures if path.stem.startswith("grid")]
        notes = read_settings(own[0]) if own else {}
        status = jobs.status_of(studio, job) if job else Status(State.FINISHED)
        names = [path.relative_to(run.folder).as_posix() for path in sheet or own]
        when = (folder / name).stat().st_mtime if name in there else job.added if job else 0
        found.append((when, Drawing(name, job, status, names, notes, str(notes.get("prompt") or _prompt(job)), bool(sheet))))
    return [drawing for _, drawing in sorted(found, key=lambda one: -one[0])]


def _prompt(job: jobs.Job | None) -> str:
    """What pictures that are not drawn yet were asked for."""
    return next((word.partition("=")[2] for word in job.words if word.startswith("--prompt=")), "") if job else ""


def _ended(run: FoundRun) -> float:
    """When a run's record was last written."""
    return (run.folder / RECORD).stat().st_mtime


def _progress(lines: Sequence[dict[str, Any]], status: Status | None) -> tuple[str, int, int]:
    """The phase and how far it is, by the last line that says so since the last start."""
    for line in reversed(lines):
        if line["kind"] == "start":
            break
        if line["kind"] == "progress":
            return str(line.get("phase")), int(line.get("done") or 0), int(line.get("total") or 0)
        if line["kind"] in ("step", "scores"):
            return "training", int(line.get("step") or 0), int(line.get("total") or 0)
    return status.phase if status else "", 0, 0


def _left(lines: Sequence[dict[str, Any]], status: Status | None) -> str:
    """How long the training will take, by the pace of the present start."""
    if not (status and status.state.is_active and status.phase == "training"):
        return ""
    start = max((place for place, line in enumerate(lines) if line["kind"] == "start"), default=0)
    steps = [line for line in lines[start:] if line["kind"] == "step"]
    if len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"]:
        return ""
    pace = (steps[-1]["time"] - steps[0]["time"]) / (steps[-1]["step"] - steps[0]["step"])
    return duration(max(0.0, pace * (steps[-1].get("total", 0) - steps[-1]["step"])))


def _previews(run: FoundRun, lines: Sequence[dict[str, Any]]) -> list[tuple[int, list[str]]]:
    found = dict[int, list[str]]()
    for line in lines:
        if line["kind"] == "preview":
            paths = [str(path) for path in line.get("paths") or ()]
            found[int(line.get("step") or 0)] = [path for path in paths if is_inside(run.folder / path, run.folder)]
    return sorted(found.items())


def _messages(lines: Sequence[dict[str, Any]]) -> list[tuple[float, str, bool]]:
    return [(float(line["time"]), str(line["text"]), bool(line.get("important"))) for line in lines if line["kind"] == "message"]
