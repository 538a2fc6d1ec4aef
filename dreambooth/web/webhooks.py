"""What comes of batches, reported to addresses that the server's owner has listed: signed, retried, and kept on the disk until it arrives.

A report is a file in its batch's folder, in `outbox/` until somebody has taken it and in `sent/` afterwards; its name follows from what it
says, so that a server that was killed makes it no second time. They go out in their order: while an address does not answer, all wait.

    POST the address, Content-Type: application/json
    Dreambooth-Event: the report's id, the same each time that it is sent
    Dreambooth-Signature: t=SECONDS,v1=HEX    HMAC-SHA256 with the secret over SECONDS, a dot, and the body
"""

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dreambooth
from dreambooth.bench.batch.index import CSV, WAITING
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_json
from dreambooth.files.folders import expanded
from dreambooth.files.locks import held
from dreambooth.files.places import remove
from dreambooth.files.reading import Damaged, read_json
from dreambooth.files.text import read_text
from dreambooth.web.batches import MODELS, STATE, Batch, Standing, plain_entry, read_batches, standing
from dreambooth.web.guard import is_loopback, kept_secret
from dreambooth.web.studio import Studio

FLAG, SECRET = "--webhook", "DREAMBOOTH_WEBHOOK_SECRET"
OUTBOX, SENT, DELIVERY = "outbox", "sent", "delivery.json"
PATIENCE = 10.0
"""Seconds that an address may take to answer."""
WAITS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""Seconds between tries: a day, all together. Then the batch's reports stay where they are until it is started again."""
AT_A_TIME = 20
"""Reports of a batch that are sent in one turn, so that no other waits long."""


@dataclass(frozen=True)
class Webhooks:
    """The addresses that may be reported to, and the secret that signs."""

    addresses: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)

    def digest(self, given: str) -> str:
        """The digest of a listed address, named in full or, where one alone has it, by its host; raises SettingError for any other."""
        found = [one for one in self.addresses if given in (one, host_of(one))]
        if len(found) != 1:
            reason = (
                f"{host_of(given) or 'that'} is none of the addresses that this server reports to." if not found else "several have it."
            )
            raise SettingError("webhook", reason, fix="Its owner lists them: dreambooth ui --webhook https://...")
        return _digest(found[0])

    def of(self, digest: str) -> str | None:
        """The address with a digest; None where it is not listed (any more)."""
        return next((one for one in self.addresses if _digest(one) == digest), None)


def listed(words: Sequence[str], studio: Studio) -> Webhooks:
    """The addresses of the command line, files of them among those; raises SettingError for what is none, without repeating it."""
    found = list[str]()
    for word in words:
        if "://" in word:
            found.append(word)
        else:
            lines = read_text(expanded(word, FLAG), FLAG).splitlines()
            found += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for number, address in enumerate(found, start=1):
        try:
            parts = urlsplit(address)
            is_good = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
            is_good = is_good and bool(parts.hostname) and parts.username is None and address.isascii() and address.isprintable()
        except ValueError:
            is_good = False
        if not is_good or " " in address:
            reason = f"address {number} is none that is reported to."
            raise SettingError(FLAG, reason, fix="https://HOST/PATH, without a user's name; http:// for this machine alone.")
    return Webhooks(tuple(dict.fromkeys(found)), kept_secret(studio.own / "webhook-secret", SECRET) if found else "")


def host_of(address: str) -> str:
    """What may be shown of an address: its path may be a secret."""
    try:
        return urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The header by which a receiver knows that this server has sent a body, and when."""
    return f"t={seconds},v1={hmac.new(secret.encode(), f'{seconds}.'.encode() + body, hashlib.sha256).hexdigest()}"


def turn(studio: Studio, hooks: Webhooks, seen: dict[str, object]) -> None:
    """Note what is new, and send what is due. `seen` is what the last turns have found, so that nothing is read twice."""
    for batch in read_batches(studio):
        address = hooks.of(batch.webhook) if batch.webhook else None
        if address is None:
            continue
        folder = studio.batches / batch.id
        files = _changed(studio, batch)
        if seen.get(batch.id) == files:
            continue  # it was over, and all is sent
        with held(studio.jobs / "queue.lock"):  # no subject is deleted meanwhile
            now = standing(studio, batch)
            mark = (now.state, now.job.started if now.job else 0.0, now.entries)
            if seen.get(batch.id) != mark:
                _note(folder, _reports(studio, now))
        seen[batch.id] = mark
        _send(folder, address, hooks.secret)
        if not now.is_waiting and not any((folder / OUTBOX).glob("*.json")):
            seen[batch.id] = files


def delivery(folder: Path) -> dict[str, Any]:
    """How a batch's reports fare: how many wait and were taken, when the next try is due and what the last one came to."""
    waiting, sent = (sum(1 for _ in (folder / name).glob("*.json")) for name in (OUTBOX, SENT))
    noted = _noted(folder)
    return {"waiting": waiting, "sent": sent, "tries": noted.get("tries", 0), "due": noted.get("due"), "last": noted.get("last", "")}


