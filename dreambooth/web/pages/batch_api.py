"""Batches for programs: submitted, followed, put in order, cancelled; results fetched, and one customer's deleted."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from dreambooth.bench.batch.subjects import BY_SUBJECT
from dreambooth.core.errors import SettingError
from dreambooth.web import batches, webhooks
from dreambooth.web.batch_removal import remove_subject
from dreambooth.web.batches import MODELS, Batch, Standing
from dreambooth.web.pages.api import Root
from dreambooth.web.studio import Missing, Studio
from dreambooth.web.submitting import MOST_ROWS, Asked, submit
from dreambooth.web.view import studio_of
from dreambooth.web.webhooks import Webhooks

router = APIRouter(prefix="/api", tags=["batches"])
MOST_FILES = 50_000
Cell = str | int | float | bool | None
Priority = Annotated[int, Field(ge=-1000, le=1000, description="Those with a higher one begin first; trainings of the pages have 0.")]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=255, description="The same key and request again is the same batch; another request is 409."
    ),
]


class Row(BaseModel):
    """A subject: what the columns of a table say of it; any further name is a flag of `dreambooth train`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Cell] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    subject: Annotated[str, Field(description="The name of its result.")]
    noun: Annotated[str, Field(alias="class", description="What it is: mug, dog, backpack.")]
    photos: Annotated[str, Field(description="Folder of its photos, as seen from the root; empty: one of the subject's name.")] = ""

    def cells(self) -> dict[str, str]:
        """As a table holds them."""
        return {name: _cell(value) for name, value in self.model_dump(by_alias=True).items()}


class Wanted(BaseModel):
    """A batch that is asked for, but for its rows."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=200, description="For people.")] = ""
    settings: Annotated[
        dict[str, Any], Field(description="Flags of `dreambooth train`, and accept, retry, evaluate, keep ... of `dreambooth batch`.")
    ] = {}
    priority: Priority = 0
    webhook: Annotated[
        str, Field(description="Where what comes of it is reported: one of the addresses that the owner has listed, or its host.")
    ] = ""
    only_check: Annotated[bool, Field(description="Say which rows cannot be done, and do nothing.")] = False


class Submission(Wanted):
    """A batch that is asked for."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS, description="A model is made for each.")]


class Preference(BaseModel):
    """A place in the queue."""

    priority: Priority


UPLOAD = {
    "type": "object", "required": ["request"], "properties": {
        "request": {"type": "string", "description": "JSON as for /api/batches; without rows where a table is sent."},
        "table": {"type": "string", "format": "binary", "description": "CSV: subject, class, photos, and flags of `dreambooth train`."},
        "photos": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "Under the names SUBJECT/FILE."},
    },
}  # fmt: skip


async def form_of(request: Request) -> FormData:
    """A form with many files."""
    return await request.form(max_files=MOST_FILES, max_fields=10)


def hooks_of(request: Request) -> Webhooks:
    """The addresses that the owner has listed."""
    return request.app.state.webhooks


def batch_of(request: Request, batch: str) -> Batch:
    """The batch that an address names."""
    return batches.read_batch(studio_of(request), batch)


Form = Annotated[FormData, Depends(form_of)]
Hooks = Annotated[Webhooks, Depends(hooks_of)]
Named = Annotated[Batch, Depends(batch_of)]


@router.post("/batches", status_code=201)
def submit_rows(studio: Root, hooks: Hooks, asked: Submission, response: Response, key: Key = "") -> dict[str, Any]:
    """Submit a batch. It is checked as `dreambooth batch` does it; rows that cannot be done are named, and the others wait in the queue."""
    return _submitted(studio, hooks, asked, Asked(rows=[row.cells() for row in asked.rows]), response, key)


