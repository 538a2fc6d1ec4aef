"""Models and cache: base models and their terms, and what is kept for all runs."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown
from dreambooth.setup.caches import kept, prune, unused
from dreambooth.web.choices import Model, model_named, models
from dreambooth.web.fitting import Fit, Fits, Predicted, predicted
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.view import page, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]


def fits_of(request: Request, found: Iterable[Model]) -> dict[str, Fit | Predicted | None]:
    """What is known of each model's training on this device, by its name."""
    fits: Fits = request.app.state.fits
    return {model.name: fits.of(model.name) if model.is_here else predicted(model.card) for model in found}


@router.get("/models")
def show(request: Request, studio: Root) -> HTMLResponse:
    """Both lists."""
    try:
        found, refusal = kept(studio.runs().runs), ""
    except SettingError as error:
        found, refusal = [], str(error)
    free, every = unused(found), models(studio)
    return page(
        request, "models.html", models=every, fits=fits_of(request, every), refusal=refusal, unused=free,
        kept=[one for one in found if one.kind != "digest"], freed=sum(one.bytes for one in free),
    )  # fmt: skip


@router.get("/models/fit")
def fit(request: Request, studio: Root, model: str) -> HTMLResponse:
    """Whether this device holds the training of one of the models, as soon as that is known."""
    found = model_named(studio, model)
    if found is None:
        raise Missing("model", f"there is no model {shown(model)} here.")
    return page(request, "fit.html", model=found, fit=fits_of(request, [found])[found.name])


@router.post("/models/prune")
def clear(studio: Root) -> Response:
    """Delete what no run of this root uses."""
    prune(unused(kept(studio.runs().runs)))
    return RedirectResponse("/models", 303)
