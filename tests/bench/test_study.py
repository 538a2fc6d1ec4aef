"""From two arms to questionnaires to a table; blinded, offline, and answered in a real browser."""

import base64
import csv
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth.bench.study import StudyMake, StudyTable, make, table
from dreambooth.cli import main as command_line
from dreambooth.cli.study import main
from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig, evaluate
from dreambooth.stream import train
from tests.bench.made_up import NOUNS, OFF, ON, row
from tests.metrics import eyes
from tests.training.runs import config

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def bench(tmp_path):
    """A bench's folder: five subjects, two arms, three prompts of two pictures each, which say in their PNGs who made them."""
    root = tmp_path / "bench"
    (root / "rows").mkdir(parents=True)
    for place, (subject, noun) in enumerate(NOUNS.items()):
        save(root / "shared" / "photos" / subject / "0.png", eyes.picture(900 + place, (200, 120)), "")
        for arm in (ON, OFF):
            one = row(arm, subject, 0, dino=0.5)
            pictures = {}
            for number, words in enumerate(("on the beach", "in <b>snow</b>", "on grass")):
                names = [f"jobs/{one.key}/pictures/{number:02d}-seed{seed}.png".replace(" ", "-") for seed in range(2)]
                for seed, name in enumerate(names):
                    size = (96, 96) if arm == ON else (64, 64)
                    save(root / name, eyes.picture(place * 50 + number * 4 + seed + (arm == ON) * 500, size), arm)
                pictures[f"a [V] {noun} {words}"] = names
            (root / "rows" / f"{one.key}.json").write_text(json.dumps({**one.plain(), "pictures": pictures}))
    return root


def save(path: Path, image: Image.Image, model: str) -> None:
    """A PNG that says who made it, as the bench's do."""
    notes = PngInfo()
    notes.add_text("dreambooth", json.dumps({"model": model}))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, pnginfo=notes)


def made(bench, **changed):
    given = {"first": f"{bench}:{ON}", "second": f"{bench}:{OFF}", "output_dir": bench.parent / "study", "comparisons": 10}
    return make(StudyMake.parse({name: str(value) for name, value in {**given, **changed}.items()}))


def key_of(study) -> dict:
    return json.loads(study.key.read_text())


def data_of(path) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.S)[1])


def answer(study, folder, votes, *, raters=("ann", "bob", "cid"), questionnaires=(1, 2, 3)):
    """Files of answers: `votes(rater, comparison of the key)` says identity and prompt as first, second or equal."""
    key = key_of(study)
    for number in questionnaires:
        for rater in raters:
            answers = {}
            for comparison in key["comparisons"]:
                if comparison["id"].startswith(f"q{number:02d}-"):
                    side = {comparison["A"]: "A", comparison["B"]: "B", "equal": "equal", "": ""}
                    identity, prompt = votes(rater, comparison)
                    answers[comparison["id"]] = {"identity": side[identity], "prompt": side[prompt], "seconds": 1}
            told = {"study": key["study"], "questionnaire": number, "rater": rater, "answers": answers}
            folder.mkdir(exist_ok=True)
            (folder / f"{number}-{rater}.json").write_text(json.dumps(told))
    return folder


def tally(study, folder, **changed):
    return table(StudyTable.parse({"study": str(study.key.parent), "answers": [str(folder)], **changed}))


def test_pairs_are_equal_in_subject_prompt_and_seed_and_asked_once(bench):
    study = made(bench)
    key = key_of(study)
    assert study.pairs == 30 and len(study.questionnaires) == 3
    asked = [(c["subject"], c["prompt"], c["seed"]) for c in key["comparisons"]]
    assert len(set(asked)) == 30 and {c["A"] for c in key["comparisons"]} == {"first", "second"}
    assert all({c["A"], c["B"]} == {"first", "second"} for c in key["comparisons"])
    for number in (1, 2, 3):
        own = [c for c in key["comparisons"] if c["id"].startswith(f"q{number:02d}-")]
        assert Counter(c["A"] for c in own) == {"first": 5, "second": 5}, "each side is the left one as often"


def test_a_seed_decides_everything(bench):
    sides = [
        [
            (c["A"], c["subject"], c["prompt"], c["seed"])
            for c in key_of(made(bench, seed=seed, output_dir=bench.parent / f"s{n}"))["comparisons"]
        ]
        for n, seed in enumerate((1, 1, 2))
    ]
    assert sides[0] == sides[1] != sides[2]


