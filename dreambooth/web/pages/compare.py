"""Runs side by side."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from dreambooth.core.errors import SettingError
from dreambooth.reporting.comparison import compare
from dreambooth.web.pages.runs import REPORTS
from dreambooth.web.studio import Studio
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]
Names = Annotated[list[str], Query()]


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


def _written(studio: Studio, names: list[str]) -> "str":
    """The comparison's file, written anew; raises SettingError for runs that cannot be compared."""
    runs = [studio.run(name) for name in names]
    path = studio.own / "compared" / f"{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:16]}.html"
    path.parent.mkdir(exist_ok=True)
    compare(runs, path)
    return str(path)
