"""A server over a folder of its own, without a network; a finished run in it, and a training that replays what one has said."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the app needs the extra ui (pip install 'dreambooth[ui]')")

from fastapi.testclient import TestClient

from benchmarks.batch import quick
from dreambooth.setup.states import own_process
from dreambooth.web import jobs
from dreambooth.web.app import create_app
from dreambooth.web.studio import Studio
from tests import tiny

ORIGIN = {"origin": "http://localhost"}
DEAD = 2**22 + 1
"""No process of this machine."""


@pytest.fixture
def studio(tmp_path, pipelines):
    """A root folder, and a folder of models with a tiny pipeline."""
    return Studio.opened(tmp_path / "root", (pipelines("stable_diffusion").parent,))


@pytest.fixture
def client(studio):
    """A browser on a page of the server: it sends its origin. Nothing is started by a clock."""
    with TestClient(create_app(studio, pumps=False), base_url="http://localhost", headers=ORIGIN) as client:
        yield client


@pytest.fixture
def not_started(monkeypatch):
    """Jobs whose process is this one: they are at work for as long as the test lasts, and nothing is trained."""
    started = []

    class Process:
        def __init__(self, words, **other):
            started.append(words)
            self.pid = own_process()["pid"]

        def wait(self):
            return 0

    monkeypatch.setattr("dreambooth.web.jobs.subprocess.Popen", Process)
    return started


@pytest.fixture
def rooted(client, studio, pipelines, monkeypatch):
    """The client of a server that is at home in its root, as `dreambooth ui` is, with photos of two subjects there."""
    monkeypatch.chdir(studio.root)
    for name in ("rex", "mug-red"):
        tiny.photos(studio.root / "photos" / name)
    return client


@pytest.fixture
def worked(studio, monkeypatch):
    """The queue's jobs are done here and at once, by `dreambooth batch` with work that computes nothing; returns what does the next."""

    class Process:
        pid = DEAD

        def __init__(self, words, stdout, **other):
            with os.fdopen(os.dup(stdout.fileno()), "w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                self.code = quick.run(list(words[len(jobs.COMMAND) :]))

        def wait(self):
            return self.code

    monkeypatch.setattr("dreambooth.web.jobs.subprocess.Popen", Process)
    return lambda: jobs.pump(studio)


def png(colour="red", size=(32, 32)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def photos(folder: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """Four small photos as a form sends them."""
    return [("photos", (path.name, path.read_bytes())) for path in sorted(tiny.photos(folder).iterdir())]


def drafted(client, tmp_path, **settings) -> str:
    """The address of a draft with photos, a tiny model and settings."""
    address = client.post("/new", follow_redirects=False).headers["location"].rpartition("/")[0]
    assert client.post(f"{address}/photos", files=photos(tmp_path / "given")).status_code == 200
    model = client.app.state.studio.models[0] / "stable_diffusion"
    assert client.post(f"{address}/model", data={"model": str(model)}).status_code == 200
    filled = {"class_noun": "dog", "name": "rex", "goal": "small", "identifier": "sks", "resolution": "16", "max_train_steps": "8"}
    filled |= {"num_class_images": "2", **settings}
    assert client.post(f"{address}/how", data=filled).status_code == 200
    return address


def made_run(root: Path, name: str = "old", **record) -> Path:
    """A run's folder as a training leaves it, without weights."""
    folder = root / name
    (folder / "samples" / "step-10").mkdir(parents=True)
    (folder / "samples" / "step-10" / "0-seed0.png").write_bytes(png("blue"))
    (folder / "contact_sheet.png").write_bytes(png("green", (64, 48)))
    (folder / "report.html").write_text("<!doctype html><p>report</p>")
    (folder / "config.yaml").write_text("photos: {class_noun: dog}\n")
    values = {"dreambooth": "0.1.0", "state": "finished", "step": 20, "result_step": 20, "method": "lora", "seconds": {"training": 3.0}}
    (folder / "run.json").write_text(json.dumps({**values, "started": "2026-01-01T00:00:00+00:00", **record}))
    lines = [
        {"time": 1.0, "kind": "start", "step": 0}, {"time": 2.0, "kind": "message", "text": "Loading", "important": False},
        {"time": 3.0, "kind": "step", "step": 10, "total": 20, "values": {"loss_subject": 0.5}},
        {"time": 4.0, "kind": "preview", "step": 10, "paths": ["samples/step-10/0-seed0.png"], "prompts": ["a dog"]},
        {"time": 5.0, "kind": "step", "step": 20, "total": 20, "values": {"loss_subject": 0.4}},
    ]  # fmt: skip
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
