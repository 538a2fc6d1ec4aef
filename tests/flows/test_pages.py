"""Every page that the commands write, in a browser: at two widths, light and dark, read by axe. `make flows` runs them."""

import json

import pytest

from dreambooth.bench.tables import write_tables
from dreambooth.cli import main
from dreambooth.files.images import save_png
from dreambooth.reporting import report
from dreambooth.reporting.pictures import Subject
from dreambooth.reporting.progress import ProgressPage
from dreambooth.setup.record import RunRecord
from dreambooth.training.records import Preview, Scores, Step
from tests import tiny
from tests.bench.made_up import layout, rows, with_pictures
from tests.metrics.encoders import picture
from tests.reporting.test_report import scores, with_prompts
from tests.setup.test_runs import made
from tests.study.asked import bench_folder
from tests.study.asked import made as study

pytestmark = pytest.mark.slow


def evaluated(folder):
    """A run with photos, previews, curves, scores and pictures."""
    photos = tiny.photos(folder.parent / "photos", count=3)
    made(folder, identifier="sks", method="lora", base_model={"name": "base"})
    (folder / "config.yaml").write_text(f"photos: {{instance_data_dir: {photos}, class_noun: dog}}\n")
    table = with_prompts(scores(), (0.3, 0.3), (0.8, 0.3), (0.7, 0.3))
    (folder / "scores.json").write_text(json.dumps(table))
    lines = [{"step": step, "loss_subject": 0.2 + 0.01 * (step % 3), "dino": 0.4, "clip_t": 0.3} for step in range(0, 60, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for place in ("samples/evaluation/tuned", "samples/evaluation/untuned", "samples/step-000000", "samples/step-000010"):
        for row in range(3):
            for seed in range(2):
                notes = {"prompt": f"a sks dog {row}", "seed": seed}
                save_png(folder / place / f"{row:02d}-seed{seed}.png", picture(10 * row + seed, (128, 128)), notes)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every page by its name."""
    root = tmp_path_factory.mktemp("pages")
    first, second = evaluated(root / "a"), evaluated(root / "b")
    progress = ProgressPage(
        RunRecord(root / "c", {"phase": "training"}), subject=Subject("sks", "dog"), title="a [V] dog", total=90, every=40
    )
    for step in range(10, 40, 10):
        progress.take(Step(step, 90, {"loss_subject": 0.3 / step}))
    progress.take(Scores(0, 90, {"dino": 0.4, "clip_t": 0.3, "pres": 0.4, "div": 0.5, "copying": 0.0}))
    path = root / "c" / "samples" / "step-000000" / "00-seed0.png"
    save_png(path, picture(1, (128, 128)), {"prompt": "a sks dog"})
    progress.take(Preview(0, (path,), ("a sks dog",)))
    write_tables(with_pictures(rows(seeds=1), root / "bench"), [], layout(), root / "bench")
    assert main(["runs", "compare", "a", "b", "--root", str(root), "--output", str(root / "comparison.html")]) == 0
    asked = study(bench_folder(root / "study"), num_questionnaires=1, comparisons=4)
    found = {"progress": progress.path, "bench": root / "bench" / "bench.html", "questionnaire": asked.questionnaires[0]}
    return {"report": report(first), "comparison": root / "comparison.html", **found, "second report": report(second)}


@pytest.mark.parametrize("name", ["report", "progress", "comparison", "bench", "questionnaire"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")])
def test_a_page_has_no_error_no_sideways_scroll_no_missing_picture_and_no_serious_barrier(browser, pages, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.goto(pages[name].as_uri())
    if name == "questionnaire":
        page.fill("#rater", "Zoë")
        page.click("text=Start")
    assert not said
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.images.length") > 0 or name == "progress"
    assert page.evaluate("[...document.images].filter((one) => one.src && !one.naturalWidth).length") == 0
    barriers = [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in axe.run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not barriers
