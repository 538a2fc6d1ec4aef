"""The server, put together: pages, the guard in front of them, and the queue's clock."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import dreambooth
from dreambooth.core.errors import DreamboothError, SettingError, first_line, redacted
from dreambooth.reporting.templates import HERE as REPORT
from dreambooth.web import jobs, webhooks
from dreambooth.web.batches import recover
from dreambooth.web.fitting import Fits
from dreambooth.web.guard import Guard
from dreambooth.web.pages import api, batch_api, batches, bench, compare, home, models, new, play, runs
from dreambooth.web.studio import Conflict, Missing, Studio
from dreambooth.web.view import page
from dreambooth.web.webhooks import Webhooks

STATIC = Path(__file__).parent / "static"
TICK = 1.0
"""Seconds between two looks at the queue."""

log = logging.getLogger(__name__)


def create_app(
    studio: Studio, *, host: str = "127.0.0.1", names: Sequence[str] = (), token: str | None = None, pumps: bool = True,
    hooks: Webhooks | None = None,
) -> FastAPI:  # fmt: skip
    """The app over a root. `token` is asked of everybody; `pumps`: whether it starts what waits in the queue, and reports to `hooks`."""
    hooks = hooks or Webhooks()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        clocks = (_pump(studio), _report(studio, hooks), _plan(app.state.fits)) if pumps else ()
        tasks = [asyncio.create_task(clock) for clock in clocks]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(
        title="dreambooth", version=dreambooth.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    app.state.studio, app.state.webhooks, app.state.fits = studio, hooks, Fits(studio)
    app.add_middleware(Guard, host=host, names=names, token=token)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/report.css", _style, include_in_schema=False)
    for part in (batch_api, api, batches, home, new, play, runs, compare, bench, models):
        app.include_router(part.router)
    app.add_exception_handler(DreamboothError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(Exception, _failed)
    return app


async def _pump(studio: Studio) -> None:
    """Start what may start, every second."""
    await _again(lambda: recover(studio), "The queue waits", once=True)
    await _again(lambda: jobs.pump(studio), "The queue waits")


async def _report(studio: Studio, hooks: Webhooks) -> None:
    """Report what has come of batches to the addresses that are listed; what cannot be reported now waits on the disk."""
    seen: dict[str, object] = {}
    await _again(lambda: webhooks.turn(studio, hooks, seen), "Reports wait", once=not hooks.addresses)


async def _again(what: Callable[[], object], waits: str, *, once: bool = False) -> None:
    """Do something every second in a thread; what a disk says goes to the log, and the next second tries again."""
    while True:
        try:
            await asyncio.to_thread(what)
            if once:
                return
        except DreamboothError as error:
            log.warning("%s: %s", waits, error)
        except OSError as error:
            log.warning("%s: %s", waits, error.strerror or error)
        await asyncio.sleep(TICK)


async def _plan(fits: Fits) -> None:
    """Plan what models need that pages have asked for."""
    await _again(fits.plan_next, "What models need is not planned")


def _style() -> Response:
    """The style of reports, which pages share."""
    text = (REPORT / "style.css").read_text(encoding="utf-8")
    return Response(text, media_type="text/css", headers={"cache-control": "max-age=300"})


async def _refused(request: Request, error: Exception) -> Response:
    """A sentence for what cannot be done: as JSON where a program asked, else as a page."""
    status = 404 if isinstance(error, Missing) else 409 if isinstance(error, Conflict) else 422 if isinstance(error, SettingError) else 500
    setting, reason, fix = (getattr(error, name, "") for name in ("setting", "reason", "fix"))
    if request.url.path.startswith("/api/"):
        return JSONResponse({"setting": setting, "reason": reason or str(error), "fix": fix}, status)
    title = "That is not here" if status == 404 else "That cannot be done"
    return page(request, "message.html", status=status, title=title, text=f"{reason or error} {fix}".strip(), back="/")


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"setting": "", "reason": str(error.detail), "fix": ""}, error.status_code)
    words = "There is no such page." if error.status_code == 404 else str(error.detail)
    return page(request, "message.html", status=error.status_code, title="That is not here", text=words, back="/")


async def _misread(request: Request, error: Exception) -> Response:
    """A request of another shape than its description says."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return await _refused(request, SettingError(place, f"{first['msg']}.", fix="See /api/ for what is asked for."))


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody has foreseen: a sentence for the person, the traceback for the server's log."""
    words = f"{type(error).__name__}: {redacted(first_line(error))}. This is a fault of dreambooth; where it was printed by the server."
    if request.url.path.startswith("/api/"):
        return JSONResponse({"setting": "", "reason": words, "fix": ""}, 500)
    return page(request, "message.html", status=500, title="Something went wrong", text=words, back="/")
