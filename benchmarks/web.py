"""How long Home takes over many runs, and what open pages of a run cost: the seconds of the processor that their events take.

On a machine that others use, too, the seconds of the processor are the figure to go by.

python -m benchmarks.web [--count 1000] [--rounds 5] [--pages 20]
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from fastapi.testclient import TestClient

from benchmarks.runs_list import make
from dreambooth.setup.journal import RECORDS
from dreambooth.setup.states import own_process
from dreambooth.web.app import create_app
from dreambooth.web.events import stream
from dreambooth.web.studio import Studio
from dreambooth.web.view import status_of

SECONDS = 10.0


def main() -> None:
    """Print both."""
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
        share = asyncio.run(_pages(studio, asked.pages)) / SECONDS
        print(f"{asked.pages} open pages of a run that logs 10 lines a second: {100 * share:.1f} % of one core")


def _once(client: TestClient) -> tuple[float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    assert client.get("/").status_code == 200
    return time.perf_counter() - wall, time.process_time() - busy


async def _pages(studio: Studio, count: int) -> float:
    """Seconds of the processor that the events of so many pages take while a run is written."""
    folder = studio.root / "at-work"
    make(folder, 0)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "state": "running", "phase": "training", "process": own_process()}))
    (folder / RECORDS).write_text("")
    pages = [asyncio.create_task(_read(studio)) for _ in range(count)]
    begun = time.process_time()
    with (folder / RECORDS).open("a", encoding="utf-8") as file:
        for number in range(int(10 * SECONDS)):
            file.write(json.dumps({"time": time.time(), "kind": "step", "step": number, "total": 100, "values": {"loss": 0.1}}) + "\n")
            file.flush()
            await asyncio.sleep(0.1)
    spent = time.process_time() - begun
    for page in pages:
        page.cancel()
    await asyncio.gather(*pages, return_exceptions=True)
    return spent


async def _read(studio: Studio) -> None:
    async for _ in stream(studio.root / "at-work", lambda: status_of(studio, "at-work"), 0):
        pass


if __name__ == "__main__":
    main()