@router.post(
    "/batches/upload", status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": UPLOAD}}}},
)  # fmt: skip
def submit_upload(studio: Root, hooks: Hooks, form: Form, response: Response, key: Key = "") -> dict[str, Any]:
    """The same with a CSV, with photos, or both: photos are taken for what their bytes are."""
    table, files = form.get("table"), [one for one in form.getlist("photos") if isinstance(one, UploadFile)]
    try:
        said = json.loads(str(form.get("request") or "{}"))
        asked = (Wanted if isinstance(table, UploadFile) else Submission).model_validate(said)
    except (ValueError, TypeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no JSON object"
        raise SettingError("request", f"{first}.", fix="See /api/ for what is asked for.") from None
    rows = [row.cells() for row in asked.rows] if isinstance(asked, Submission) else []
    photos = [(*split(one.filename or ""), one.file) for one in files]
    given = Asked(rows=rows, table=table.file.read() if isinstance(table, UploadFile) else None, photos=photos)
    return _submitted(studio, hooks, asked, given, response, key)


@router.get("/batches")
def list_batches(studio: Root, offset: int = 0, limit: int = 100) -> dict[str, Any]:
    """Batches, the newest first."""
    found = list(batches.read_batches(studio))
    chosen = found[max(0, offset) : max(0, offset) + min(max(1, limit), 1000)]
    return {"batches": [plain(studio, batches.standing(studio, one)) for one in chosen], "count": len(found)}


@router.get("/batches/{batch}")
def show_batch(studio: Root, named: Named) -> dict[str, Any]:
    """What a batch is doing, and how many of its rows have come to what."""
    return plain(studio, batches.standing(studio, named))


@router.post("/batches/{batch}/cancel")
def cancel_batch(studio: Root, named: Named) -> dict[str, Any]:
    """Take a batch out of the queue; one that is at work saves and ends. What is finished stays, and `again` goes on from there."""
    return plain(studio, batches.cancel(studio, named))


@router.post("/batches/{batch}/again")
def start_again(studio: Root, named: Named) -> dict[str, Any]:
    """Put a batch that has ended into the queue again: what is finished is not done twice."""
    return plain(studio, batches.go_on(studio, named))


@router.put("/batches/{batch}/priority")
def set_priority(studio: Root, named: Named, wish: Preference) -> dict[str, Any]:
    """Have a batch that waits done sooner or later than others."""
    return plain(studio, batches.prefer(studio, named, wish.priority))


@router.get("/batches/{batch}/results")
def results(
    studio: Root,
    named: Named,
    status: Annotated[str, Query(description="Only rows of this status.")] = "",
    offset: int = 0,
    limit: int = 1000,
) -> dict[str, Any]:
    """The rows in their order: status, verdict, path, sha256, minutes and reason of each."""
    found = [one for one in batches.standing(studio, named).entries if not status or one.status == status]
    chosen = found[max(0, offset) : max(0, offset) + min(max(1, limit), MOST_ROWS)]
    return {"rows": [_row(studio, named, one) for one in chosen], "count": len(found)}


@router.get("/batches/{batch}/results/{subject}")
def result(studio: Root, named: Named, subject: str) -> dict[str, Any]:
    """One row."""
    return _row(studio, named, batches.entry_of(batches.standing(studio, named), subject))


@router.get("/batches/{batch}/results/{subject}/files/{path:path}", response_class=FileResponse)
def result_file(studio: Root, named: Named, subject: str, path: str) -> FileResponse:
    """A file of a subject's result: its weights, its report, its scores."""
    found = studio.inside("batches", named.id, MODELS, BY_SUBJECT, subject, *path.split("/"))
    if not found.is_file():
        raise Missing("file", "there is no such file.", fix="GET .../results names each result's.")
    return FileResponse(found, filename=found.name, media_type="application/octet-stream")


@router.delete("/batches/{batch}/subjects/{subject}")
def delete_subject(
    studio: Root,
    named: Named,
    subject: str,
    confirm: str = "",
    photos: Annotated[bool, Query(description="Delete its photos, too.")] = True,
) -> dict[str, Any]:
    """Delete one customer's subject: row, model, scores, pictures, photos and reports; `confirm` repeats its name."""
    if confirm != subject:
        raise SettingError("confirm", "it has to repeat the subject's name.", fix="Nothing was deleted.")
    return vars(remove_subject(studio, named, subject, photos=photos))


@router.post("/batches/{batch}/webhook")
def report_again(studio: Root, named: Named) -> dict[str, Any]:
    """Send at once the reports that an address has not taken."""
    webhooks.try_again(batches.folder_of(studio, named.id))
    return plain(studio, batches.standing(studio, named))


@router.get("/webhooks")
def list_webhooks(hooks: Hooks) -> dict[Literal["hosts"], list[str]]:
    """Hosts of the addresses that may be reported to."""
    return {"hosts": [webhooks.host_of(one) for one in hooks.addresses]}


def plain(studio: Studio, now: Standing) -> dict[str, Any]:
    """A batch as programs read it."""
    own = {"id": now.batch.id, "name": now.batch.name, "created": now.batch.created, "state": now.state, "cause": now.cause}
    reports = webhooks.delivery(studio.batches / now.batch.id) if now.batch.webhook else None
    return {**own, "priority": now.priority, "rows": len(now.entries), "counts": now.counts, "reports": reports}


def _submitted(studio: Studio, hooks: Webhooks, wanted: Wanted, rows: Asked, response: Response, key: str) -> dict[str, Any]:
    digest = hooks.digest(wanted.webhook) if wanted.webhook else ""
    asked = Asked(wanted.name, wanted.settings, rows.rows, rows.table, rows.photos, wanted.priority, digest)
    made = submit(studio, asked, key=key, only_check=wanted.only_check)
    refused = [batches.plain_entry(studio, one) for one in made.refused]
    if made.batch is None:
        response.status_code = 200
        return {"rows": made.rows, "refused": refused}
    if not made.is_new:
        response.status_code = 200
    response.headers["location"] = f"/api/batches/{made.batch.id}"
    return {**plain(studio, batches.standing(studio, made.batch)), "refused": refused}


def _row(studio: Studio, batch: Batch, entry: Any) -> dict[str, Any]:
    head, tail = f"{BY_SUBJECT}/{entry.subject}/", entry.path
    is_file = tail.startswith(head) and len(tail) > len(head)
    file = f"/api/batches/{batch.id}/results/{entry.subject}/files/{tail.removeprefix(head)}" if is_file else None
    return {**batches.plain_entry(studio, entry), "file": file}


def split(name: str) -> tuple[str, str]:
    """Subject and file of a photo's name; a browser that sends a folder of folders puts more before them."""
    *_, subject, file = ["", *name.replace("\\", "/").split("/")]
    return subject, file


def _cell(value: Cell) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
