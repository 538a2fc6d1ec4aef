"""The study on the real thing: runs that were trained, a bench that has run, a browser in which a person answers."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from dreambooth.cli import main as command_line
from dreambooth.cli.study import main
from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig, evaluate
from dreambooth.run.train import train
from dreambooth.study import StudyMake, make
from tests.bench.conftest import encoder_flags, finished
from tests.metrics import encoders
from tests.study.asked import bench_folder, data_of, key_of, made
from tests.training.runs import config

__all__ = ["encoder_flags", "finished"]


def test_two_evaluated_runs_become_a_study(pipelines, photos, tmp_path, capsys):
    """The real thing, tiny: train, evaluate twice, and ask."""
    folders = {
        name: str(folder)
        for name, folder in (
            ("dino_encoder", encoders.dino_folder(tmp_path / "dino")),
            ("clip_encoder", encoders.clip_folder(tmp_path / "clip")),
        )
    }
    run = tmp_path / "run"
    for _ in train(config(pipelines("stable_diffusion"), root=tmp_path, method="lora", max_train_steps=1, output_dir=run, class_noun="dog",
                          validation_inference_steps=1)):  # fmt: skip
        pass
    for out in (run, tmp_path / "again"):
        asked = {"run": str(run), "output_dir": str(out), "num_prompts": 2, "num_images": 2, "class_samples": 0, "untuned": False}
        for _ in evaluate(EvaluateConfig.parse({**asked, "encoders": {**folders, "lpips_encoder": "none"}})):
            pass
    assert command_line(["study", "make", str(run), str(tmp_path / "again"), str(tmp_path / "study")]) == 0
    assert "4 pairs in 1 questionnaire" in capsys.readouterr().out
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    assert {c["seed"] for c in key["comparisons"]} == {0, 1} and len({c["prompt"] for c in key["comparisons"]}) == 2
    assert Path(key["comparisons"][0]["photo"]).is_file() and not key["toybox"]


def test_a_real_bench_has_its_tables_and_its_figure_and_becomes_a_study(finished, tmp_path):
    """The same with a bench that has run: its rows, pictures and folders are where tables and study look for them."""
    out, _ = finished
    folder = out / "tables" / "p"
    assert {path.name for path in folder.iterdir()} >= {"bench.html", "bench.md", "bench.tex", "bench.csv", "bench-tests.csv", "figure.png"}
    assert "data:image/" in (folder / "bench.html").read_text() and "| with | 2 x 1 |" in (folder / "bench.md").read_text()
    asked = {"first": f"{out}:with", "second": f"{out}:without", "output_dir": str(tmp_path / "study")}
    with pytest.raises(SettingError, match="--photos"):
        make(StudyMake.parse(asked))
    study = make(StudyMake.parse({**asked, "photos": str(out.parent / "dataset")}))
    assert study.pairs == 2 * 2 * 2 and {c["subject"] for c in key_of(study)["comparisons"]} == {"dog7", "toy1"}


@pytest.mark.parametrize("width", [390, 1280])
def test_the_reference_is_as_large_as_the_two_pictures_and_only_a_keyboard_gets_hints(browser, tmp_path, width):
    study = made(bench_folder(tmp_path / "bench"), num_questionnaires=1, comparisons=4)
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(study.questionnaires[0].as_uri())
    assert page.is_visible("kbd >> nth=0") == page.is_visible(".keys") == (width == 1280)
    page.fill("#rater", "Zoë")
    page.click("text=Start")
    assert len({page.locator(f"#{name}").bounding_box()["width"] for name in ("photo", "A", "B")}) == 1


def test_a_person_answers_in_a_browser_and_the_table_holds_it(browser, tmp_path, capsys):
    """Keyboard and mouse, back and forth, a reload in the middle, both downloads; nothing leaves the page."""
    study = made(bench_folder(tmp_path / "bench"), num_questionnaires=1, comparisons=4)
    key = {c["id"]: c for c in key_of(study)["comparisons"]}
    page = browser.new_page(viewport={"width": 390, "height": 844})
    output, asked = [], []
    page.on("pageerror", lambda error: output.append(str(error)))
    page.on("console", lambda message: output.append(message.text))
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(study.questionnaires[0].as_uri())
    page.fill("#rater", 'Zoë "Z"')
    page.click("text=Start")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "fits a phone"
    assert page.is_disabled("#next") and page.inner_text("#position") == "1 of 4"
    page.keyboard.press("1")
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.click("#identity label:has-text('B')")
    page.reload()
    assert page.inner_text("#position") == "2 of 4" and page.is_checked("#identity input[value=B]", timeout=2000)
    page.keyboard.press("2")
    page.keyboard.press("Backspace")
    assert page.inner_text("#position") == "1 of 4" and page.is_checked("#identity input[value=A]")
    page.click("#next")
    page.click("#next")
    for _ in range(2):
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
    assert "Thank you" in page.inner_text("#end") and page.get_attribute("[role=progressbar]", "aria-valuenow") == "4"
    files = []
    for name in ("json", "csv"):
        with page.expect_download() as download:
            page.click(f"#{name}")
        files.append(tmp_path / "in" / download.value.suggested_filename)
        download.value.save_as(files[-1])
    assert not output and not asked
    assert files[0].name == "answers-01-Zoë-Z-.json"
    first = json.loads(files[0].read_text())
    ids = [one["id"] for one in data_of(study.questionnaires[0])["comparisons"]]
    assert [(first["answers"][i]["identity"], first["answers"][i]["prompt"]) for i in ids] == [
        ("A", "equal"),
        ("B", "B"),
        ("A", "B"),
        ("A", "B"),
    ]
    assert main(["table", str(study.key.parent), str(tmp_path / "in"), "--min_raters", "1"]) == 0
    assert "User study" in capsys.readouterr().out
    rows = {(r["question"], r["choice"]): int(r["count"]) for r in csv.DictReader((study.key.parent / "table.csv").open())}
    wanted = Counter(key[i][side] for i, side in zip(ids, "ABAA", strict=True))
    assert {w: rows["identity", w] for w in ("first", "second")} == {w: wanted[w] for w in ("first", "second")}
    assert rows["prompt", "undecided"] == 1
