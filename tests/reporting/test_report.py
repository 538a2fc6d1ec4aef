"""The report: one file that needs nothing else, with scores and without, whatever the folder lacks."""

import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.files.images import save_png
from dreambooth.photos.load import photo_hash
from dreambooth.reporting import report
from dreambooth.reporting.curves import MOST, Curve, charts, draw, scale
from dreambooth.reporting.inline import data_uri, file_uri
from dreambooth.reporting.pictures import LARGE
from dreambooth.reporting.ranking import ranked, weakest
from dreambooth.reporting.table import is_comparable, strip
from dreambooth.setup.journal import metric_rows
from tests import tiny
from tests.metrics.encoders import picture


class Page(HTMLParser):
    """What a page refers to, and whether its elements close."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]
        if tag not in ("meta", "img", "input", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture
def run(tmp_path):
    """A finished run's folder without weights."""
    folder = tmp_path / "my-dog"
    folder.mkdir()
    photos = tiny.photos(tmp_path / "photos", count=3)
    learned = [{"name": path.name, "sha256": photo_hash(path)} for path in sorted(photos.iterdir())]
    record = {
        "dreambooth": "0.1.0", "state": "finished", "base_model": {"name": "owner/base"}, "method": "lora", "identifier": "sks", "step": 20,
        "photos": learned, "seed": 7, "seconds": {"training": 75.0}, "class_images": [{"count": 12}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    config = {"photos": {"instance_data_dir": str(photos), "class_noun": "dog"}, "optimization": {"learning_rate": 1e-4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [{"step": s, "loss_subject": 0.2 + 0.01 * (s % 3), "loss_prior": 0.3} for s in range(10, 60, 10)]
    lines += [{"step": s, "dino": 0.4 + s / 100, "clip_t": 0.33, "pres": 0.4, "div": 0.5} for s in (0, 20, 40)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"ste')
    for row in range(2):
        for seed in range(2):
            save_png(folder / "samples" / "final" / f"{row:02d}-seed{seed}.png", picture(row * 2 + seed), {"prompt": f"a sks dog {row}"})
    save_png(folder / "samples" / "step-000010" / "00-seed0.png", picture(9), {"prompt": "a"})
    return folder


def scores() -> dict:
    value = {"value": 0.6, "low": 0.55, "high": 0.65, "n": 4}
    one = {"dino": value, "clip_t": value, "div": {"value": None, "reason": "one picture has no diversity."}}
    problems = [{"name": "copying", "what": "40% repeat a photo.", "advice": "Use <b>fewer</b> steps."}]
    return {
        "dino": value, "clip_i": value, "clip_t": value, "div": {"value": None, "reason": "one picture has no diversity."},
        "copying": {"value": 0.4, "low": 0.2, "high": 0.6, "n": 4}, "untuned": {"dino": {"value": 0.3, "low": 0.2, "high": 0.4, "n": 4}},
        "real_photos": {"without_self_pairs": {"dino": {"value": 0.7}}, "with_self_pairs": {"dino": {"value": 0.76}}},
        "per_prompt": [{"prompt": "a [V] dog <on> the beach", "kind": "place", "scores": one, "untuned": one}],
        "verdict": {"word": "overfitted", "sentence": "It copies.", "problems": problems, "figures": {"fidelity": 0.75, "collapse": None}},
        "subject": {"class_noun": "dog", "identifier": "sks", "class_prompt": "a dog", "photos": ["0.png"], "toybox": False},
        "protocol": {"model": "somewhere/my-dog", "weights": "ab" * 32, "base_model": "owner/base", "base_weights": "cd" * 32,
                     "encoders": {"dino": "tiny"}, "prompts": 1, "images_per_prompt": 2, "seeds": [0, 1], "class_samples": 2,
                     "intervals": "95%", "seed": 0, "untuned_prompts": "without"},
        "made": {"dreambooth": "0.1.0", "ended": "2026"},
    }  # fmt: skip


def test_a_first_report_without_scores(run, monkeypatch):
    monkeypatch.chdir(run.parent)  # from where its commands can be pasted
    path = report(run)
    page = Page(path.read_text())
    assert path == run / "report.html" and not page.open
    assert page.links and all(link.startswith("data:image/") for link in page.links), "nothing is fetched from elsewhere"
    assert len(page.links) == 3 + 2 + 4 + 1, "photos, the first of each prompt, all that were drawn, a preview"
    assert "not scored yet" in page.text and "dreambooth evaluate my-dog" in page.text and "1 min 15 s" in page.text
    assert "Which checkpoint" not in page.text
    assert page.text.count("a [V] dog 1") == 2 and "sks dog" not in page.text.split("All settings")[0], (
        "[V], not the words that it stands for"
    )
    assert "Loss per picture" in page.text and "rendered world" not in page.text
    assert "http" not in path.read_text().replace("http-equiv", "")


def test_the_chosen_checkpoint_is_reported_with_its_reason(run):
    record = json.loads((run / "run.json").read_text())
    record["choice"] = {"step": 20, "why": "Step 20: the most faithful of those within the bounds."}
    (run / "run.json").write_text(json.dumps(record))
    assert "Step 20: the most faithful of those within the bounds." in Page(report(run).read_text()).text


def test_a_report_with_scores(run):
    (run / "scores.json").write_text(json.dumps(scores()))
    for kind in ("tuned", "untuned", "class"):
        for seed in range(3):
            save_png(run / "samples" / "evaluation" / kind / f"00-seed{seed}.png", picture(seed), {})
    text = report(run).read_text()
    page = Page(text)
    assert not page.open and all(link.startswith("data:image/") for link in page.links)
    assert "overfitted" in page.text and "It copies." in page.text and "40% repeat a photo." in page.text
    assert "<b>fewer</b>" not in text and "&lt;on&gt;" in text, "words from outside are no markup"
    assert "not comparable" in page.text and "0.668 (0.774)" in page.text and "0.700 (0.760)" in page.text and "0.550 to 0.650" in page.text
    assert "one picture has no diversity" in page.text and "75 %" in page.text
    assert len(page.links) == 3 + 2 * 2 + 2 + 1 + 2, (
        "photos, the evaluation's seeds of tuned and untuned and of the class, a preview, the best"
    )
    assert "loading=" not in text, "pictures that wait to be scrolled to are grey in print"
    assert "samples" not in page.text, "the pictures of the training give way"


def with_prompts(table: dict, *found: tuple[float | None, float | None]) -> dict:
    """Scores with a prompt for each (DINO, CLIP-T), on a scale of untuned DINO 0.2, photos 0.8; CLIP-T chance 0.1, untuned 0.3."""

    def one(dino, clip_t):
        return {name: {"value": value} for name, value in (("dino", dino), ("clip_t", clip_t)) if value is not None}

    table["untuned"] = one(0.2, 0.3) | {"clip_t_chance": {"value": 0.1}}
    table["real_photos"]["without_self_pairs"] = one(0.8, None)
    table["per_prompt"] = [
        {"prompt": f"a [V] dog {row}", "kind": "place", "scores": one(*values), "untuned": one(0.2, 0.3)}
        for row, values in enumerate(found)
    ]
    return table


def test_the_prompts_are_ranked_on_the_verdicts_scales_and_the_weakest_says_in_what():
    table = with_prompts(scores(), (0.5, 0.3), (0.8, 0.28), (0.8, 0.14), (0.68, 0.35))
    assert [prompt.row for prompt in ranked(table)] == [1, 3, 0, 2]
    assert weakest(table) == (2, "of 4 prompts, above all in the prompt: fidelity 100%, follows the prompt 20%.")
    table = with_prompts(scores(), (0.8, 0.3), (0.3, 0.4), (0.7, 0.3))
    assert weakest(table) == (1, "of 3 prompts, above all in the subject: fidelity 17%, follows the prompt 150%.")


def test_no_prompt_is_called_the_weakest_of_two_or_without_a_scale():
    assert weakest(with_prompts(scores(), (0.8, 0.3), (0.3, 0.3))) is None
    table = with_prompts(scores(), (0.8, None), (0.3, None), (0.4, None))
    assert weakest(table) == (1, "of 3 prompts, above all in the subject: fidelity 17%.")
    table["untuned"] = {}
    assert weakest(table) is None and ranked(table) == []


def test_the_best_pictures_stand_beside_the_photos_and_the_weakest_prompt_is_marked(run):
    (run / "scores.json").write_text(json.dumps(with_prompts(scores(), (0.3, 0.3), (0.8, 0.3), (0.7, 0.3), (0.5, 0.3), (0.6, 0.3))))
    for row in range(5):
        for seed in range(2):
            save_png(run / "samples" / "evaluation" / "tuned" / f"{row:02d}-seed{seed}.png", picture(10 * row + seed), {})
    text = report(run).read_text()
    best = re.search(r'<div class="best">(.*?)</div>', text, re.DOTALL)[1]
    shown = re.findall(r'<img src="([^"]+)"', best)
    assert shown == [file_uri(run / f"samples/evaluation/tuned/{row:02d}-seed0.png", LARGE) for row in (1, 2, 4, 3)]
    weak = re.findall(r'<article class="card prompt weak">.*?</article>', text, re.DOTALL)
    assert len(weak) == 1 and "dog 0" in Page(weak[0]).text and "weakest" in Page(weak[0]).text
    order = [text.index(words) for words in ('class="sentence"', "The photos", "The best it draws", ">Scores<", ">Prompt by prompt<")]
    assert order == sorted(order)


def test_a_class_that_has_not_changed_is_a_full_bar(run):
    table = scores()
    table["verdict"]["figures"] = {"collapse": -0.1}
    (run / "scores.json").write_text(json.dumps(table))
    text = report(run).read_text()
    assert 'class="good" style="width: 100%"' in text and "Class kept100 %" in Page(text).text
    table["verdict"]["figures"] = {"collapse": 0.8}
    (run / "scores.json").write_text(json.dumps(table))
    assert 'class="bad" style="width: 20%"' in report(run).read_text()


def test_the_pictures_of_the_training_begin_with_the_untuned_model(run):
    for step in (0, *range(20, 120, 10)):
        save_png(run / "samples" / f"step-{step:06d}" / "00-seed0.png", picture(step), {"prompt": "a sks dog on <grass>"})
    text = report(run).read_text()
    shown = re.findall(r'class="who">(step[^<]*)<', text)
    assert shown[0] == "step 0, untuned" and shown[-1] == "step 110" and len(shown) == 8 and "dog on &lt;grass&gt;" in text


def test_a_click_enlarges_a_picture_and_another_one_puts_it_back(browser, run):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.goto(report(run).as_uri())
    first = page.locator(".zoom img").first
    small = first.bounding_box()
    first.click()
    large = first.bounding_box()
    assert small["width"] < 200 and (large["width"], large["height"]) == (1000, 700)
    page.mouse.click(500, 350)
    assert first.bounding_box() == small


def test_the_toybox_says_so_first_and_once(run):
    table = scores()
    table["subject"]["toybox"] = True
    (run / "scores.json").write_text(json.dumps(table))
    text = Page(report(run).read_text()).text
    assert text.count("say nothing about real models") == 1
    body = text.split("}")[-1]
    assert body.strip().startswith("toybox") and "--pretrained_model_name_or_path" in text


def test_a_run_whose_photos_and_files_are_gone(run):
    (run / "config.yaml").unlink()
    (run / "metrics.jsonl").unlink()
    (run / "samples" / "final" / "00-seed0.png").write_bytes(b"no picture")
    page = Page(report(run).read_text())
    assert not page.open and "The photos" not in page.text and "Curves" not in page.text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(SettingError, match="neither a run nor scores"):
        report(tmp_path)


def test_curves_of_a_run(run):
    found = charts(metric_rows(run))
    assert [c.title.split(" on ")[0] for c in found] == ["Loss per picture", "Fidelity and copying", "Prompt fidelity", "Diversity"]
    assert [name for name, _ in found[1].legend] == ["DINO", "PRES"] and "lower is better" in found[1].legend[1][1]
    assert charts(metric_rows(run / "none")) == []


@pytest.mark.parametrize(("low", "high"), [(0.21, 0.58), (0.3, 0.3), (-1, 1), (0, 1e-9), (1e-4, 2e-4), (0, 4000)])
def test_a_scale_holds_its_values_in_round_steps(low, high):
    bottom, top, ticks = scale(low, high)
    assert bottom <= low + 1e-12 and high <= top + 1e-12 and top > bottom and 2 <= len(ticks) <= 7
    svg = draw([Curve("a", ((0, low), (10, high)))])
    assert "nan" not in svg and svg.startswith("<svg") and svg.endswith("</svg>")


def test_small_pictures_stay_and_large_ones_shrink():
    assert data_uri(Image.new("RGB", (64, 64))).startswith("data:image/png")
    assert (
        data_uri(Image.new("RGB", (2048, 1024), (200, 10, 10))).startswith("data:image/jpeg")
        and len(data_uri(picture(0, (2048, 2048)))) < 60000
    )


def test_the_paper_is_comparable_only_with_its_own_encoders_and_suite():
    names = {"dino": "facebook/dino-vits16 (x)", "clip": "openai/clip-vit-base-patch32 (y)"}
    protocol = {"encoders": names, "prompts": 25, "images_per_prompt": 4}
    assert is_comparable({"protocol": protocol})
    for change in ({"prompts": 8}, {"images_per_prompt": 2}, {"encoders": {**names, "clip": "openai/clip-vit-large-patch14 (y)"}}):
        assert not is_comparable({"protocol": {**protocol, **change}})


def test_a_strip_without_interval_or_value():
    assert strip({"value": None}, 0.2, None) == ""
    assert "bar" not in strip({"value": 0.5, "low": None, "high": None}, None, None)


def test_a_long_curve_is_thinned_and_the_chosen_step_marked():
    points = tuple((float(i), float(i % 7)) for i in range(5 * MOST))
    svg = draw([Curve("a", points, smooth=True)], mark=100)
    lines = re.findall(r'points="([^"]*)"', svg)
    assert [len(line.split()) for line in lines] == [MOST, MOST] and svg.count('class="mark"') == 1
    assert 'class="mark"' not in draw([Curve("a", points)], mark=10 * MOST), "a step that was not reached yet"
    whole = re.findall(r'points="([^"]*)"', draw([Curve("a", points[:5], smooth=True)]))[1]
    assert float(whole.split()[-1].split(",")[1]) == pytest.approx(place_of(3.5), abs=0.06), "a mean at the end is of what there is"


def place_of(value: float) -> float:
    """Where a value between 0 and 4 stands in a chart 178 high that begins at 12."""
    return 12 + (4 - value) / 4 * 178


def test_a_checkpoints_report_counts_its_own_updates(run):
    folder = run / "evaluation" / "checkpoint-3"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(scores()))
    own, whole = (Page(path.read_text()).text for path in (report(folder, run=run), report(run)))
    assert "Steps3Learning rate" in own and "Steps20Learning rate" in whole
