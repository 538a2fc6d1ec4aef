"""The verbs for Python: a run shows itself, and a training that is watched can be stopped."""

import json
from pathlib import Path

import pytest
from PIL import Image

import dreambooth
from dreambooth.files.images import save_png
from dreambooth.setup.journal import read_records
from dreambooth.setup.record import status
from dreambooth.setup.states import State
from dreambooth.training.records import Progress, Saved, Step
from tests import tiny
from tests.setup.test_runs import made


def test_a_run_shows_its_picture_state_and_scores_with_words_escaped(tmp_path):
    folder = made(tmp_path / "my<b>run", identifier="sks", method="lora")
    run = dreambooth.Run(folder)
    for missing in (run.show, lambda: run.scores):
        with pytest.raises(dreambooth.SettingError):
            missing()
    assert "<img" not in run._repr_html_()
    save_png(folder / "contact_sheet.png", Image.new("RGB", (30, 20), "red"), {})
    (folder / "scores.json").write_text(json.dumps({"dino": {"value": 0.5, "low": 0.4, "high": 0.6}, "verdict": {"word": "good"}}))
    html = run._repr_html_()
    assert "<img" in html and "finished" in html and "0.500 (0.400 to 0.600)" in html and "<b>" not in html
    assert run.show().size == (30, 20) and run.scores["dino"]["value"] == 0.5


@pytest.mark.parametrize("name", ["owner/<model>", "missing"])
def test_what_is_no_run_shows_its_name_alone(name):
    html = dreambooth.Run(name)._repr_html_()
    assert "<model>" not in html and name.partition("<")[0] in html


@pytest.fixture
def begin(pipelines, tmp_path):
    """A training under watch, of nine updates."""
    return lambda: dreambooth.watch(
        instance_data_dir=tiny.photos(tmp_path / "photos"), class_noun="dog", pretrained_model_name_or_path=pipelines("stable_diffusion"),
        output_dir=tmp_path / "run", max_train_steps=9, train_batch_size=1, with_prior_preservation=False, resolution=16, seed=0,
        identifier="sks", validation_prompt="a [V] dog", validation_steps=2, num_validation_images=1, validation_inference_steps=1,
    )  # fmt: skip


def test_a_watched_training_that_is_stopped_saves_and_ends_without_an_error(begin, tmp_path):
    records, seen = begin(), []
    for record in records:
        seen.append(record)
        if isinstance(record, Step) and record.step == 4:
            records.stop()
    assert next(records, None) is None and max(record.step for record in seen if isinstance(record, Step)) == 4
    assert status(tmp_path / "run").state is State.INTERRUPTED and (tmp_path / "run" / "checkpoint-4").is_dir()
    assert [(record.step, record.why) for record in seen if isinstance(record, Saved)] == [(3, "a quarter of the run"), (4, "stopping")]
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == ["step-000000", "step-000002", "step-000004"]


def test_a_watched_training_that_nobody_reads_on_ends_at_once_and_says_so_in_its_records(begin, tmp_path):
    for record in begin():
        if isinstance(record, Step):
            break
    assert status(tmp_path / "run").state is State.INTERRUPTED
    assert read_records(tmp_path / "run")[-1]["state"] == "interrupted"


def test_photos_are_checked_by_a_verb_and_its_table_is_a_text_in_a_notebook_too(tmp_path, monkeypatch):
    import rich.console

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)  # there rich shows instead of writing
    report = dreambooth.check_photos(tiny.photos(tmp_path / "photos", count=2))
    assert "all photos" in report.table() and len(report.photos) == 2
    with pytest.raises(dreambooth.SettingError):
        dreambooth.check_photos(tmp_path / "missing")


def test_a_training_lives_in_one_cell_that_is_written_again_and_again(monkeypatch):
    display = pytest.importorskip("IPython.display")
    cells = []

    class Handle:
        def update(self, html):
            cells.append(html.data)

    def show(html, display_id):
        cells.append(html.data)
        return Handle() if display_id else None

    monkeypatch.setattr(display, "display", show)
    live = dreambooth.Live()
    live(Progress("drawing <class> images", 5, 5))
    for step in (0, 10, 20):
        live(Step(step, 20, {"loss_subject": 0.3 - step / 100}))
    live(Saved(20, Path("somewhere")))
    assert "preparing" in cells[0] and "drawing &lt;class&gt; images" in cells[1]
    assert "20 of 20" in cells[-1] and "<svg" in cells[-1] and "error on your photos" in cells[-1] and "<script" not in cells[-1]
