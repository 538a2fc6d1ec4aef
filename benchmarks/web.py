"""How long Home takes over many runs; what open pages of a run cost a training beside them, and how late an event comes to one.

The pages are programs that do what the script of the page does: they read the events, and fetch the page's part anew when a page would.
On a machine that others use, too, the seconds of the processor are the figure to go by: those of the server's process alone.

python -m benchmarks.web [--count 1000] [--rounds 5] [--pages 20]
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from fastapi.testclient import TestClient

from benchmarks.runs_list import make
from dreambooth.setup.journal import RECORDS
from dreambooth.setup.states import own_process
from dreambooth.web.app import create_app
from dreambooth.web.studio import Studio

SECONDS, A_SECOND = 30.0, 10
"""How long the pages are open, and lines that the training writes a second: many, for it logs every ten updates where nothing is said."""
SLOWLY = 5.0
"""Seconds between two drawings of a page's curves, as in app.js."""
SOON = ("start", "message", "scores", "preview", "saved", "end")
"""Kinds of events for which a page draws itself anew at once."""


def main() -> None:
    """Print all three."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.web")
    words.add_argument("--count", type=int, default=1000)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--pages", type=int, default=20)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as place:
        studio = Studio.opened(Path(place) / "root")
        for number in range(asked.count):
            make(studio.root / f"group-{number % 10}" / f"run-{number:04d}", number)
        with TestClient(create_app(studio, pumps=False), base_url="http://localhost") as client:
            client.get("/")  # imports, templates
            rounds = [_once(client) for _ in range(asked.rounds)]
        wall, busy = (statistics.median(one[place] for one in rounds) for place in (0, 1))
        print(f"Home with {asked.count} runs: median {1000 * wall:.0f} ms, {1000 * busy:.0f} ms of the processor")
        share, late = asyncio.run(_pages(studio, asked.pages))
        print(f"{asked.pages} open pages of a run that logs {A_SECOND} lines a second: {100 * share:.1f} % of one core")
        print(f"an event is on the page after {statistics.median(late):.2f} s, 99 of 100 after {_most(late):.2f} s")


def _once(client: TestClient) -> tuple[float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    assert client.get("/").status_code == 200
    return time.perf_counter() - wall, time.process_time() - busy


def _most(late: list[float]) -> float:
    return sorted(late)[int(0.99 * (len(late) - 1))]


async def _pages(studio: Studio, count: int) -> tuple[float, list[float]]:
    """The server's share of one core while a run is written and watched, and seconds from each line to each page."""
    folder = studio.root / "at-work"
    make(folder, 0)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "state": "running", "phase": "training", "process": own_process()}))
    (folder / RECORDS).write_text('{"time": 0, "kind": "start", "step": 0}\n')
    port = 20_000 + time.time_ns() % 20_000
    words = [sys.executable, "-m", "dreambooth", "ui", str(studio.root), "--port", str(port), "--no-open"]
    server = psutil.Process(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid)
    late = list[float]()
    try:
        while not await _answers(port):
            await asyncio.sleep(0.2)
        pages = [asyncio.create_task(_page(port, late)) for _ in range(count)]
        await asyncio.sleep(3.0)
        idle, begun = server.cpu_times(), time.monotonic()
        await _write(folder / RECORDS)
        busy, seconds = server.cpu_times(), time.monotonic() - begun
        for one in pages:
            one.cancel()
        await asyncio.gather(*pages, return_exceptions=True)
    finally:
        server.kill()
    return (busy.user + busy.system - idle.user - idle.system) / seconds, late


async def _write(path: Path) -> None:
    """A training's lines, with a picture or a message now and then."""
    with path.open("a", encoding="utf-8") as file:
        for number in range(int(A_SECOND * SECONDS)):
            line = {"time": time.time(), "kind": "step", "step": number, "total": 3000, "values": {"loss_subject": 0.1, "loss_prior": 0.2}}
            file.write(json.dumps(line) + "\n")
            if number % 100 == 50:
                file.write(json.dumps({"time": time.time(), "kind": "message", "text": "saved", "important": False}) + "\n")
            file.flush()
            await asyncio.sleep(1 / A_SECOND)


async def _page(port: int, late: list[float]) -> None:
    """A page that is open: its events, and its part when it would be fetched."""
    reader, writer = await _asked(port, "/runs/at-work/-/events?after=0")
    kind, place, seen, drawn = "", "0", "0", time.monotonic()
    async for line in reader:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            place = value
        elif name == "event":
            kind = value
            seen = place if kind in SOON else seen
        elif name == "data":
            if kind == "step":
                late.append(time.time() - json.loads(value)["time"])
            if kind in SOON or (kind == "step" and time.monotonic() - drawn > SLOWLY):
                drawn = time.monotonic()
                await _fetched(port, f"/runs/at-work/-/live?seen={seen}")
    writer.close()


async def _asked(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    return reader, writer


async def _fetched(port: int, path: str) -> None:
    reader, writer = await _asked(port, path)
    assert b" 200 " in (await reader.read()).split(b"\r\n", 1)[0]
    writer.close()


async def _answers(port: int) -> bool:
    try:
        await _fetched(port, "/api/queue")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
