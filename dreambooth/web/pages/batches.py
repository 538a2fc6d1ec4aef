"""Batches in the browser: a table sent, its rows watched, put in order, cancelled, one customer's deleted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from dreambooth.bench.batch.subjects import BY_SUBJECT, Subjects
from dreambooth.core.errors import SettingError
from dreambooth.web import batches, webhooks
from dreambooth.web.batch_removal import remove_subject
from dreambooth.web.batches import MODELS, Standing, plain_entry
from dreambooth.web.choices import METHOD, MODEL, models
from dreambooth.web.events import BREATH, event
from dreambooth.web.pages.api import Root
from dreambooth.web.pages.batch_api import Form, Hooks, Named, split
from dreambooth.web.pages.new import sent
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.submitting import Asked, submit
from dreambooth.web.view import page

router = APIRouter(include_in_schema=False)
Sent = Annotated[FormData, Depends(sent)]
FIELDS = ("name", "model", "method", "accept", "retry", "more", "webhook")
PAUSE = 1.0
MOST_SHOWN = 1000
"""Rows that a page shows; the results for programs have them all."""


@router.get("/batches")
def list_batches(request: Request, studio: Root, hooks: Hooks) -> HTMLResponse:
    """All batches, and the form for another."""
    return _list(request, studio, hooks, dict.fromkeys(FIELDS, ""))


@router.post("/batches/upload")
def begin(request: Request, studio: Root, hooks: Hooks, form: Form) -> Response:
    """Submit a table, with photos or without."""
    typed = {name: str(form.get(name) or "").strip() for name in FIELDS}
    table, files = form.get("table"), [one for one in form.getlist("photos") if isinstance(one, UploadFile) and one.filename]
    try:
        if not isinstance(table, UploadFile) or not table.filename:
            raise SettingError("table", "choose a table: a CSV with the columns subject, class, photos.")
        settings: dict[str, Any] = {MODEL: typed["model"] or None, METHOD: typed["method"] or None, "accept": typed["accept"] or None}
        settings |= {"retry": typed["retry"].split() or None, **_more(typed["more"])}
        webhook = hooks.digest(typed["webhook"]) if typed["webhook"] else ""
        photos = [(*split(one.filename or ""), one.file) for one in files]
        made = submit(studio, Asked(typed["name"], settings, table=table.file.read(), photos=photos, webhook=webhook))
    except SettingError as refused:
        return _list(request, studio, hooks, typed, error=str(refused))
    assert made.batch
    return RedirectResponse(f"/batches/{made.batch.id}", 303)


@router.get("/batches/{batch}")
def show(request: Request, studio: Root, named: Named) -> HTMLResponse:
    """One batch."""
    return page(request, "batch.html", **_shown(studio, batches.standing(studio, named)))


@router.get("/batches/{batch}/live")
def live(request: Request, studio: Root, named: Named) -> HTMLResponse:
    """What changes on it."""
    return page(request, "batch_live.html", **_shown(studio, batches.standing(studio, named)))


@router.get("/batches/{batch}/events")
async def events(studio: Root, named: Named) -> StreamingResponse:
    """What a batch is doing, as it changes."""
    return StreamingResponse(_events(studio, named), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


@router.get("/batches/{batch}/strip/{subject}")
def strip(studio: Root, named: Named, subject: str) -> FileResponse:
    """The small pictures of a row."""
    studio.inside(subject)
    path = Subjects(studio.batches / named.id / MODELS).strip(subject)
    if not path.is_file() or path.is_symlink():
        raise Missing("subject", "there are no pictures of it.")
    return FileResponse(path, headers={"cache-control": "private, max-age=60"})


@router.post("/batches/{batch}/cancel")
def cancel(studio: Root, named: Named) -> Response:
    """Take it out of the queue, or have it save and end."""
    batches.cancel(studio, named)
    return _back(named.id)


@router.post("/batches/{batch}/again")
def again(studio: Root, named: Named) -> Response:
    """Go on with what is not finished."""
    batches.go_on(studio, named)
    return _back(named.id)


@router.post("/batches/{batch}/priority")
def prefer(studio: Root, named: Named, form: Sent) -> Response:
    """Have it done sooner or later."""
    try:
        priority = int(str(form.get("priority", "")))
    except ValueError:
        raise SettingError("priority", "it is a whole number; those with a higher one begin first.") from None
    batches.prefer(studio, named, max(-1000, min(priority, 1000)))
    return _back(named.id)


@router.post("/batches/{batch}/webhook")
def report_again(studio: Root, named: Named) -> Response:
    """Send at once what an address has not taken."""
    webhooks.try_again(batches.folder_of(studio, named.id))
    return _back(named.id)


@router.get("/batches/{batch}/delete/{subject}")
def delete_page(request: Request, studio: Root, named: Named, subject: str) -> HTMLResponse:
    """What deleting a subject means, and the question."""
    batches.entry_of(batches.standing(studio, named), subject)
    return page(request, "batch_delete.html", batch=named, subject=subject, error="")


@router.post("/batches/{batch}/delete/{subject}")
def delete(request: Request, studio: Root, named: Named, subject: str, form: Sent) -> Response:
    """Delete a subject, where its name was typed."""
    if str(form.get("name", "")).strip() != subject:
        error = "That is not its name; nothing was deleted."
        return page(request, "batch_delete.html", status=422, batch=named, subject=subject, error=error)
    remove_subject(studio, named, subject, photos=form.get("photos") == "yes")
    return _back(named.id)


async def _events(studio: Studio, named: batches.Batch) -> AsyncIterator[str]:
    """It ends when the batch has: whoever goes on with it opens another."""
    said, silent = "", 0.0
    yield "retry: 1000\n\n"
    while True:
        now = await asyncio.to_thread(batches.standing, studio, named)
        news = event("status", {"state": now.state, "phase": str(now.counts), "cause": now.cause})
        if news != said:
            yield news
        said, silent = news, silent + PAUSE if news == said else 0.0
        if not now.is_waiting:
            yield event("over", {})
            return
        if silent >= BREATH:
            yield ": still here\n\n"
            silent = 0.0
        await asyncio.sleep(PAUSE)


def _list(request: Request, studio: Studio, hooks: webhooks.Webhooks, typed: dict[str, str], *, error: str = "") -> HTMLResponse:
    found = [batches.standing(studio, one) for one in batches.read_batches(studio)]
    hosts = [webhooks.host_of(one) for one in hooks.addresses]
    here = sorted(models(studio), key=lambda model: not model.is_here)
    return page(
        request, "batches.html", status=422 if error else 200, batches=found, models=here, hosts=hosts, typed=typed, error=error
    )  # fmt: skip


def _shown(studio: Studio, now: Standing) -> dict[str, Any]:
    subjects, rows = Subjects(studio.batches / now.batch.id / MODELS), []
    for entry in now.entries[:MOST_SHOWN]:
        run = f"{studio.batches.name}/{now.batch.id}/{MODELS}/{BY_SUBJECT}/{entry.subject}" if entry.path else ""
        has_strip = bool(entry.path) and subjects.strip(entry.subject).is_file()
        rows.append({**plain_entry(studio, entry), "run": run, "has_strip": has_strip})
    reports = webhooks.delivery(studio.batches / now.batch.id) if now.batch.webhook else None
    return {"now": now, "rows": rows, "reports": reports, "command": now.job.command if now.job else ""}


def _more(text: str) -> dict[str, str]:
    """Further settings, a line each."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, is_there, value = line.removeprefix("--").replace(" ", "=", 1).partition("=")
        if not is_there or not value.strip():
            raise SettingError("more", f"{line!r} names no value.", fix="Write a setting and its value in each line: rank 8.")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def _back(name: str) -> Response:
    return RedirectResponse(f"/batches/{name}", 303)
