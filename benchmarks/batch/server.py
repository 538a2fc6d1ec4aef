"""The server of batches under load: hundreds of rows queued over HTTP while clients poll and the server is killed and started again.

    python -m benchmarks.batch.server [--rows 500] [--batches 5] [--clients 50] [--kills 3]

Everything is real but the rows' work (quick.py): `dreambooth ui`, its queue, and for each batch a process of `dreambooth batch`.
Requests of clients that meet a dead server are tried again, submissions under their Idempotency-Key. At the end every row has to be there,
done once, and every batch reported once to a receiver that does not answer at first.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.toybox.world import held_out_subjects, render_photos

SERVE = """
import sys
from dreambooth.cli import main
from dreambooth.web import jobs
jobs.COMMAND = (sys.executable, sys.argv[1])
sys.exit(main(["ui", sys.argv[2], "--port", sys.argv[3], "--no-open", "--webhook", sys.argv[4]]))
"""
PAUSE = 1.0
"""Seconds between a client's questions, as a page or a program asks that follows a batch."""


class Load:
    """What the clients have seen."""

    def __init__(self, port: int):
        self.port, self.over = port, threading.Event()
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()
        self.refused = 0
        """Requests that met no server: it was dead at that moment."""

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """One request; raises OSError where no server answers."""
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def insist(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """The same, tried again until a server answers."""
        while True:
            try:
                return self.ask(method, path, body, key)
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{error.code}: {error.read().decode()}") from None
            except (OSError, ValueError):
                self.refused += 1
                time.sleep(0.5)

    def poll(self, names: list[str], number: int) -> None:
        """A client: it follows one batch after the other."""
        turn = number
        while not self.over.wait(PAUSE):
            turn += 1
            path = f"/api/batches/{names[turn % len(names)]}" + ("/results" if turn % 4 == 0 else "") if names else "/api/batches"
            began = time.perf_counter()
            try:
                self.ask("GET", path)
                self.seconds.append(time.perf_counter() - began)
            except urllib.error.HTTPError as error:
                self.errors[str(error.code)] += 1
            except (OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    self.errors["no answer"] += 1
                self.refused += 1


class Receiver(HTTPServer):
    """Takes reports; every tenth is refused once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: Counter[str] = Counter()
        self.refusals: set[str] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        name = str(self.headers["Dreambooth-Event"])
        is_refused = hash(name) % 10 == 0 and name not in self.server.refusals
        if is_refused:
            self.server.refusals.add(name)
        else:
            self.server.taken[name] += 1
        self.send_response(503 if is_refused else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


class Server:
    """`dreambooth ui` as a process that is killed and started again."""

    def __init__(self, root: Path, port: int, hook: str):
        self.words = [sys.executable, "-c", SERVE, str(Path(__file__).with_name("quick.py")), str(root), str(port), hook]
        self.log = (root.parent / "server.log").open("ab")
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.words, stdout=self.log, stderr=self.log)

    def restart(self) -> None:
        """SIGKILL, and a new one."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._started()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


def photos(root: Path) -> None:
    """Photos that all rows learn from."""
    (root / "photos" / "one").mkdir(parents=True)
    for name, picture in enumerate(render_photos(held_out_subjects()[0])):
        Image.fromarray(picture).save(root / "photos" / "one" / f"{name}.png")


def submissions(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The batches, their rows shared out; every fiftieth row is not accepted at first, and one row of each batch has no photos."""
    share = asked.rows // asked.batches
    found = []
    for batch in range(asked.batches):
        rows = [
            {"subject": f"p-{batch}-{row}", "class": "unlike" if row % 50 == 49 else "mug", "photos": "photos/one"} for row in range(share)
        ]
        rows[0]["photos"] = "photos/none"
        settings = {
            "pretrained_model_name_or_path": "toybox",
            "method": "lora",
            "accept": "fidelity > 0.5",
            "retry": ["max_train_steps=x2"],
        }
        found.append({"name": f"batch {batch}", "settings": settings, "rows": rows, "webhook": "127.0.0.1"})
    return found


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.batch.server")
    for name, value in (("rows", 500), ("batches", 5), ("clients", 50), ("kills", 3)):
        words.add_argument(f"--{name}", type=int, default=value)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root, receiver = Path(place) / "root", Receiver()
        photos(root)
        os.environ["QUICK_LOG"] = str(Path(place) / "done.txt")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Server(root, port, f"http://127.0.0.1:{receiver.server_port}/hook")
        try:
            _run(asked, Load(port), server, receiver, Path(place) / "done.txt", f"127.0.0.1:{receiver.server_port}")
        finally:
            server.close()
            receiver.shutdown()


def _run(asked: argparse.Namespace, load: Load, server: Server, receiver: Receiver, done: Path, hook: str) -> None:
    began, names, kills = time.monotonic(), list[str](), 0
    clients = [threading.Thread(target=load.poll, args=(names, number), daemon=True) for number in range(asked.clients)]
    load.insist("GET", "/api/batches")
    for client in clients:
        client.start()
    for number, body in enumerate(submissions(asked)):
        if number == 1:  # in the middle of a submission
            threading.Timer(1.0, server.restart).start()
            kills += 1
        names.append(load.insist("POST", "/api/batches", {**body, "webhook": hook}, key=f"order-{number}")["id"])
    queued = time.monotonic() - began
    while True:
        found = load.insist("GET", "/api/batches")["batches"]
        finished = sum(one["state"] == "finished" for one in found)
        if finished == len(found) and all(one["reports"]["waiting"] == 0 for one in found) and kills >= asked.kills:
            break
        if kills < asked.kills and finished >= kills:
            time.sleep(3)
            server.restart()
            kills += 1
        time.sleep(2)
    load.over.set()
    _report(asked, load, receiver, done, (queued, time.monotonic() - began, kills))


def _report(asked: argparse.Namespace, load: Load, receiver: Receiver, done: Path, took: tuple[float, float, int]) -> None:
    """Print the figures; raises AssertionError where a row was lost, or something was done or reported twice."""
    entries = [
        row
        for batch in load.ask("GET", "/api/batches")["batches"]
        for row in load.ask("GET", f"/api/batches/{batch['id']}/results")["rows"]
    ]
    statuses, lines = Counter(row["status"] for row in entries), Counter(done.read_text().splitlines())
    twice = [line for line, count in lines.items() if count > 1]
    queued, wall, kills = took
    ordered = sorted(load.seconds)
    print(f"{len(entries)} rows in {asked.batches} batches, {asked.clients} clients, the server killed {kills} times, {wall:.0f} s")
    print(f"submitted within {queued:.0f} s; rows: {', '.join(f'{count} {status}' for status, count in sorted(statuses.items()))}")
    print(f"{len(lines)} trainings, done twice: {len(twice)}; reports taken: {len(receiver.taken)}, twice: {_twice(receiver.taken)}")
    p50, p95 = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    print(f"{len(ordered)} answers: p50 {1000 * p50:.0f} ms, p95 {1000 * p95:.0f} ms, longest {1000 * ordered[-1]:.0f} ms")
    print(f"errors: {dict(load.errors) or 'none'}; requests that met a dead server: {load.refused}")
    rows = asked.rows // asked.batches * asked.batches
    assert len(entries) == rows and "waiting" not in statuses, "rows were lost"
    assert statuses["failed"] == asked.batches and not twice and not load.errors
    assert len(receiver.taken) == rows + asked.batches, "reports were lost"


def _twice(taken: Counter[str]) -> int:
    return sum(count > 1 for count in taken.values())


if __name__ == "__main__":
    main()
