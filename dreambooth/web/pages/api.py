"""The same for programs: runs, the queue, models and settings as JSON, under `/api`; its description is `/api/openapi.json`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from dreambooth.core.errors import SettingError
from dreambooth.run.remove import carry_out, removal
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.details import details
from dreambooth.setup.given import config_type, from_arguments
from dreambooth.setup.steering import ask
from dreambooth.web import jobs, planning, starting
from dreambooth.web.choices import METHOD, models
from dreambooth.web.confine import confine, refuse_unsaid
from dreambooth.web.drafts import OUTPUT, PHOTOS
from dreambooth.web.studio import Studio
from dreambooth.web.view import page, status_of, studio_of

router = APIRouter(prefix="/api")
Root = Annotated[Studio, Depends(studio_of)]


class Training(BaseModel):
    """A training that is asked for."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(description="Of the run, and of its folder.")]
    settings: Annotated[dict[str, Any], Field(description="Settings of `dreambooth train`, by flag; folders as seen from the root.")]
    at_once: Annotated[bool, Field(description="Start although the device is at work.")] = False


class Wish(BaseModel):
    """What a training is asked to do."""

    what: Annotated[str, Field(description="sample, save, stop or finish")]


class Pictures(BaseModel):
    """Pictures that are asked for."""

    model_config = ConfigDict(extra="forbid")

    settings: Annotated[dict[str, Any], Field(description="Settings of `dreambooth generate`, by flag; prompt is needed.")]
    step: Annotated[str, Field(description="A checkpoint; empty for the result.")] = ""


class Export(BaseModel):
    """A file that is asked for."""

    model_config = ConfigDict(extra="forbid")

    settings: Annotated[dict[str, Any], Field(description="Settings of `dreambooth export`, by flag; format is needed.")]
    step: Annotated[str, Field(description="A checkpoint; empty for the result.")] = ""


@router.get("/", include_in_schema=False)
def index(request: Request) -> HTMLResponse:
    """What there is, for people."""
    paths = request.app.openapi()["paths"]
    found = [(method.upper(), path, entry.get("description", "")) for path, some in paths.items() for method, entry in some.items()]
    return page(request, "api.html", endpoints=sorted(found, key=lambda one: (one[1], one[0])))


@router.get("/runs")
def list_runs(studio: Root, offset: int = 0, limit: int = 100) -> dict[str, Any]:
    """Runs, the newest first."""
    found = studio.runs()
    chosen = found.runs[max(0, offset) : max(0, offset) + min(max(1, limit), 1000)]
    return {"runs": [run.plain() for run in chosen], "count": len(found.runs), "unreadable": [str(path) for path in found.unreadable]}


@router.post("/runs", status_code=201)
def submit(studio: Root, asked: Training) -> dict[str, Any]:
    """Train; it is checked as on the command line, and waits while its device is at work."""
    config = _config(studio, asked)
    planning.refuse(config)
    return _plain(studio, starting.start(studio, asked.name, config, at_once=asked.at_once))


@router.post("/plan")
def plan(studio: Root, asked: Training) -> dict[str, Any]:
    """What a training would need; nothing is started."""
    found = planning.planned(_config(studio, asked), studio)
    if found.refusal:
        raise found.refusal
    return {"lines": dict(found.lines), "remarks": found.remarks, "fits": found.fits, "device": found.device}


@router.post("/runs/{name:path}/-/ask")
def steer(studio: Root, name: str, wish: Wish) -> dict[str, Any]:
    """Have a training draw a preview, save, stop or finish."""
    if wish.what not in ("sample", "save", "stop", "finish"):
        raise SettingError("what", "a run is asked to sample, save, stop or finish.")
    return {"name": name, "status": str(ask(studio.run(name), wish.what))}


@router.post("/runs/{name:path}/-/again", status_code=201)
def go_on(studio: Root, name: str) -> dict[str, Any]:
    """Go on with a run that was interrupted or has failed."""
    return _plain(studio, starting.go_on(studio, name))


@router.post("/runs/{name:path}/-/pictures", status_code=201)
def draw(studio: Root, name: str, asked: Pictures) -> dict[str, Any]:
    """Draw pictures with a run."""
    return _plain(studio, starting.draw(studio, studio.run(name), asked.settings, step=asked.step))


@router.post("/runs/{name:path}/-/export", status_code=201)
def export(studio: Root, name: str, asked: Export) -> dict[str, Any]:
    """Write a run's result as a file for other programs."""
    return _plain(studio, starting.export(studio, studio.run(name), asked.settings, step=asked.step))


@router.get("/runs/{name:path}")
def show(studio: Root, name: str) -> dict[str, Any]:
    """A run, or what is to become one."""
    status = status_of(studio, name)
    if not (studio.inside(*name.split("/")) / "run.json").exists():
        return {"name": name, "state": status.state if status else "unknown", "cause": status.cause if status else ""}
    run = studio.run(name)
    return {**run.plain(), "state": status.state if status else "unknown", "details": details(run)}


@router.delete("/runs/{name:path}")
def delete(studio: Root, name: str, confirm: str = "") -> dict[str, Any]:
    """Delete a run; `confirm` repeats its name."""
    if confirm != name:
        raise SettingError("confirm", "it has to repeat the run's name.", fix="Nothing was deleted.")
    return {"name": name, "is_gone": carry_out(removal(studio.run(name), studio.root, studio.runs().runs))}


@router.get("/queue")
def queue(studio: Root) -> list[dict[str, Any]]:
    """All jobs, in their order."""
    return [_plain(studio, job) for job in jobs.read_jobs(studio)]


@router.post("/queue/{name}/first")
def move_first(studio: Root, name: str) -> dict[str, Any]:
    """Have a waiting job done next."""
    jobs.first(studio, jobs.job_named(studio, name))
    return _plain(studio, jobs.job_named(studio, name))


@router.delete("/queue/{name}")
def cancel(studio: Root, name: str) -> dict[str, Any]:
    """Take a waiting job out."""
    jobs.cancel(studio, jobs.job_named(studio, name))
    return {"id": name}


@router.get("/models")
def list_models(studio: Root) -> list[dict[str, Any]]:
    """Base models."""
    return [vars(model) for model in models(studio)]


@router.get("/settings")
def settings() -> dict[str, Any]:
    """The settings of a training as JSON schema, and each with its flag."""
    known = flags(TrainConfig)
    leaves = {
        name: {"path": flag.path, "type": flag.type_name, "level": flag.level, "help": flag.sentences} for name, flag in known.items()
    }
    return {"schema": TrainConfig.model_json_schema(), "flags": leaves}


def _config(studio: Studio, asked: Training) -> TrainConfig:
    """The settings that were asked for; raises SettingError for what only the command line may say, and for what leads outside."""
    values = {name: value for name, value in asked.settings.items() if value is not None}
    refuse_unsaid(values)
    studio.new_run(asked.name)
    if PHOTOS in values:
        values[PHOTOS] = str(studio.inside(*str(values[PHOTOS]).split("/")))
    config = from_arguments(config_type(values.get(METHOD), may_import=False), {**values, OUTPUT: str(studio.root / asked.name)})
    confine(config, studio)
    return config


def _plain(studio: Studio, job: jobs.Job) -> dict[str, Any]:
    status = jobs.status_of(studio, job)
    own = {"id": job.id, "verb": job.verb, "run": job.run, "device": job.device, "added": job.added, "command": job.command}
    own["priority"] = job.priority
    return {**own, "state": status.state, "phase": status.phase, "cause": status.cause}