def try_again(folder: Path) -> None:
    """Send at once what waits, however often it was tried."""
    (folder / DELIVERY).unlink(missing_ok=True)


def forget(folder: Path, subject: str) -> None:
    """Delete the reports about a subject."""
    for path in (path for name in (OUTBOX, SENT) for path in (folder / name).glob("*.json")):
        row = _report(path).get("row") or {}
        if row.get("subject") == subject:
            remove(path, root=folder)


def _changed(studio: Studio, batch: Batch) -> tuple[int, ...]:
    """When the files were written from which follows what a batch is doing."""
    folder = studio.batches / batch.id
    files = (folder / MODELS / CSV, folder / STATE, studio.jobs / f"{batch.id}.json")
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


def _note(folder: Path, reports: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Put those into the outbox that were not put there before."""
    kept = {path.name.split(".")[1] for place in (OUTBOX, SENT) for path in (folder / place).glob("*.*.json")}
    for name, report in reports:
        if name not in kept:
            write_json(folder / OUTBOX / f"{time.time_ns():020d}.{name}.json", {"id": name, "created": time.time(), **report})


def _reports(studio: Studio, now: Standing) -> Iterator[tuple[str, dict[str, Any]]]:
    """All that is to be reported of a batch as it stands, by name."""
    own = {"batch": now.batch.id, "name": now.batch.name}
    for entry in now.entries:
        if entry.status != WAITING:
            said = hashlib.sha256(repr((now.batch.id, entry.subject, entry.status, entry.sha256)).encode()).hexdigest()[:16]
            yield f"row-{said}", {**own, "type": "row.ended", "row": plain_entry(studio, entry)}
    if not now.is_waiting:
        started = now.job.started if now.job else 0.0
        ended = f"{now.batch.id}-{now.state}-{started:.0f}"
        yield f"batch-{ended}", {**own, "type": "batch.ended", "state": now.state, "cause": now.cause, "counts": now.counts}


def _send(folder: Path, address: str, secret: str) -> None:
    """Send what waits, in its order, until an address does not take it."""
    waiting = sorted((folder / OUTBOX).glob("*.json"))[:AT_A_TIME]
    if not waiting:
        return
    noted = _noted(folder)
    tries = int(noted.get("tries", 0))
    if tries > len(WAITS) or float(noted.get("due") or 0) > time.time():
        return
    for path in waiting:
        wrong = _post(address, secret, path)
        if wrong:
            due = time.time() + WAITS[tries] if tries < len(WAITS) else None
            write_json(folder / DELIVERY, {"tries": tries + 1, "due": due, "last": wrong})
            return
        (folder / SENT).mkdir(exist_ok=True)
        path.replace(folder / SENT / path.name)
        (folder / DELIVERY).unlink(missing_ok=True)
        tries = 0  # it answers again


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Nothing is sent elsewhere than to what the owner has listed."""


def _post(address: str, secret: str, path: Path) -> str:
    """Send a report; returns what went wrong, without the address."""
    report, seconds = _report(path), int(time.time())
    if not report:
        return ""  # damaged: it can never be sent
    body = json.dumps(report, ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json", "User-Agent": f"dreambooth/{dreambooth.__version__}", "Dreambooth-Event": str(report.get("id")),
        "Dreambooth-Signature": signature(secret, seconds, body),
    }  # fmt: skip
    request = urllib.request.Request(address, body, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=PATIENCE):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        return f"it could not be reached ({type(cause).__name__})"


def _report(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, Damaged):
        return {}


def _noted(folder: Path) -> dict[str, Any]:
    return _report(folder / DELIVERY)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:24]