def test_the_key_says_truly_which_picture_is_which(bench):
    study = made(bench)
    rows = {(r["arm"], r["subject"]): r for r in map(json.loads, (p.read_text() for p in (bench / "rows").iterdir()))}
    shown = {one["id"]: one for path in study.questionnaires for one in data_of(path)["comparisons"]}
    for comparison in key_of(study)["comparisons"]:
        for side in ("A", "B"):
            arm = {"first": ON, "second": OFF}[comparison[side]]
            with Image.open(bench / rows[arm, comparison["subject"]]["pictures"][comparison["prompt"]][comparison["seed"]]) as image:
                wanted = image.convert("RGB")
                wanted.thumbnail((64, 64), Image.Resampling.LANCZOS)
            bytes_ = base64.b64decode(shown[comparison["id"]][side].partition(",")[2])
            (bench / "seen.png").write_bytes(bytes_)
            with Image.open(bench / "seen.png") as seen:
                assert seen.convert("RGB").tobytes() == wanted.tobytes(), "and the larger arm's pictures are as small as the other's"


def test_a_questionnaire_does_not_tell_where_its_pictures_come_from(bench):
    for path in made(bench).questionnaires:
        text = path.read_text()
        for word in (ON, '"first"', '"second"', "[V]", str(bench), "seed1", "prior"):
            assert word not in text, word
        for one in data_of(path)["comparisons"]:
            for side in ("A", "B"):
                assert b"model" not in base64.b64decode(one[side].partition(",")[2]), "no notes inside the picture"
        assert not re.findall(r'(?:src|href)="(?!data:)[^"]+"', text) and "http" not in re.sub(r"http-equiv", "", text)


def test_shares_are_those_of_the_majority(bench):
    """All raters name the first for its subject; for the prompt two of three name the second, one says equal."""
    study = made(bench)
    found = tally(study, answer(study, bench / "in", lambda rater, c: ("first", "equal" if rater == "ann" else "second")))
    identity, prompt = found.questions
    assert identity.shares["first"].value == 1.0 and identity.alpha is None and identity.agreement == 1.0 and identity.side_a == 0.5
    assert prompt.shares["second"].value == 1.0 and prompt.shares["undecided"].value == 0.0 and prompt.agreement == pytest.approx(1 / 3)
    assert (identity.pairs, identity.votes, identity.left_out) == (30, 90, 0) and identity.p < 1e-8
    text = found.paths[0].read_text()
    assert "| with prior preservation | **100%** [89%, 100%] | 0% [0%, 11%] |" in text
    lines = [line.strip("*") for line in text.splitlines() if line]
    assert lines[0] == lines[-1] and lines[0].startswith("toybox") and "other model, not comparable" in text
    rows = list(csv.DictReader(found.paths[1].open()))
    assert [(r["question"], r["choice"], r["count"]) for r in rows][:3] == [
        ("identity", "first", "30"), ("identity", "second", "0"), ("identity", "undecided", "0"),
    ]  # fmt: skip


def test_raters_who_guess_prefer_nobody(bench):
    study, rng = made(bench), random.Random(0)
    found = tally(
        study, answer(study, bench / "in", lambda rater, c: (rng.choice(["first", "second"]), rng.choice(["first", "second", "equal"])))
    )
    assert not any(entry.strong for line in found.document.sections[0].lines for entry in line)
    assert all(q.shares["first"].low < 0.5 < q.shares["first"].high and abs(q.alpha) < 0.25 for q in found.questions[:1])


def test_raters_who_always_choose_the_left_are_seen_and_decide_nothing(bench):
    study = made(bench)
    found = tally(study, answer(study, bench / "in", lambda rater, c: (c["A"], c["A"])))
    assert found.questions[0].side_a == 1.0 and found.questions[0].shares["first"].value == 0.5


def test_missing_raters_and_split_votes_are_counted(bench):
    study, folder = made(bench), bench / "in"
    answer(study, folder, lambda rater, c: ("first", "first"), raters=("ann",), questionnaires=(1, 2))
    answer(study, folder, lambda rater, c: ("second", "" if c["seed"] else "first"), raters=("bob",), questionnaires=(1,))
    identity, prompt = tally(study, folder).questions
    assert (identity.pairs, identity.left_out) == (10, 20) and identity.shares["undecided"].value == 1.0
    assert prompt.pairs == sum(c["seed"] == 0 for c in key_of(study)["comparisons"] if c["id"].startswith("q01"))
    assert tally(study, folder, min_raters=1).questions[0].pairs == 20
    with pytest.raises(SettingError, match="no pair has 3 answers"):
        tally(study, folder, min_raters=3)


