"""New: photos, model, how, plan. Each step has its address, and what was typed is on the disk before the next one is shown."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData, UploadFile

from dreambooth.core.errors import SettingError
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import config_type
from dreambooth.web import choices, drafts, form, jobs, planning, starting, uploads
from dreambooth.web.choices import NOUN
from dreambooth.web.drafts import Draft
from dreambooth.web.pages.models import fits_of
from dreambooth.web.studio import Studio
from dreambooth.web.view import page, run_url, studio_of

router = APIRouter(include_in_schema=False)
HIDDEN = (drafts.PHOTOS, drafts.OUTPUT, choices.MODEL, NOUN, "resume_from_checkpoint", "allow_changed_settings")
"""What other parts of these pages ask for, and what a new run has no use for."""
STEPS = (("photos", "Photos"), ("model", "Model"), ("how", "How"), ("plan", "Plan"))
Root = Annotated[Studio, Depends(studio_of)]


async def sent(request: Request) -> FormData:
    """A form, with files or without."""
    return await request.form(max_files=uploads.MOST_PHOTOS + 100, max_fields=1000)


Sent = Annotated[FormData, Depends(sent)]


@router.post("/new")
def begin(studio: Root, form: Sent) -> Response:
    """A new draft; with `like`, one of the settings and photos of another."""
    like = str(form.get("like") or "")
    draft = drafts.new_draft(studio, drafts.read_draft(studio, like) if like else None)
    return RedirectResponse(f"/new/{draft.id}/photos", 303)


@router.post("/new/{name}/discard")
def discard(studio: Root, name: str) -> Response:
    """Throw a draft away; its photos, too, where no run learns from them."""
    draft = drafts.read_draft(studio, name)
    in_use = draft.name and ((studio.root / draft.name).exists() or jobs.of_run(studio, draft.name))
    drafts.discard(studio, draft, with_photos=not in_use)
    return RedirectResponse("/", 303)


@router.get("/new/{name}/photos")
def photos(request: Request, studio: Root, name: str) -> HTMLResponse:
    """Photos dropped, and what the check says of them."""
    return _photos(request, studio, drafts.read_draft(studio, name))


@router.post("/new/{name}/photos")
def drop(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Take photos in, each that is one; what is none is said in place."""
    draft, refused = drafts.read_draft(studio, name), list[str]()
    for file in sent.getlist("photos"):
        if isinstance(file, UploadFile) and file.filename:
            try:
                uploads.take(studio.photos(draft.id), file.filename, file.file)
            except SettingError as error:
                refused.append(str(error))
    if refused or "hx-request" in request.headers:
        return _photos(request, studio, draft, refused)
    return RedirectResponse(f"/new/{draft.id}/photos", 303)


@router.get("/new/{name}/photos/{file}")
def photo(studio: Root, name: str, file: str, aside: bool = False) -> Response:
    """A photo, small."""
    folder = studio.photos(drafts.read_draft(studio, name).id)
    place = studio.inside(*folder.relative_to(studio.root).parts, *((uploads.ASIDE,) if aside else ()), file)
    headers = {"cache-control": "private, no-cache"}
    return Response(uploads.thumbnail(place), media_type="image/jpeg", headers=headers)


