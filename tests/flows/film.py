"""Pictures of every page, in both widths and both schemes, over a folder that is made up: `python -m tests.flows.film FOLDER`.

With `--docs` the few that docs/web.md shows, small. Nothing is trained: subjects are rendered by the toybox's world.
"""

import argparse
import json
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from dreambooth.bench.job import Row
from dreambooth.bench.progress import PROGRESS
from dreambooth.bench.rows import write_row
from dreambooth.setup.states import own_process
from dreambooth.toybox.world import held_out_subjects, render
from dreambooth.web import jobs
from dreambooth.web.app import create_app
from dreambooth.web.drafts import new_draft, save, with_settings
from dreambooth.web.fitting import Fits
from dreambooth.web.studio import Studio
from tests.conftest import CHROMIUM
from tests.web.conftest import made_run

SIDE = 160
SHOWN = ("home", "photos", "run", "bench")
"""Pages that the documentation shows, wide and light."""


def main() -> None:
    """Write them."""
    words = argparse.ArgumentParser(prog="python -m tests.flows.film")
    words.add_argument("folder", type=Path)
    words.add_argument("--docs", action="store_true")
    asked = words.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        studio = Studio.opened(Path(place) / "root")
        pages = furnished(studio)
        address = served(studio)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
            for width, scheme in ((1280, "light"),) if asked.docs else ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
                page = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme).new_page()
                for name, path in pages.items():
                    if not asked.docs or name in SHOWN:
                        page.goto(f"{address}{path}", wait_until="load")
                        taken(page, asked.folder, f"web-{name}" if asked.docs else f"{name}-{width}-{scheme}", is_small=asked.docs)
            browser.close()


def taken(page: Page, folder: Path, name: str, *, is_small: bool) -> None:
    """One page as a picture."""
    page.wait_for_timeout(400)  # pictures that are drawn late
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        print(f"{name} is wider than the window")
    path = folder / f"{name}.png"
    page.screenshot(path=str(path), full_page=not is_small)
    if is_small:
        image = Image.open(path).convert("RGB")
        image.thumbnail((960, 960), Image.Resampling.LANCZOS)
        image.save(path.with_suffix(".jpg"), quality=82, optimize=True)
        path.unlink()


def served(studio: Studio) -> str:
    """The address of a server of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(studio, pumps=False), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def furnished(studio: Studio) -> dict[str, str]:
    """Runs of every state, drafts, a queue and a bench; returns the addresses of the pages by name."""
    truths = [*held_out_subjects()][:8]
    pictures = [[Image.fromarray(render(truth, scene, SIDE)) for scene in truth.photo_scenes()[:4]] for truth in truths]
    names = ["rex", "teapot-blue", "my-mug", "ada", "robot", "green-duck"]
    states = ["running", "finished", "finished", "interrupted", "failed", "finished"]
    for at, (name, state) in enumerate(zip(names, states, strict=True)):
        cause = "the loss is not finite at step 40" if state == "failed" else ""
        a_run(studio, name, pictures[at], state=state, cause=cause)
    jobs.add(studio, jobs.new("train", ("train",), "second-try", "cpu"))
    jobs.add(studio, jobs.new("generate", ("generate", "--prompt=a [V] teapot on the beach", "--seed=7"), "teapot-blue", "cpu"))
    draft = new_draft(studio)
    for number, scene in enumerate(truths[6].photo_scenes()[:4]):
        Image.fromarray(render(truths[6], scene, 512)).save(studio.photos(draft.id) / f"{number}.png")
    draft = with_settings(studio, draft, {"class_noun": "dog", "pretrained_model_name_or_path": "toybox", "rank": "8"})
    save(studio, replace(draft, name="spotted-dog"))
    a_bench(studio.root / "comparison", [truth.name for truth in truths])
    for method, need in (("lora", 0.76), ("full", 0.84)):
        path = Fits(studio)._place("toybox", method)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"peak_gib": need}))
    new = {step: f"/new/{draft.id}/{step}" for step in ("photos", "model", "how", "plan")}
    run = {"run": "/runs/rex", "failed": "/runs/robot", "result": "/runs/teapot-blue", "interrupted": "/runs/ada"}
    tails = {tail: f"/runs/teapot-blue/-/{tail}" for tail in ("play", "export", "delete")}
    return {"home": "/", **new, **run, **tails, "bench": "/bench", "compare": "/compare", "models": "/models", "api": "/api/", "none": "/x"}


def a_run(studio: Studio, name: str, pictures: list[Image.Image], *, state: str, cause: str) -> None:
    """A run that has previews and curves."""
    folder = made_run(studio.root, name, state=state, cause=cause, phase="training", step=240, process=own_process(), identifier="sks")
    lines = [{"time": time.time() - 300, "kind": "start", "step": 0}]
    for step in range(0, 250, 10):
        values = {"loss_subject": 0.08 + 0.3 / (1 + step / 30) + 0.01 * (step % 3), "loss_prior": 0.1 + 0.2 / (1 + step / 60)}
        lines.append({"time": time.time() - 250 + step, "kind": "step", "step": step, "total": 400, "values": values})
        if step % 80 == 0:
            paths = [f"samples/step-{step:06d}/{at}-seed0.png" for at in range(4)]
            for path, picture in zip(paths, pictures, strict=True):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                picture.save(folder / path)
            lines.append({"time": time.time() - 250, "kind": "preview", "step": step, "paths": paths, "prompts": ["a [V]"] * 4})
    lines.append({"time": time.time(), "kind": "message", "text": "saved checkpoint-200 (every 100 steps)", "important": False})
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sheet = Image.new("RGB", (4 * SIDE, SIDE))
    for at, picture in enumerate(pictures):
        sheet.paste(picture, (at * SIDE, 0))
    sheet.save(folder / "contact_sheet.png")
    verdict = {"word": "good", "sentence": "It has learned the subject, and still draws what the words say."}
    (folder / "scores.json").write_text(json.dumps({"verdict": verdict}))


def a_bench(root: Path, subjects: list[str]) -> None:
    """A bench that is at work: some rows, one job at work, one that failed."""
    arms, lines = ["with prior", "without prior", "rank 4"], []
    for at, (subject, arm) in enumerate((subject, arm) for subject in subjects[:5] for arm in arms):
        place = {"arm": arm, "subject": subject, "seed": 0, "key": f"k{at}"}
        if at < 8:
            scores = {"dino": {"value": 0.5 + 0.03 * (at * 7 % 9), "low": 0.4, "high": 0.8, "n": 4}}
            write_row(root, Row(f"k{at}", "table3", arm, subject, 0, "dog", True, scores=scores))
        kind = "finished" if at < 8 else {8: "failed", 9: "running"}.get(at)
        if kind:
            lines.append({"kind": kind, **place, **({"cause": "no memory is left on this device"} if kind == "failed" else {})})
    made_run(root / "jobs" / "k9", "run", state="running", phase="training", step=120, process=own_process())
    plan = {"kind": "plan", "plan": "table3", "arms": {arm: [0] for arm in arms}, "subjects": subjects[:5], "process": own_process()}
    (root / PROGRESS).mkdir()
    (root / PROGRESS / "table3.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (plan, *lines)))


if __name__ == "__main__":
    main()
