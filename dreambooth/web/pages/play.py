"""Play and Export: pictures drawn with a run and kept with their settings, and files for other programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.families import family_of
from dreambooth.formats import FORMATS
from dreambooth.run.export import ExportConfig
from dreambooth.run.export_facts import method_of
from dreambooth.run.export_place import EXPORTS
from dreambooth.run.generate import GenerateConfig
from dreambooth.schema import flags
from dreambooth.setup.open import find
from dreambooth.setup.runs import FoundRun, folder_size
from dreambooth.setup.strength import SCALED
from dreambooth.web import form, jobs, starting
from dreambooth.web.pages.new import sent
from dreambooth.web.studio import Studio
from dreambooth.web.view import chosen, drawings, page, run_url, studio_of

router = APIRouter(include_in_schema=False)
Root = Annotated[Studio, Depends(studio_of)]
Sent = Annotated[FormData, Depends(sent)]
FILES = ("run", "prompts", "then", "from_folder", "output_dir", "lora", "single_file_config", "revision", "variant", "verify", "output",
         "noise_augmentation", "format", "compare", "batch_size", "device")  # fmt: skip
"""Settings of the commands that this page says by itself, or that name files."""
STRENGTH, PROMPT = "lora_scale", "prompt"
SHEET = ("grid", "grid_values")
GRID = {"grid": f"seed,{STRENGTH}"}
"""One strength is a grid of one column: what `generate` draws for it."""


@dataclass(frozen=True)
class Way:
    """A format that a run may be exported to."""

    name: str
    title: str
    readers: Mapping[str, str]
    """Programs that read it, each with the folder that it looks in."""
    why_not: str = ""


@dataclass(frozen=True)
class Written:
    """A file that was exported."""

    path: str
    bytes: int
    is_file: bool
    format: str


@router.get("/runs/{name:path}/-/play")
def play(request: Request, studio: Root, name: str) -> HTMLResponse:
    """A form for pictures as it was filled in last, and those that were drawn."""
    run = studio.run(name)
    typed = _asked_last(studio, run)
    return _play(request, studio, run, typed, strength=_strength(typed))


@router.post("/runs/{name:path}/-/play")
def draw(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Draw pictures, now or as soon as the device is free."""
    run, names = studio.run(name), [one.name for one in form.fields(GenerateConfig, {}, hidden=FILES)]
    typed = {name: value for name, value in form.read(GenerateConfig, dict(sent), names).items() if value is not None}
    strength = str(sent.get("strength", "")).strip()
    try:
        own = {**typed, **GRID, "grid_values": [f"{STRENGTH}={strength}"]} if strength and strength != "1" else typed
        starting.draw(studio, run, own, step=str(sent.get("step", "")), at_once=sent.get("at_once") == "yes")
    except SettingError as error:
        return _play(request, studio, run, typed, error, strength=strength, step=str(sent.get("step", "")))
    return RedirectResponse(run_url(name, "play"), 303)


@router.get("/runs/{name:path}/-/drawn")
def drawn(request: Request, studio: Root, name: str) -> HTMLResponse:
    """The pictures alone."""
    run = studio.run(name)
    return page(request, "drawn.html", run=run, drawings=drawings(studio, run))


@router.get("/runs/{name:path}/-/export")
def export_page(request: Request, studio: Root, name: str) -> HTMLResponse:
    """Formats, and the files that there are."""
    return _export(request, studio, studio.run(name))


@router.post("/runs/{name:path}/-/export")
def export(request: Request, studio: Root, name: str, sent: Sent) -> Response:
    """Write a file, now or as soon as the device is free."""
    run, typed = studio.run(name), form.read(ExportConfig, dict(sent), ("format", "save_precision", "rank", "overwrite"))
    try:
        values = {name: value for name, value in typed.items() if value is not None}
        starting.export(studio, run, values, step=str(sent.get("step", "")), at_once=sent.get("at_once") == "yes")
    except SettingError as error:
        return _export(request, studio, run, error)
    return RedirectResponse(run_url(name, "export"), 303)


@router.get("/runs/{name:path}/-/exported")
def exported(request: Request, studio: Root, name: str) -> HTMLResponse:
    """The files alone."""
    return page(request, "exported.html", **_files(studio, studio.run(name)))


