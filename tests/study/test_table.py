"""From two arms to questionnaires to a table: blinded, counted as the paper counts, and refused where answers do not fit."""

import base64
import csv
import io
import json
import random
import re
from collections import Counter

import pytest
from PIL import Image

from dreambooth.bench.tables.statistics import binomial
from dreambooth.core.errors import SettingError
from dreambooth.study import StudyTable, table
from tests.bench.made_up import NOUNS, OFF, ON
from tests.metrics import encoders
from tests.study.asked import answer, bench_folder, data_of, key_of, made, save, tally


@pytest.fixture
def bench(tmp_path):
    return bench_folder(tmp_path / "bench")


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


def test_a_study_that_cannot_be_made_leaves_no_folder_and_goes_into_no_photos(bench):
    photos = bench / "shared" / "photos" / next(iter(NOUNS))
    with pytest.raises(SettingError, match=r"output_dir.*the photos"):
        made(bench, output_dir=photos / "study")
    assert [path.name for path in photos.iterdir()] == ["0.png"]
    (photos / "0.png").write_bytes((photos / "0.png").read_bytes()[:200])
    with pytest.raises(SettingError, match=r"0\.png"):
        made(bench, output_dir=bench.parent / "deep" / "study")
    assert not (bench.parent / "deep").exists()


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
    assert (identity.pairs, identity.votes, identity.left_out) == (30, 90, 0) and identity.p == 2 / 2**6 and identity.subjects == 6
    text = found.paths[0].read_text()
    assert "| with prior preservation | **100%** [89%, 100%] | 0% [0%, 11%] |" in text
    lines = [line.strip("*") for line in text.splitlines() if line]
    assert lines[0] == lines[-1] and lines[0].startswith("toybox") and "on another model" in text
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


def test_two_opposite_clickers_do_not_hide_each_other(bench):
    study = made(bench)
    sides = {"ann": "A", "bob": "B"}
    found = tally(study, answer(study, bench / "in", lambda rater, c: [c[sides[rater]] if rater in sides else "first"] * 2))
    raters = {line[0].text: [entry.text for entry in line] for line in found.document.sections[1].lines}
    assert [raters[name][3] for name in ("ann", "bob")] == ["100%", "0%"] and raters["cid"][3] == "50%"
    assert raters["ann"][5] == "25%" and raters["cid"][5] == "50%"


def test_a_preference_that_half_of_the_subjects_share_is_none(bench):
    """Most of the decided pairs are for the first, which a test that takes pairs as independent would call a preference."""
    study = made(bench)
    fond = sorted({c["subject"] for c in key_of(study)["comparisons"]})[:3]
    votes = answer(study, bench / "in", lambda rater, c: ["first" if c["subject"] in fond or c["A"] == "first" else "second"] * 2)
    identity = tally(study, votes).questions[0]
    assert binomial(identity.shares["first"].count, 30) < 0.05 < identity.p


def test_an_arm_of_a_study_is_what_the_table_of_its_plan_calls_so(bench):
    """The rows say what the first plan called them; another plan's table calls the same jobs otherwise."""
    keys = {arm: [p.stem for p in (bench / "rows").glob(f"{arm}-*")] for arm in (ON, OFF)}
    (bench / "tables" / "table4").mkdir(parents=True)
    (bench / "tables" / "table4" / "arms.json").write_text(json.dumps({"correct noun": keys[ON], "other": keys[OFF][:2]}))
    assert made(bench, first=f"{bench}:correct noun", second=f"{bench}:table4/other", comparisons=5).pairs == 10
    with pytest.raises(SettingError, match="the bench has no such arm"):
        made(bench, output_dir=bench / "s", first=f"{bench}:{ON}")


def test_an_arm_may_hold_colons_and_slashes_and_half_written_rows_are_none(bench):
    keys = {arm: [p.stem for p in (bench / "rows").glob(f"{arm}-*")] for arm in (ON, OFF)}
    (bench / "tables" / "table5").mkdir(parents=True)
    (bench / "tables" / "table5" / "arms.json").write_text(json.dumps({"photos: 1": keys[ON], "w/o prior": keys[OFF]}))
    (bench / "rows" / ".partial-1.json").write_text("{")
    key = key_of(made(bench, first=f"{bench}:table5/photos: 1", second=f"{bench}:w/o prior"))
    assert (key["first"], key["second"]) == ("photos: 1", "w/o prior")
    with pytest.raises(SettingError, match=r"one of photos: 1, w/o prior"):
        made(bench, first=str(bench), output_dir=bench / "s")


