"""A server as people start it, in a process of its own that can be killed; a browser in front of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from dreambooth.web.jobs import MARK

pytest.importorskip("fastapi", reason="the app needs the extra ui (pip install 'dreambooth[ui]')")


class Server:
    """`dreambooth ui` over a folder."""

    def __init__(self, root: Path, models: Path):
        self.root, self.models = root, models
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["ui", str(self.root), "--port", str(self.port), "--models", str(self.models), "--no-open"]
        self.process = subprocess.Popen([sys.executable, "-m", "dreambooth", *words], stdout=subprocess.DEVNULL)
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
                return
            time.sleep(0.1)
        raise TimeoutError("the server does not answer")

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path, pipelines):
    """A server that runs; what it has started ends with the test."""
    server = Server(tmp_path / "root", pipelines("stable_diffusion").parent)
    server.start()
    yield server
    server.kill()
    jobs = {path.stem for path in (server.root / ".dreambooth" / "jobs").glob("*.json")}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) in jobs and process.pid != os.getpid():
                process.send_signal(signal.SIGKILL)


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def page(request, browser, server):
    """A page of the server, wide and light or narrow and dark; what its scripts complain of fails the test."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(90_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(server.address)
    yield page
    context.close()
    assert not faults