def _asked_last(studio: Studio, run: FoundRun) -> dict[str, str | list[str]]:
    """What was asked for last on this page, by flag, as its job holds it."""
    words = next((job.words[1:] for job in reversed(jobs.of_run(studio, run.name)) if job.verb == "generate"), ())
    typed, known = dict[str, str | list[str]](), flags(GenerateConfig)
    for name, _, value in (word.removeprefix("--").partition("=") for word in words):
        if name in known and name not in (*FILES, "run"):
            typed[name] = [*typed.get(name, ()), value] if known[name].is_list else value
    return typed


def _strength(typed: dict[str, str | list[str]]) -> str:
    """The strength that a request asks for; its settings are taken out of it, for the field of the strength stands for them."""
    given = typed.get("grid_values")
    if typed.get("grid") != GRID["grid"] or not isinstance(given, list) or len(given) != 1 or not given[0].startswith(f"{STRENGTH}="):
        return ""
    for name in SHEET:
        typed.pop(name)
    return given[0].partition("=")[2]


def _play(
    request: Request, studio: Studio, run: FoundRun, typed: Mapping[str, Any], error: SettingError | None = None, *, strength: str = "",
    step: str | None = None,
) -> HTMLResponse:  # fmt: skip
    steps, best = chosen(run)
    found = form.fields(GenerateConfig, typed, hidden=FILES, error=error)
    known = {one.name for one in found}
    subject = min(run.record.get("instance_prompts") or [""], key=len)
    example = subject.replace(str(run.record.get("identifier") or "\0"), "[V]") or "a photo of [V]"
    return page(
        request, "play.html", status=422 if error else 200, run=run, steps=steps, best=best, step=step,
        prompt=form.fields(GenerateConfig, typed, only=(PROMPT,), error=error)[0], example=example,
        basic=[one for one in found if one.level == "basic" and one.name not in (PROMPT, *SHEET)],
        more=[one for one in found if one.level != "basic" and one.name not in SHEET], sheet=[one for one in found if one.name in SHEET],
        other=error if error and error.setting.removeprefix("--") not in known else None, drawings=drawings(studio, run),
        has_strength=run.record.get("method") in SCALED, strength=strength,
    )  # fmt: skip


def _export(request: Request, studio: Studio, run: FoundRun, error: SettingError | None = None) -> HTMLResponse:
    steps, best = chosen(run)
    ways, refusal = list[Way](), None
    try:
        ways = _ways(run)
    except DreamboothError as wrong:
        refusal = wrong
    return page(
        request, "export.html", status=422 if error else 200, steps=steps, best=best, ways=ways, error=error or refusal,
        fields=form.fields(ExportConfig, {}, only=("save_precision", "rank", "overwrite")), **_files(studio, run),
    )  # fmt: skip


def _ways(run: FoundRun) -> list[Way]:
    """Every format, with who reads it, or why nobody does; raises DreamboothError for a run that cannot be exported."""
    _, _, config = find(str(run.folder))
    assert config
    family, method = family_of(config.model), method_of(config)
    found = []
    for name, format in FORMATS.items():
        readers = format.readers(family, method)
        title = (type(format).__doc__ or name).strip().split("\n")[0].rstrip(".")
        found.append(Way(name, title, readers, "" if readers else " ".join(format.why_not(family, method)).strip()))
    return sorted(found, key=lambda way: not way.readers)


def _files(studio: Studio, run: FoundRun) -> dict[str, Any]:
    """What was exported, and the exports that wait or run; a file that is still read back is not offered yet."""
    own = [(job, jobs.status_of(studio, job)) for job in jobs.of_run(studio, run.name) if job.verb == "export"]
    unsure = {studio.root / job.result for job, status in own if status.state.is_active}
    folder, found = run.folder / EXPORTS, list[Written]()
    for path in sorted(folder.glob("*/*")) if folder.is_dir() and not folder.is_symlink() else ():
        if not path.is_symlink() and not path.name.startswith(".") and path not in unsure:
            count = path.stat().st_size if path.is_file() else folder_size(path)
            found.append(Written(path.relative_to(run.folder).as_posix(), count, path.is_file(), path.parent.name))
    newest = [(job, status, _said(studio, job)) for job, status in own[-3:]]
    return {"run": run, "files": found, "exports": newest[::-1], "name_of": lambda path: Path(path).name}


def _said(studio: Studio, job: jobs.Job) -> str:
    """What an export has said, without its progress."""
    return "\n".join(line for line in jobs.log_of(studio, job).splitlines() if line.strip() and "\r" not in line)[-2000:]
