"""Home: what waits, what runs and what there is."""

import shutil
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dreambooth.setup.runs import FoundRun
from dreambooth.setup.states import State, Status
from dreambooth.web import jobs
from dreambooth.web.choices import MODEL, NOUN
from dreambooth.web.drafts import Draft, read_drafts
from dreambooth.web.studio import Studio
from dreambooth.web.uploads import photos_of
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
PER_PAGE = 24
Root = Annotated[Studio, Depends(studio_of)]


@dataclass(frozen=True)
class Machine:
    """Where the runs are done."""

    device: str
    free: int
    """Bytes of the disk that are free."""


@dataclass(frozen=True)
class Card:
    """A run as Home shows it."""

    run: FoundRun
    status: Status | None
    picture: str
    verdict: str
    bytes: int


@router.get("/")
def home(request: Request, studio: Root, q: str = "", number: int = 1) -> HTMLResponse:
    """All runs as cards, a page of them at a time; the queue; drafts."""
    runs = [run for run in studio.runs().runs if q.casefold() in run.name.casefold()]
    shown = runs[PER_PAGE * (max(1, number) - 1) : PER_PAGE * max(1, number)]
    return page(
        request, "home.html", cards=[card(run) for run in shown], count=len(runs), number=max(1, number), q=q,
        more=len(runs) > PER_PAGE * max(1, number), drafts=unfinished(studio), queue=queue(studio), machine=machine(studio),
    )  # fmt: skip


@router.get("/queue")
def queue_part(request: Request, studio: Root) -> HTMLResponse:
    """The queue alone."""
    return page(request, "queue.html", queue=queue(studio))


@router.post("/queue/{name}/first")
def move_first(studio: Root, name: str) -> Response:
    """Have a job done next."""
    jobs.first(studio, jobs.job_named(studio, name))
    return RedirectResponse("/", 303)


@router.post("/queue/{name}/cancel")
def cancel(studio: Root, name: str) -> Response:
    """Take a job out of the queue."""
    jobs.cancel(studio, jobs.job_named(studio, name))
    return RedirectResponse("/", 303)


def card(run: FoundRun) -> Card:
    """What a card shows."""
    picture = run.picture()
    return Card(run, run.status, picture.relative_to(run.folder).as_posix() if picture else "", run.verdict(), run.size())


def queue(studio: Studio) -> list[tuple[jobs.Job, Status]]:
    """What waits or runs, and trainings that ended before they had a folder."""
    found = [(job, jobs.status_of(studio, job)) for job in jobs.read_jobs(studio)]
    return [
        (job, status) for job, status in found
        if status.state is State.QUEUED or status.state.is_active
        or (status.state is State.FAILED and job.verb == "train" and not (studio.root / job.run / "run.json").exists())
    ]  # fmt: skip


@dataclass(frozen=True)
class Unfinished:
    """A draft of which no run was made."""

    draft: Draft
    name: str
    photos: list[str]
    step: str
    """Where it goes on."""


def unfinished(studio: Studio) -> list[Unfinished]:
    """Drafts of which no run was made, with their first photos."""
    found = []
    for draft in read_drafts(studio):
        photos = [path.name for path in photos_of(studio.photos(draft.id))][:4]
        if not draft.is_started and (photos or draft.settings):
            name = draft.name or str(draft.settings.get(NOUN) or "Without a name")
            found.append(Unfinished(draft, name, photos, "how" if MODEL in draft.settings else "photos"))
    return found


def machine(studio: Studio) -> Machine:
    """The device and the disk of this machine."""
    return Machine(_device(), shutil.disk_usage(studio.root).free)


@cache
def _device() -> str:
    import platform

    import torch

    from dreambooth.core.device import pick_device

    device = pick_device()
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name}, {found.total_memory / 2**30:.0f} GB"
    return "no GPU: this computer's processor" if device.type == "cpu" else f"{device.type} of {platform.node()}"