def test_photos_of_one_subject_are_never_shown_for_another(bench):
    with pytest.raises(SettingError, match=r"holds no folder \w+, and there are several subjects"):
        made(bench, photos=str(bench / "shared" / "photos" / "bob"))


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
    output = json.loads((folder / "1-ann.json").read_text())
    with (folder / "1-ann.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "questionnaire", "rater", "comparison", "identity", "prompt", "seconds"])
        for name, given in output["answers"].items():
            writer.writerow([output["study"], 1, "ann", name, given["identity"], given["prompt"], 2])
    assert tally(study, folder).questions == before


def spoil(output: dict, what: str) -> None:
    first = next(iter(output["answers"]))
    if what == "study":
        output["study"] = "another"
    elif what == "comparison":
        output["answers"]["q99-01"] = output["answers"][first]
    elif what == "choice":
        output["answers"][first]["identity"] = "C"
    elif what == "twice":
        output["answers"][first]["identity"] = "equal"


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
    output = json.loads((folder / "1-ann.json").read_text())
    spoil(output, what)
    (folder / "2-again.json").write_text(json.dumps(output))
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
        ({"num_questionnaires": 4}, "4 of 10 pairs need 40; there are 36"),
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


def with_second_photos(bench):
    for place, folder in enumerate(sorted((bench / "shared" / "photos").iterdir())):
        save(folder / "1.png", encoders.picture(950 + place, (120, 200)), "")
    return bench


def test_a_trick_question_shows_a_photo_of_the_subject_beside_another_class_and_changes_no_pair(bench):
    plain, tricky = made(bench), made(with_second_photos(bench), trick_questions=2, output_dir=bench.parent / "tricky")
    key, nouns = key_of(tricky), NOUNS
    assert tricky.trick_questions == 6 == len(key["controls"]) and "controls" not in "".join(p.read_text() for p in tricky.questionnaires)
    shown = {one["id"]: one for path in tricky.questionnaires for one in data_of(path)["comparisons"]}
    assert set(shown) == {one["id"] for one in key["comparisons"] + key["controls"]} and len(shown) == 36
    for one in key["controls"]:
        assert one["photo"] != one["real"] and f"/{one['subject']}/" in one["photo"] and f"/{one['subject']}/" in one["real"]
        other = next(subject for subject in nouns if f"-{subject}-" in one["wrong"] or f"/{subject}-" in one["wrong"])
        assert nouns[other] != nouns[one["subject"]] and nouns[one["subject"]] in one["prompt"]
        sizes = {size_of(shown[one["id"]][side]) for side in "AB"}
        assert len(sizes) == 1, "the photo has the picture's size"
    without = [[(c["subject"], c["prompt"], c["seed"], c["A"]) for c in key_of(study)["comparisons"]] for study in (plain, tricky)]
    assert without[0] == without[1]


def size_of(uri: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return image.size


def test_who_misses_trick_questions_is_seen_and_left_out_on_request(bench):
    study, folder = made(with_second_photos(bench), trick_questions=1), bench / "in"
    answer(study, folder, lambda rater, c: ("second" if rater == "bob" else "first", "first"))
    right = {one["id"]: one["answer"] for one in key_of(study)["controls"]}
    for path in folder.iterdir():
        output = json.loads(path.read_text())
        for name, side in right.items():
            if name.startswith(f"q{output['questionnaire']:02d}-"):
                output["answers"][name] = {"identity": "equal" if output["rater"] == "bob" else side, "prompt": "A", "seconds": 1}
        path.write_text(json.dumps(output))
    all_in, without = tally(study, folder), tally(study, folder, max_missed=0)
    raters = {line[0].text: line for line in without.document.sections[1].lines}
    assert [raters[name][-1].text for name in ("ann", "bob", "cid")] == ["3 of 3", "0 of 3", "3 of 3"]
    assert [raters[name][0].more for name in ("ann", "bob", "cid")] == ["", "left out", ""]
    assert all_in.questions[0].votes == 90 and without.questions[0].votes == 60, "and a trick's answers count in neither"
    assert (all_in.questions[0].agreement, without.questions[0].agreement) == (pytest.approx(1 / 3), 1.0)
    assert "more than 0 trick questions answered wrongly: bob" in (study.key.parent / "table.md").read_text()


def test_trick_questions_that_cannot_be_asked_are_refused(bench, tmp_path):
    with pytest.raises(SettingError, match=r"--trick_questions.*two photos of a subject"):
        made(bench, trick_questions=1, output_dir=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    study = made(bench)
    with pytest.raises(SettingError, match="nobody has answered a trick question"):
        tally(study, answer(study, bench / "in", lambda rater, c: ("first", "first")), max_missed=0)
