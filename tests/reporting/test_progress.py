"""The page that shows a run while it goes on."""

import json
import re
import time
from collections.abc import Callable

from dreambooth.files.images import save_png
from dreambooth.reporting.pictures import Subject
from dreambooth.reporting.progress import PAUSE, PROGRESS, SILENCE, ProgressPage
from dreambooth.setup.record import RunRecord
from dreambooth.setup.states import State
from dreambooth.training.records import Preview, Scores, Step
from tests.metrics.encoders import picture
from tests.reporting.test_report import Page

LOOK = {"dino": 0.4, "clip_t": 0.3, "pres": 0.4, "div": 0.5, "copying": 0.0}


def page_of(folder, chosen=None, total=1000, **settings) -> ProgressPage:
    record = RunRecord(folder, {"choice": chosen, "phase": "training"}, writes=False)
    return ProgressPage(record, subject=Subject("sks", "dog"), title="a [V] <dog>", total=total, **settings)


def ended(page: ProgressPage, state: State, cause: str = "") -> str:
    """What the page says once its run has ended."""
    page.record.end(state, cause)
    page.close()
    return page.path.read_text()


def test_the_page_refreshes_itself_until_the_run_ends(tmp_path):
    page = page_of(tmp_path, {"step": 20, "why": "Step 20: the most faithful."})
    page.take(Scores(0, 1000, LOOK))
    for step in (10, 20, 30):
        page.take(Step(step, 1000, {"loss_subject": 0.3, "loss_prior": 0.2}))
    page.take(Scores(30, 1000, LOOK | {"dino": 0.6}))
    page.write()
    text = (tmp_path / PROGRESS).read_text()
    assert "location.reload(), 5000" in text and "&lt;dog&gt;" in text and not Page(text).open and not Page(text).links
    assert "Step 30 of 1000" in text and ">training<" in text and "best so far" in text and "0.400 → 0.600" in text
    assert len(re.findall("<svg", text)) == 4 and text.count('class="mark"') == 4, "loss, fidelity, prompts, diversity"
    text = ended(page, State.FINISHED)
    assert "reload" not in text and ">finished<" in text and "best: step 20" in text
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
    page = page_of(tmp_path, is_toybox=True)
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
    ended(page_of(tmp_path), State.INTERRUPTED)
    assert "silent" not in (tmp_path / PROGRESS).read_text(), "a run that has ended is not missed"


def test_before_the_first_evaluation_the_page_says_when_it_comes(tmp_path):
    page = page_of(tmp_path, every=150)
    page.take(Step(10, 1000, {"loss_subject": 0.3}))
    page.write()
    assert "First evaluation of what it learns at step 150" in Page(page.path.read_text()).text
    page.take(Scores(0, 1000, LOOK | {"dino": 0.38}))
    page.take(Step(160, 1000, {"loss_subject": 0.3}))
    page.write()
    text = Page(page.path.read_text()).text
    assert "0.380" in text and "→" not in text and "at step 300" in text, "an evaluation that took too long was left out"
    page.take(Scores(300, 1000, LOOK | {"dino": 0.5}))
    page.write()
    text = Page(page.path.read_text()).text
    assert "0.380 → 0.500" in text and "First evaluation" not in text and "looks like the subject; higher is better" in text
    for other in (page_of(tmp_path), page_of(tmp_path, every=150)):
        ended(other, State.FAILED, "no memory left")
        assert "evaluation" not in Page(other.path.read_text()).text.lower(), "nobody asked for one, or none comes any more"


def test_pictures_stand_by_step_with_the_untuned_model_first(tmp_path):
    page = page_of(tmp_path)
    for step in (0, 40, 80):
        paths = [tmp_path / "samples" / f"step-{step:06d}" / f"00-seed{seed}.png" for seed in range(6)]
        for path in paths:
            save_png(path, picture(step), {"prompt": "a sks dog on <sand>"})
        page.take(Preview(step, tuple(paths), ("",) * 6))
    text = page.path.read_text()
    assert re.findall(r'class="who">(step[^<]*)<', text) == ["step 0, untuned", "step 40", "step 80"] and text.count("<img") == 3 * 4
    assert "[V]" in text and "sks" not in text and "&lt;sand&gt;" in text and all(link.startswith("data:") for link in Page(text).links)
    later = page_of(tmp_path)
    later.resume(80)
    later.write()
    assert later.path.read_text().count("<img") == 3 * 4, "a run that goes on has those of its earlier start"


def test_the_page_says_how_long_it_takes_and_how_it_ended(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    page = page_of(tmp_path, total=400)
    page.record.spent = 60.0
    page.take(Step(100, 400, {"loss_subject": 0.3}))
    assert " left<" not in page.path.read_text(), "one update says nothing about the pace"
    now[0] += 50
    page.take(Step(200, 400, {"loss_subject": 0.3}))
    text = Page(page.path.read_text()).text
    assert "1 min 0 s of training" in text and "about 1 min 40 s left" in text
    text = ended(page, State.FAILED, "CUDA is out of memory")
    assert ">failed<" in text and "CUDA is out of memory." in text and " left<" not in text and "report.html" not in text
    (tmp_path / "report.html").touch()
    text = ended(page, State.FINISHED)
    assert 'href="report.html"' in text and "goes on" not in text
