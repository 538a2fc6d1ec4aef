"""`dreambooth ui`."""

import os
import socket
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from dreambooth.cli.parse import settings_from
from dreambooth.core.errors import SettingError
from dreambooth.files.folders import expanded
from dreambooth.schema import Setting

USAGE = "dreambooth ui [ROOT] [--port 7860] [--models DIR ...] [--no-open]"
NEEDS = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
"""Modules of the extra `ui`, and the packages that bring them."""

GRACE_SECONDS = 50.0
"""For trainings to save when a container is stopped."""


class Ui(Setting):
    """The same in a browser: photos dropped, a run watched, pictures drawn, a file for ComfyUI; runs of the command line appear, too.
    Trainings are processes of their own, which go on when the browser or the server is closed"""

    positional: ClassVar[tuple[str, ...]] = ("root",)

    root: str = "."
    """Folder that holds the runs, their photos, and models in ROOT/models; nothing outside is read or written."""
    host: str = "127.0.0.1"
    """Address to listen on. Another than this machine's own demands a token, which is printed with the address."""
    port: Annotated[int, Ge(0), Le(65535)] = 7860
    """Port to listen on; 0 takes a free one."""
    names: tuple[str, ...] = ()
    """Names under which a proxy is reached that stands before it (it has to pass the Host header on); they demand a token, too."""
    models: tuple[str, ...] = ()
    """More folders that hold base models, such as ComfyUI's models/checkpoints."""
    webhook: tuple[str, ...] = ()
    """Addresses that what comes of batches may be reported to (https://...), or files with one a line (docs/batch.md)."""
    open: bool = True
    """Open the browser."""


def main(argv: Sequence[str]) -> int:
    """Serve until it is stopped."""
    settings = settings_from(argv, Ui, usage=USAGE)
    if settings is None:
        return 0
    missing = [package for module, package in NEEDS.items() if not find_spec(module)]
    if missing:
        reason = f"the app in the browser needs {' and '.join(missing)}."
        raise SettingError("ui", reason, fix="pip install 'dreambooth[ui]'")
    import uvicorn

    from dreambooth.web.app import create_app
    from dreambooth.web.ending import end_all
    from dreambooth.web.guard import is_loopback, kept_secret
    from dreambooth.web.studio import Studio
    from dreambooth.web.webhooks import listed

    studio = Studio.opened(expanded(settings.root, "root"), tuple(expanded(one, "--models").absolute() for one in settings.models))
    hooks = listed(settings.webhook, studio)
    token = None if is_loopback(settings.host) and not settings.names else kept_secret(studio.own / "token", "DREAMBOOTH_UI_TOKEN")
    listening = _listen(settings.host, settings.port)
    os.chdir(studio.root)  # relative names mean the same here and in the processes that are started
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{shown}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"
    print(f"dreambooth ui: {address}\nRuns lie in {studio.root}. Ctrl-C ends the server; trainings go on.", flush=True)
    if settings.open:
        webbrowser.open(address)
    app = create_app(studio, host=settings.host, names=settings.names, token=token, hooks=hooks)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listening])
    if os.getpid() == 1:  # the first process of a container, with which all others end
        end_all(studio, GRACE_SECONDS)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises SettingError where the address is taken or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows it would let two servers share an address
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        reason = f"{host}:{port} cannot be listened on ({error.strerror})."
        raise SettingError("--port", reason, fix="Is the app open already? --port 0 takes a free one.") from None
    return listening