def test_the_same_answers_in_both_formats_count_once(bench):
    study = made(bench)
    folder = answer(study, bench / "in", lambda rater, c: ("first", "second"))
    before = tally(study, folder).questions
    told = json.loads((folder / "1-ann.json").read_text())
    with (folder / "1-ann.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "questionnaire", "rater", "comparison", "identity", "prompt", "seconds"])
        for name, given in told["answers"].items():
            writer.writerow([told["study"], 1, "ann", name, given["identity"], given["prompt"], 2])
    assert tally(study, folder).questions == before


def spoil(told: dict, what: str) -> None:
    first = next(iter(told["answers"]))
    if what == "study":
        told["study"] = "another"
    elif what == "comparison":
        told["answers"]["q99-01"] = told["answers"][first]
    elif what == "choice":
        told["answers"][first]["identity"] = "C"
    elif what == "twice":
        told["answers"][first]["identity"] = "equal"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("study", "answers study another"),
        ("comparison", "which the study does not hold"),
        ("choice", "'C' is no answer"),
        ("twice", "says something else"),
    ],
)
def test_answers_that_do_not_fit_are_refused_by_file(bench, what, words):
    study = made(bench)
    folder = answer(study, bench / "in", lambda rater, c: ("first", "second"))
    told = json.loads((folder / "1-ann.json").read_text())
    spoil(told, what)
    (folder / "2-again.json").write_text(json.dumps(told))
    with pytest.raises(SettingError, match=f"2-again.json.*{words}"):
        tally(study, folder)


def test_bad_requests_are_answered_in_a_sentence(bench, tmp_path):
    study = made(bench)
    twice = json.loads(next((bench / "rows").glob(f"{OFF}-ann*")).read_text())
    (bench / "rows" / "other.json").write_text(json.dumps({**twice, "arm": "twice"}))
    (bench / "rows" / "another.json").write_text(json.dumps({**twice, "arm": "twice", "key": "another"}))
    for changed, words in (
        ({"second": f"{bench}:twice"}, "two results of ann, seed 0"),
        ({"first": str(bench)}, "which of its arms"),
        ({"first": f"{bench}:with prior preservatoin"}, "Did you mean with prior preservation"),
        ({"first": str(tmp_path / "absent")}, "no such folder"),
        ({"num_questionnaires": 4}, "4 of 10 pairs need 40; there are 30"),
        ({"output_dir": study.key.parent}, "holds a study already"),
    ):
        with pytest.raises(SettingError, match=words):
            made(bench, **{"output_dir": tmp_path / "other", **changed})
    assert not (tmp_path / "other").exists()
    for answers, words in (
        ((), "is needed"),
        ((str(tmp_path / "absent.json"),), "no such file"),
        ((str(study.key),), "no file of answers"),
    ):
        with pytest.raises(SettingError, match=words):
            table(StudyTable(study=str(study.key.parent), answers=answers))


def test_two_evaluated_runs_become_a_study(pipelines, photos, tmp_path, capsys):
    """The real thing, tiny: train, evaluate twice, and ask."""
    folders = {
        name: str(folder)
        for name, folder in (("dino_encoder", eyes.dino_folder(tmp_path / "dino")), ("clip_encoder", eyes.clip_folder(tmp_path / "clip")))
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


def test_a_person_answers_in_a_browser_and_the_table_holds_it(bench, tmp_path, capsys):
    """Keyboard and mouse, back and forth, a reload in the middle, both downloads; nothing leaves the page."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if not CHROMIUM.exists():
        pytest.skip("there is no /usr/bin/chromium")
    study = made(bench, num_questionnaires=1, comparisons=4)
    key = {c["id"]: c for c in key_of(study)["comparisons"]}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        told, asked = [], []
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("console", lambda message: told.append(message.text))
        page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto(study.questionnaires[0].as_uri())
        page.fill("#rater", 'Zoë "Z"')
        page.click("text=Start")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "fits a phone"
        assert page.is_disabled("#next") and page.inner_text("#told") == "1 of 4"
        page.keyboard.press("1")
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        page.click("#identity label:has-text('B')")
        page.reload()
        assert page.inner_text("#told") == "2 of 4" and page.is_checked("#identity input[value=B]", timeout=2000)
        page.keyboard.press("2")
        page.keyboard.press("Backspace")
        assert page.inner_text("#told") == "1 of 4" and page.is_checked("#identity input[value=A]")
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
        browser.close()
    assert not told and not asked
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