@router.post("/new/{name}/photo")
def change_photo(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Leave a photo out, take it in again, crop it, or say what it shows."""
    draft, file, what = drafts.read_draft(studio, name), str(sent.get("file", "")), str(sent.get("what", ""))
    folder = studio.photos(draft.id)
    acts = {"aside": uploads.set_aside, "back": uploads.put_back, "crop": uploads.crop, "uncrop": uploads.uncrop}
    if what == "caption":
        uploads.caption(folder, file, str(sent.get("text", "")))
    elif what in acts:
        acts[what](folder, file)
    if "hx-request" in request.headers:
        return _photos(request, studio, draft)
    return RedirectResponse(f"/new/{draft.id}/photos", 303)


@router.get("/new/{name}/model")
def model(request: Request, studio: Root, name: str) -> HTMLResponse:
    """Base models as cards."""
    draft = drafts.read_draft(studio, name)
    found = choices.models(studio)
    return page(
        request, "new_model.html", draft=draft, steps=STEPS, step="model", models=found, fits=fits_of(request, found),
        chosen=draft.settings.get(choices.MODEL, ""),
    )  # fmt: skip


@router.post("/new/{name}/model")
def choose_model(studio: Root, name: str, sent: Sent) -> Response:
    """Note which one, when it is one of those that were shown."""
    draft, wanted = drafts.read_draft(studio, name), str(sent.get("model", ""))
    if choices.model_named(studio, wanted) is None:
        raise SettingError("model", "choose one of the models.", fix="Go back to the list.")
    drafts.with_settings(studio, draft, {choices.MODEL: wanted})
    return RedirectResponse(f"/new/{draft.id}/how", 303)


@router.get("/new/{name}/how")
def how(request: Request, studio: Root, name: str) -> HTMLResponse:
    """What it is, what it is for, and all settings."""
    return _how(request, studio, drafts.read_draft(studio, name))


@router.post("/new/{name}/how")
def choose_how(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Keep what was typed, right or wrong; then the plan, or what is wrong, in place."""
    before = drafts.read_draft(studio, name)
    draft = _kept(studio, before, sent)
    if "hx-request" in request.headers:
        if _deciding(draft) == _deciding(before):
            return page(request, "equal.html", **_equal(studio, draft))
        answer = _how(request, studio, draft)
        answer.headers.update({"HX-Retarget": "#how", "HX-Reswap": "outerHTML"})
        return answer
    try:
        studio.new_run(draft.name)
        if not draft.settings.get(NOUN) and draft.settings.get("concept") != "style":
            raise SettingError(NOUN, "say what it is.", fix="A dog, a mug, a backpack ...")
        draft.config(studio)
    except SettingError as error:
        return _how(request, studio, draft, error)
    return RedirectResponse(f"/new/{draft.id}/plan", 303)


@router.get("/new/{name}/plan")
def plan(request: Request, studio: Root, name: str) -> HTMLResponse:
    """What is going to happen; the plan itself comes when it is made."""
    draft = drafts.read_draft(studio, name)
    return page(request, "new_plan.html", draft=draft, steps=STEPS, step="plan", **_equal(studio, draft))


@router.get("/new/{name}/planned")
def planned(request: Request, studio: Root, name: str) -> HTMLResponse:
    """The plan."""
    draft = drafts.read_draft(studio, name)
    found = _planned(studio, draft)
    busy = [job for job in jobs.read_jobs(studio) if job.device == found.device and jobs.status_of(studio, job).state.is_active]
    return page(request, "planned.html", draft=draft, plan=found, busy=busy)


@router.post("/new/{name}/start")
def start(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Start the run, or put it into the queue; what the checks refuse is not started."""
    draft = drafts.read_draft(studio, name)
    found = _planned(studio, draft)
    if found.refusal or found.fits is False:
        return page(request, "new_plan.html", status=422, draft=draft, steps=STEPS, step="plan", **_equal(studio, draft))
    starting.start(studio, draft.name, draft.config(studio), at_once=sent.get("at_once") == "yes")
    drafts.save(studio, replace(draft, is_started=True))
    return RedirectResponse(run_url(draft.name), 303)


def _planned(studio: Studio, draft: Draft) -> planning.Planned:
    try:
        studio.new_run(draft.name)
        return planning.planned(draft.config(studio), studio)
    except SettingError as error:
        return planning.Planned(refusal=error)


def _photos(request: Request, studio: Studio, draft: Draft, refused: list[str] | None = None) -> HTMLResponse:
    folder = studio.photos(draft.id)
    folder.mkdir(parents=True, exist_ok=True)
    report, shown = uploads.checked(folder)
    aside = [path.name for path in uploads.aside_of(folder)]
    is_part = "hx-request" in request.headers
    return page(
        request, "photo_list.html" if is_part else "new_photos.html", status=422 if refused and not is_part else 200, draft=draft,
        steps=STEPS, step="photos", photos=shown, general=[one for one in report.of(None) if one.check != "no photo"], aside=aside,
        refused=refused or [],
    )  # fmt: skip


def _how(request: Request, studio: Studio, draft: Draft, error: SettingError | None = None) -> HTMLResponse:
    tree, resolved, chosen = _tree(draft), None, dict[str, drafts.Typed]()
    try:
        chosen = draft.chosen(studio)
        resolved = choices.recipe(draft.config(studio))
    except SettingError as wrong:
        error = error or wrong
    found = form.fields(tree, draft.settings, resolved=resolved, chosen=chosen, hidden=HIDDEN, error=error)
    noun = form.fields(tree, draft.settings, only=(NOUN,), error=error)[0]
    known = {one.name for one in (*found, noun)}
    other = error if error and error.setting.removeprefix("--") not in known | {"name"} else None
    name = "how_form.html" if "hx-request" in request.headers else "new_how.html"
    return page(
        request, name, status=422 if error else 200, draft=draft, steps=STEPS, step="how", goals=choices.GOALS.values(), noun=noun,
        basic=[one for one in found if one.level == "basic"], groups=form.grouped([one for one in found if one.level != "basic"]),
        name_error=f"{error.reason} {error.fix}" if error and error.setting == "name" else "", other=other,
        suggestion=draft.name or _free_name(studio, draft), **_equal(studio, draft),
    )  # fmt: skip


def _deciding(draft: Draft) -> tuple[object, ...]:
    """What other settings' values follow from."""
    return draft.goal, draft.settings.get(choices.METHOD), draft.settings.get("preset")


def _tree(draft: Draft) -> type[TrainConfig]:
    goal = choices.GOALS.get(draft.goal)
    return config_type(draft.settings.get(choices.METHOD) or (goal.settings[choices.METHOD] if goal else None), may_import=False)


def _kept(studio: Studio, draft: Draft, sent: FormData) -> Draft:
    """The draft with all that a form holds."""
    names = (NOUN, *(one.name for one in form.fields(_tree(draft), {}, hidden=HIDDEN)))
    goal, name = str(sent.get("goal", draft.goal)), str(sent.get("name", draft.name)).strip()[:200]
    draft = replace(draft, name=name, goal=goal if goal in choices.GOALS else draft.goal)
    return drafts.with_settings(studio, draft, form.read(_tree(draft), dict(sent), names))


def _equal(studio: Studio, draft: Draft) -> dict[str, Any]:
    """The command line and the file that say the same."""
    try:
        return {"command": draft.command(studio), "yaml": starting.as_yaml(draft.config(studio)), "wrong": ""}
    except SettingError as error:
        return {"command": "", "yaml": "", "wrong": str(error)}


def _free_name(studio: Studio, draft: Draft) -> str:
    """A name that nothing has yet, after what it is."""
    own = "-".join(str(draft.settings.get(NOUN) or "my model").split())[:40]
    names = [own, *(f"{own}-{number}" for number in range(2, 10_000))]
    return next(name for name in names if not (studio.root / name).exists() and not jobs.of_run(studio, name))
