"""A run: watched while it learns, steered, and what it leaves."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.datastructures import FormData

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import size
from dreambooth.run.remove import carry_out, removal
from dreambooth.setup.details import details
from dreambooth.setup.journal import RECORDS
from dreambooth.setup.record import CONFIG
from dreambooth.setup.states import Status
from dreambooth.setup.steering import ask
from dreambooth.web import drafts, jobs, starting, uploads
from dreambooth.web.events import size_of, stream
from dreambooth.web.pages.new import sent
from dreambooth.web.shared import Shared
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.view import STEPPING, RunView, chosen, page, run_url, run_view, status_of, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]
Sent = Annotated[FormData, Depends(sent)]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_LIVE, _STATUS = Shared[HTMLResponse](4.0), Shared[Status | None](1.0)
REPORTS = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
"""What a report may do: it is a file that may have come from elsewhere."""


@router.get("/runs/{name:path}/-/events")
async def events(request: Request, studio: Root, name: str, after: int = 0) -> StreamingResponse:
    """The run's records, and what it is doing, as they come."""
    last = request.headers.get("last-event-id", "")
    folder = studio.inside(*name.split("/"))

    def asked() -> Status | None:
        try:
            return status_of(studio, name)
        except Missing:
            return None

    def status() -> Status | None:
        return _STATUS.get((studio.root, name, size_of(folder / RECORDS)), asked)

    body = stream(folder, status, int(last) if last.isdecimal() else max(0, after))
    return StreamingResponse(body, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


@router.get("/runs/{name:path}/-/live")
def live(request: Request, studio: Root, name: str, seen: int = 0) -> HTMLResponse:
    """What changes on a run's page, drawn once for all who have `seen` the same event last."""

    def drawn() -> HTMLResponse:
        return page(request, "run_live.html", **_shown(studio, run_view(studio, name)))

    return _LIVE.get((studio.root, name, seen, str(status_of(studio, name))), drawn) if seen else drawn()


@router.get("/runs/{name:path}/-/files/{path:path}")
def file(studio: Root, name: str, path: str) -> Response:
    """A picture, the report, or an export of the run."""
    run = studio.run(name)
    found = studio.file(run, path)
    if path in ("report.html", "progress.html"):
        return FileResponse(found, media_type="text/html", headers={"content-security-policy": REPORTS})
    if found.suffix.lower() in PICTURES:
        return FileResponse(found, headers={"cache-control": "private, max-age=60"})
    is_weights = found.suffix == ".safetensors" and (path.startswith("export/") or "/" not in path)
    if is_weights or path in (CONFIG, "scores.json"):
        return FileResponse(found, filename=found.name, media_type="application/octet-stream")
    raise Missing("file", f"{path} is none of the files that are shown.")


@router.get("/runs/{name:path}/-/thumb/{path:path}")
def thumb(studio: Root, name: str, path: str, side: int = 480) -> Response:
    """A picture of the run, small."""
    found = studio.file(studio.run(name), path)
    if found.suffix.lower() not in PICTURES:
        raise Missing("file", f"{path} is no picture.")
    data = uploads.thumbnail(found, min(max(side, 64), 1024))
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=60"})


@router.post("/runs/{name:path}/-/ask")
def steer(studio: Root, name: str, sent: Sent) -> Response:
    """Ask a training for something; a run that waits in the queue is taken out of it."""
    what = str(sent.get("what", ""))
    if what not in STEPPING:
        raise SettingError("what", f"a run is asked to {', '.join(STEPPING)}.")
    ask(studio.run(name), what)
    return RedirectResponse(run_url(name), 303)


@router.post("/runs/{name:path}/-/again")
def go_on(studio: Root, name: str) -> Response:
    """Go on from the last checkpoint; a start that failed before there was one is made again."""
    starting.go_on(studio, name)
    return RedirectResponse(run_url(name), 303)


@router.get("/runs/{name:path}/-/delete")
def delete_page(request: Request, studio: Root, name: str) -> HTMLResponse:
    """What deleting means, and the question."""
    return _delete(request, studio, name)


@router.post("/runs/{name:path}/-/delete")
def delete(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Delete a run, where its name was typed."""
    if str(sent.get("name", "")).strip() != name:
        return _delete(request, studio, name, error="That is not its name; nothing was deleted.")
    run = studio.run(name)
    waiting = [job for job in jobs.of_run(studio, name) if jobs.status_of(studio, job).state.is_active]
    if waiting:
        raise SettingError("run", f"{name} is at work: {waiting[0].verb}.", fix="Wait for it, or stop it first.")
    carry_out(removal(run, studio.root, studio.runs().runs))
    for job in jobs.of_run(studio, name):
        jobs.forget(studio, job)
    for draft in _drafts(studio, name):
        drafts.discard(studio, draft, with_photos=sent.get("photos") == "yes")
    return RedirectResponse("/", 303)


@router.get("/runs/{name:path}")
def run(request: Request, studio: Root, name: str) -> HTMLResponse:
    """A run's page."""
    return page(request, "run.html", **_shown(studio, run_view(studio, name)))


def _drafts(studio: Studio, name: str) -> list[drafts.Draft]:
    """The drafts that a run was made of."""
    return [draft for draft in drafts.read_drafts(studio) if draft.is_started and draft.name == name]


def _shown(studio: Studio, view: RunView) -> dict[str, Any]:
    steps, best = chosen(view.run) if view.run else ([], None)
    sheet = view.run.picture() if view.run and view.run.record else None
    verdict = view.run.scores().get("verdict") if view.run else None
    return {
        "view": view, "steps": steps, "best": best, "facts": details(view.run) if view.run else [],
        "has_report": bool(view.run and (view.run.folder / "report.html").is_file()),
        "verdict": {"word": "", "sentence": "", **(verdict if isinstance(verdict, dict) else {})},
        "sheet": sheet.relative_to(view.run.folder).as_posix() if sheet and view.run else "",
    }  # fmt: skip


def _delete(request: Request, studio: Studio, name: str, *, error: str = "") -> HTMLResponse:
    run = studio.run(name)
    try:
        wanted = removal(run, studio.root, studio.runs().runs)
    except SettingError as refused:
        return page(request, "message.html", status=422, title=f"{name} cannot be deleted now", text=str(refused), back=run_url(name))
    return page(
        request, "run_delete.html", status=422 if error else 200, run=run, bytes=size(run.size()), base_of=wanted.base_of, error=error,
        kept=[path.name for path in wanted.kept], has_photos=bool(_drafts(studio, name)),
    )  # fmt: skip
