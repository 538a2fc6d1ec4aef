"""The page that shows a run while it goes on."""

import json
import re
import time
from collections.abc import Callable

from dreambooth.reporting.progress import PAUSE, PROGRESS, SILENCE, ProgressPage
from dreambooth.training.records import Preview, Scores, Step
from tests.reporting.test_report import Page

LOOK = {"dino": 0.4, "clip_t": 0.3, "pres": 0.4, "div": 0.5, "copying": 0.0}


def page_of(folder, chosen=None, total=1000) -> ProgressPage:
    return ProgressPage(folder, title="a [V] <dog>", total=total, choice=lambda: chosen)


def test_the_page_refreshes_itself_until_the_run_ends(tmp_path):
    page = page_of(tmp_path, {"step": 20, "why": "Step 20: the most faithful."})
    page.take(Scores(0, 1000, LOOK))
    for step in (10, 20, 30):
        page.take(Step(step, 1000, {"loss_subject": 0.3, "loss_prior": 0.2}))
    page.take(Scores(30, 1000, LOOK | {"dino": 0.6}))
    page.write()
    text = (tmp_path / PROGRESS).read_text()
    assert 'http-equiv="refresh"' in text and "&lt;dog&gt;" in text and not Page(text).open and not Page(text).links
    assert "Step 30 of 1000" in text and "best so far" in text and "0.400 → 0.600" in text
    assert len(re.findall("<svg", text)) == 4 and text.count('class="mark"') == 4, "loss, fidelity, prompts, diversity"
    page.close()
    text = (tmp_path / PROGRESS).read_text()
    assert "refresh" not in text and "30 of 1000, ended" in text and "best: update 20" in text
    assert not list(tmp_path.glob(".partial-*"))


def test_the_page_is_there_from_the_first_numbers_and_not_written_at_every_step(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    page = page_of(tmp_path)
    page.take(Step(1, 1000))
    page.take(Preview(1, (), ()))
    assert not page.path.exists(), "nothing to tell yet"
    page.take(Step(2, 1000, {"loss_subject": 0.1}))
    first = page.path.read_text()
    assert "nothing to draw" in first
    page.take(Step(3, 1000, {"loss_subject": 0.2}))
    assert page.path.read_text() == first
    now[0] += PAUSE
    page.take(Step(4, 1000, {"loss_subject": 0.2}))
    assert "<svg" in page.path.read_text()


def test_the_toybox_says_so(tmp_path):
    page = ProgressPage(tmp_path, title="a [V] dog", total=10, choice=lambda: None, is_toybox=True)
    page.write()
    assert "say nothing about real models" in Page(page.path.read_text()).text
    page_of(tmp_path).write()
    assert "toybox" not in Page(page.path.read_text()).text.split("}")[-1]


def test_a_resumed_run_goes_on_with_its_curves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "dino": 0.1}\n{"step": 10, "dino": 0.2}\n{"step": 15, "dino": 0.3}\n{"ste')
    page = page_of(tmp_path)
    page.resume(10)
    assert [row["step"] for row in page.rows] == [5, 10] and page.step == 10


def test_a_page_of_ten_thousand_readings_costs_little_more_than_to_write_them_down(tmp_path):
    page = page_of(tmp_path, {"step": 200, "why": "Because."}, total=100_000)
    page.rows = [{"step": i, "loss_subject": i % 9 / 9, "loss_prior": i % 7 / 7} for i in range(10_000)]
    page.rows += [{"step": i, **LOOK} for i in range(0, 10_000, 100)]

    def work(action: Callable[[], object]) -> float:
        """The processor's time, as other programs may hold the disk; the best of five, as they may hold the processor, too."""
        seconds = []
        for _ in range(5):
            clock = time.process_time()
            action()
            seconds.append(time.process_time() - clock)
        return min(seconds)

    assert work(page.write) < 5 * work(lambda: json.dumps(page.rows))
    assert page.path.stat().st_size < 200_000


def test_a_page_that_cannot_be_written_at_the_end_hides_no_other_error(tmp_path, monkeypatch):
    from dreambooth.core.errors import RunError
    from dreambooth.reporting import progress

    def full(path, text):
        raise RunError("The disk is full.")

    monkeypatch.setattr(progress, "write_text", full)
    page_of(tmp_path).close()


def test_a_page_whose_run_was_killed_says_that_nothing_is_new(browser, tmp_path, monkeypatch):
    killed_at = time.time()
    shown = []
    for ago in (60, 60 * SILENCE + 90):
        monkeypatch.setattr(time, "time", lambda ago=ago: killed_at - ago)
        page_of(tmp_path).write()
        page = browser.new_page()
        page.goto((tmp_path / PROGRESS).as_uri())
        shown.append(page.inner_text("#silent") if page.is_visible("#silent") else "")
    assert shown[0] == "" and "Nothing new for 11 minutes" in shown[1] and "--resume_from_checkpoint latest" in shown[1]
    page_of(tmp_path).close()
    assert "silent" not in (tmp_path / PROGRESS).read_text(), "a run that has ended is not missed"
