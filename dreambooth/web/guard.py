"""Who may ask, and how much: hosts, origins, the token, the size of a body. In front of everything, so that no page can forget it.

A page of another site may send a browser here, by its address (a form, a picture) or by a name of its own that suddenly means 127.0.0.1
(DNS rebinding). So a request has to name a host that this server was started under, and one that changes something has to come from a
page of this server. Programs send no Origin; what speaks for them is that they run here, or know the token.
"""

import hmac
import ipaddress
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dreambooth.files.atomic import write_text

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "dreambooth"
SMALL, LARGE = 1 << 20, 1 << 30
"""Bytes of a body: of any request, and of one that brings photos."""
PHOTOS = ("/photos", "/upload")
"""The ends of the addresses that photos are sent to."""
READING = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(), b"x-content-type-options": b"nosniff", b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin", b"cross-origin-opener-policy": b"same-origin", b"cache-control": b"no-store",
}  # fmt: skip


def kept_secret(path: Path, variable: str) -> str:
    """A secret of a root: the owner's own, from the environment, or one that is made once, and is the same after a restart."""
    if given := os.environ.get(variable):
        return given
    if not path.is_file():
        write_text(path, secrets.token_urlsafe(32))
        path.chmod(0o600)
    return path.read_text(encoding="utf-8").strip()


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine alone."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class TooLarge(Exception):
    """A body is larger than it may be."""


class Guard:
    """In front of the app: refuses what may not come in, and says what browsers may do with what goes out."""

    def __init__(self, app: App, host: str = "127.0.0.1", names: Sequence[str] = (), token: str | None = None):
        """`names`: under which a proxy is reached that stands before it."""
        self.app, self.host, self.token = app, host.strip("[]").casefold(), token
        self.names = frozenset(name.casefold() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal:
            await _answer(send, *refusal)
            return
        if self.token and await self._logged_in(scope, headers, send):
            return
        limit = LARGE if scope["path"].endswith(PHOTOS) else SMALL
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > limit:
            await _answer(send, 413, f"At most {limit >> 20} MiB can be sent at once.")
            return
        try:
            await self.app(scope, _counted(receive, limit), _with_headers(send))
        except TooLarge:
            await _answer(send, 413, f"At most {limit >> 20} MiB can be sent at once.")

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence for a request that may not come in, but for its token."""
        if sum(name == b"host" for name, _ in scope["headers"]) != 1 or not self._is_known(headers.get("host", "")):
            return 400, f"This server does not answer under that name. Open it as http://{self.host}:PORT."
        if scope["method"] not in (*READING, "POST", "PUT", "DELETE"):
            return 405, "There is no such method here."
        if scope["method"] in READING:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        is_own = urlsplit(origin).netloc == headers["host"] if origin is not None else site in (None, "same-origin", "none")
        return None if is_own else (403, "Another page has sent this; nothing was done.")

    def _is_known(self, host: str) -> bool:
        """Whether a Host header names loopback or the host that was given; a server on all addresses answers under each of them."""
        name = urlsplit(f"//{host}").hostname or ""
        if is_loopback(name) or name.casefold() in (self.host, *self.names):
            return True
        return self.host in ("0.0.0.0", "::") and _is_address(name)

    async def _logged_in(self, scope: Scope, headers: dict[str, str], send: Send) -> bool:
        """Let in who knows the token; returns whether the request is answered with that."""
        given = headers.get("authorization", "").removeprefix("Bearer ") or _cookie(headers.get("cookie", ""))
        if self._is_token(given):
            return False
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if scope["method"] == "GET" and self._is_token(asked):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000"
            await _answer(send, 303, "", {b"location": b"/", b"set-cookie": cookie.encode()})
            return True
        await _answer(send, 401, "This server needs its token. Open the address that it printed when it was started.")
        return True

    def _is_token(self, given: str) -> bool:
        return bool(given) and hmac.compare_digest(given.encode(), str(self.token).encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(header: str) -> str:
    found = [part.strip().partition("=") for part in header.split(";")]
    return next((value for name, _, value in found if name == COOKIE), "")


def _counted(receive: Receive, limit: int) -> Receive:
    """The same body, which may not become longer than its limit: a header need not say the truth."""
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLarge
        return message

    return counted


def _with_headers(send: Send) -> Send:
    """The same answer, with the headers that it lacks."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message = {**message, "headers": [*message["headers"], *((n, v) for n, v in HEADERS.items() if n not in given)]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str, headers: dict[bytes, bytes] | None = None) -> None:
    own = {b"content-type": b"text/plain; charset=utf-8", **HEADERS, **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": list(own.items())})
    await send({"type": "http.response.body", "body": text.encode()})
