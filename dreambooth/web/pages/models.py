"""Models and cache: base models and their terms, and what is kept for all runs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dreambooth.core.errors import SettingError
from dreambooth.setup.caches import kept, prune, unused
from dreambooth.web.choices import models
from dreambooth.web.studio import Studio
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]


@router.get("/models")
def show(request: Request, studio: Root) -> HTMLResponse:
    """Both lists."""
    try:
        found, refusal = kept(studio.runs().runs), ""
    except SettingError as error:
        found, refusal = [], str(error)
    free = unused(found)
    return page(
        request, "models.html", models=models(studio), kept=[one for one in found if one.kind != "digest"], refusal=refusal,
        unused=free, freed=sum(one.bytes for one in free),
    )  # fmt: skip


@router.post("/models/prune")
def clear(studio: Root) -> Response:
    """Delete what no run of this root uses."""
    prune(unused(kept(studio.runs().runs)))
    return RedirectResponse("/models", 303)
