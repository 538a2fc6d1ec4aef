"""A batch as a shop runs it: new rows, changed rows, bad rows, second tries, a killed driver, a customer who leaves."""

import csv
from dataclasses import replace
from functools import partial

import pytest

from dreambooth.bench.batch.config import RemovalConfig
from dreambooth.bench.batch.removal import carry_out, removal
from dreambooth.bench.batch.run import batch
from dreambooth.bench.executors.inline import Inline
from dreambooth.bench.job import Finished
from dreambooth.bench.rows import write_row
from dreambooth.cli import main
from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.files.digests import file_digest, remembered_digest
from dreambooth.setup.runs import find_runs
from tests.bench.batch.conftest import fake_work

RATES = "subject,class,photos,learning_rate"


def index(shop) -> dict[str, dict[str, str]]:
    with (shop.out / "index.csv").open(newline="") as file:
        return {row["subject"]: row for row in csv.DictReader(file)}


def test_every_row_has_a_model_under_its_name_and_a_line_in_the_index(shop):
    shop.write("mug-blue,mug,photos/mug-blue,0.6", "shoe,shoe,photos/shoe,0.9", head=RATES)
    ended = shop.run()
    assert shop.statuses(ended) == {"mug-blue": "finished", "shoe": "finished"}
    line = index(shop)["shoe"]
    assert list(line) == ["subject", "status", "verdict", "path", "sha256", "minutes", "reason"]
    assert line["path"] == "by-subject/shoe/pytorch_lora_weights.safetensors" and line["sha256"] == file_digest(shop.out / line["path"])
    assert (line["verdict"], line["minutes"]) == ("good", "1.5")
    assert {run.name for run in find_runs(shop.out, depth=2).runs} == {"by-subject/mug-blue", "by-subject/shoe"}
    assert list((shop.out / "jobs").iterdir()) == [] and "shoe" in (shop.out / "index.html").read_text()


def test_started_again_only_what_is_new_or_changed_is_done(shop):
    shop.write("mug-blue,mug,photos/mug-blue,0.6", "shoe,shoe,photos/shoe,0.9", head=RATES)
    shop.run()
    assert shop.done() == ["mug-blue first", "shoe first"]
    shop.run()
    assert shop.done() == []
    shop.write("shoe,shoe,photos/shoe,0.9", "mug-blue,mug,photos/mug-blue,0.7", "mug-red,mug,photos/mug-red,", head=RATES)
    shop.run()
    assert sorted(shop.done()) == ["mug-blue first", "mug-red first"]
    (shop.root / "photos" / "shoe" / "0.png").write_bytes((shop.root / "photos" / "shoe" / "1.png").read_bytes())
    shop.run(keep="everything")  # what is kept decides nothing
    assert shop.done() == ["shoe first"]
    assert len(list((shop.out / "rows").iterdir())) == 3


def test_a_model_that_somebody_has_deleted_is_made_again(shop):
    shop.write("mug-blue,mug,photos/mug-blue", "shoe,shoe,photos/shoe")
    shop.run()
    (shop.out / "by-subject" / "shoe" / "run.json").unlink()
    shop.done()
    shop.run()
    assert shop.done() == ["shoe first"] and (shop.out / "by-subject" / "shoe" / "run.json").is_file()


@pytest.mark.parametrize("what", ["no model", "a row that cannot be read"])
def test_work_that_leaves_nothing_of_use_fails_and_is_not_done_for_ever(shop, what):
    """A row with an interval of None was taken for none, and its training begun again and again."""
    shop.write("shoe,shoe,photos/shoe", "mug-red,mug,photos/mug-red")

    def useless(job, stop):
        row = yield from fake_work(job, stop)
        if job.subject != "shoe":
            return row
        if what == "no model":
            (shop.out / "jobs" / job.key / "run" / "run.json").unlink()
            return row
        return replace(row, scores={"dino": {"value": 0.5, "low": None}})

    ended = shop.run(work=useless)
    assert shop.statuses(ended) == {"shoe": "failed", "mug-red": "finished"} and shop.done().count("shoe first") == 1


def test_what_is_not_accepted_is_learned_once_more_with_other_settings_and_then_needs_a_person(shop):
    shop.write("mug-blue,mug,photos/mug-blue,0.8", "mug-red,mug,photos/mug-red,0.4", "shoe,shoe,photos/shoe,0.1", head=RATES)
    ended = shop.run(accept="verdict == good", retry=("learning_rate=x1.5",))
    assert shop.statuses(ended) == {"mug-blue": "accepted", "mug-red": "accepted", "shoe": "needs a person"}
    assert sorted(shop.done()) == ["mug-blue first", "mug-red first", "mug-red second", "shoe first", "shoe second"]
    assert (shop.out / "by-subject" / "mug-red" / "pytorch_lora_weights.safetensors").read_text() == "mug-red second"
    assert index(shop)["mug-red"]["minutes"] == "3.0" and "undertrained" in index(shop)["shoe"]["reason"]
    shop.run(accept="verdict == good", retry=("learning_rate=x1.5",))
    assert shop.done() == []


def test_another_rule_judges_anew_and_trains_nothing(shop):
    shop.write("mug-blue,mug,photos/mug-blue,0.8", "shoe,shoe,photos/shoe,0.4", head=RATES)
    shop.run()
    shop.done()
    assert shop.statuses(shop.run(accept="fidelity > 0.5")) == {"mug-blue": "accepted", "shoe": "needs a person"}
    assert shop.statuses(shop.run(accept="fidelity > 0.3")) == {"mug-blue": "accepted", "shoe": "accepted"}
    assert shop.done() == []


def test_a_second_try_that_fails_leaves_the_first_result_for_a_person(shop):
    shop.write("shoe,shoe,photos/shoe,0.4", head=RATES)
    ended = shop.run(accept="verdict == good", retry=("rank=13",))
    assert ended.entries[0].status == "needs a person" and "no longer finite" in ended.entries[0].reason
    assert (shop.out / "by-subject" / "shoe" / "pytorch_lora_weights.safetensors").read_text() == "shoe first"


@pytest.mark.parametrize("first, second, kept", [("0.4", "0.45", "second"), ("0.4", "0.2", "first")])
def test_of_two_results_that_are_not_accepted_the_one_nearer_to_the_photos_stays(shop, first, second, kept):
    shop.write(f"shoe,shoe,photos/shoe,{first}", head=RATES)
    shop.run(accept="verdict == good", retry=(f"learning_rate={second}",))
    assert (shop.out / "by-subject" / "shoe" / "pytorch_lora_weights.safetensors").read_text() == f"shoe {kept}"


def test_a_rule_over_a_score_that_was_not_made_names_it_and_trains_nothing_twice(shop):
    shop.write("mug-blue,mug,photos/mug-blue,0.8", "shoe,shoe,photos/shoe,0.4", head=RATES)
    ended = shop.run(accept="div > 0.1 or dino > 0.5", retry=("learning_rate=0.9",))
    assert shop.statuses(ended) == {"mug-blue": "needs a person", "shoe": "needs a person"}
    assert "div" in ended.entries[0].reason and "LPIPS is not there" in ended.entries[0].reason
    assert sorted(shop.done()) == ["mug-blue first", "shoe first"]


BAD = {
    "a doubled name": (["mug-red,mug,photos/mug-red", "Mug-Red,mug,photos/shoe"], ["mug-red", "Mug-Red"]),
    "no name of a file": (["a/b,mug,photos/mug-red", "..,mug,photos/shoe", "nul,mug,photos/shoe", "x:y,mug,photos/shoe"], ["a/b", ".."]),
    "no photos": (["mug-red,mug,photos/nowhere"], ["mug-red"]),
    "no class": (["mug-red,,photos/mug-red"], ["mug-red"]),
    "no name": ([",mug,photos/mug-red"], [""]),
    "a path that is none": ([f"mug-red,mug,{'x' * 4000}"], ["mug-red"]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_that_rows_trouble_alone(shop, what):
    rows, names = BAD[what]
    shop.write("mug-blue,mug,photos/mug-blue", *rows, "shoe,shoe,photos/shoe")
    ended = shop.run()
    failed = {entry.subject: entry.reason for entry in ended.entries if entry.status == "failed"}
    assert set(names) <= failed.keys() and len(failed) == len(rows) and all("line " in reason for reason in failed.values())
    assert sorted(shop.done()) == ["mug-blue first", "shoe first"]
    assert index(shop)["shoe"]["status"] == "finished" and len(ended.entries) == len(rows) + 2
    assert not (shop.root / "b").exists() and sorted(p.name for p in (shop.out / "by-subject").iterdir()) == ["mug-blue", "shoe"]


def test_a_row_that_always_fails_does_not_stop_the_others_and_is_tried_again_at_the_next_start(shop):
    shop.write("mug-blue,mug,photos/mug-blue,13", "shoe,shoe,photos/shoe,4", head="subject,class,photos,rank")
    ended = shop.run()
    assert shop.statuses(ended) == {"mug-blue": "failed", "shoe": "finished"} and "no longer finite" in ended.entries[0].reason
    shop.done()
    shop.run()
    assert shop.done() == ["mug-blue first"]


@pytest.mark.parametrize("cell", ["rank,0", "max_train_steps,many", "trust_code,yes", "method,nobody.knows:This", "allow_pickle,1"])
def test_a_bad_setting_of_a_row_is_that_rows_trouble_alone(shop, cell):
    column, value = cell.split(",")
    shop.write(f"mug-blue,mug,photos/mug-blue,{value}", "shoe,shoe,photos/shoe,", head=f"subject,class,photos,{column}")
    ended = shop.run()
    assert shop.statuses(ended) == {"mug-blue": "failed", "shoe": "finished"} and column in ended.entries[0].reason


@pytest.mark.parametrize(
    "head, rows",
    [
        ("subject,photos", ["a,b"]), ("subject,class,foto", ["a,b,c"]), ("subject,class,output_dir", ["a,b,c"]), ("subject,class", []),
        ("subject,class,class", ["a,b,c"]), ("subject,class", ["a,b,c"]), ("subject,class,instance_data_dir", ["a,b,c"]),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused_before_anything_is_written(shop, head, rows):
    shop.write(*rows, head=head)
    with pytest.raises(SettingError):
        shop.run()
    assert not shop.out.exists()


def test_a_table_that_changes_while_it_is_done_is_named_at_the_end(shop):
    shop.write("mug-blue,mug,photos/mug-blue", "shoe,shoe,photos/shoe")

    def changing(job, stop):
        shop.write("mug-blue,mug,photos/mug-blue", "shoe,boot,photos/shoe", "mug-red,mug,photos/mug-red")
        return (yield from fake_work(job, stop))

    ended = shop.run(work=changing)
    assert ended.changed == ("shoe", "mug-red") and shop.statuses(ended) == {"mug-blue": "finished", "shoe": "finished"}
    shop.done()
    shop.run()
    assert sorted(shop.done()) == ["mug-red first", "shoe first"]


def test_a_driver_that_is_killed_after_a_row_was_written_does_nothing_twice(shop):
    """The worker has written the row and its run lies in the job's folder; nobody has given it its place."""
    shop.write("mug-blue,mug,photos/mug-blue", "shoe,shoe,photos/shoe")
    request = shop.request()
    from dreambooth.bench.batch.run import Turn

    jobs = Turn(request).jobs()
    event = list(Inline().run([next(jobs)], fake_work, partial(write_row, shop.out)))[-1]
    assert isinstance(event, Finished) and not (shop.out / "by-subject").exists()
    shop.done()
    ended = shop.run()
    assert shop.done() == ["shoe first"] and shop.statuses(ended) == {"mug-blue": "finished", "shoe": "finished"}
    assert (shop.out / "by-subject" / "mug-blue" / "run.json").is_file()


def test_stopped_it_says_how_far_it_is_and_goes_on_from_there(shop):
    shop.write("mug-blue,mug,photos/mug-blue", "shoe,shoe,photos/shoe")
    with pytest.raises(Interrupted):
        list(batch(shop.request(), work=fake_work, stop=lambda: "mug-blue first" in (shop.root / "done.txt").read_text()
                   if (shop.root / "done.txt").exists() else False))  # fmt: skip
    assert index(shop)["shoe"]["status"] == "waiting"
    shop.done()
    assert set(shop.statuses(shop.run()).values()) == {"finished"}


def test_stopped_at_once_the_index_still_says_what_is_there(shop):
    """Every start began with an index on which all rows were waiting."""
    shop.write("mug-blue,mug,photos/mug-blue,0.6", "shoe,shoe,photos/shoe,0.9", head=RATES)
    shop.run()
    shop.write("shoe,shoe,photos/shoe,0.7", "mug-blue,mug,photos/mug-blue,0.6", "mug-red,mug,photos/mug-red,", head=RATES)
    with pytest.raises(Interrupted):
        list(batch(shop.request(), work=fake_work, stop=lambda: True))
    found = {name: row["status"] for name, row in index(shop).items()}
    assert found == {"shoe": "waiting", "mug-blue": "finished", "mug-red": "waiting"}


def test_a_customer_is_removed_with_photos_row_pictures_and_digests_and_nobody_else(shop, tmp_path):
    shop.write("mug-blue,mug,photos/mug-blue", "shoe,shoe,photos/shoe")
    shop.run()
    photos = shop.root / "photos" / "shoe"
    (photos / "0.txt").write_text("a caption")
    (photos / "contract.pdf").write_text("%PDF")
    big = shop.out / "by-subject" / "shoe" / "big.safetensors"
    big.write_bytes(bytes(2**20))
    remembered_digest(big)
    notes = tmp_path / "cache" / "digests"
    assert any("by-subject/shoe" in note.read_text() for note in notes.iterdir())
    carry_out(removal(RemovalConfig(subject="shoe", output_dir=str(shop.out))))
    assert [path.name for path in photos.iterdir()] == ["contract.pdf"]
    assert not any("by-subject/shoe" in note.read_text() for note in notes.iterdir())
    left = [path for path in shop.out.rglob("*") if path.is_file() and "shoe" in path.name + path.read_text(errors="replace")]
    assert left == [] and list(index(shop)) == ["mug-blue"] and len(list((shop.out / "rows").iterdir())) == 1


def test_photos_of_two_subjects_stay_when_one_of_them_is_removed(shop):
    shop.write("mug-blue,mug,photos/shoe", "shoe,shoe,photos/shoe")
    shop.run()
    wanted = removal(RemovalConfig(subject="shoe", output_dir=str(shop.out)))
    assert wanted.photos == () and wanted.shared_with == ("mug-blue",)
    carry_out(wanted)
    assert (shop.root / "photos" / "shoe" / "0.png").is_file() and not (shop.out / "by-subject" / "shoe").exists()


@pytest.mark.parametrize("name", ["sho", "..", "../out", "nobody"])
def test_a_name_that_no_subject_has_removes_nothing(shop, name):
    shop.write("shoe,shoe,photos/shoe")
    shop.run()
    assert main(["batch", "remove", name, "--output_dir", str(shop.out), "--yes"]) == 2
    assert (shop.out / "by-subject" / "shoe" / "run.json").is_file()


def test_a_folder_under_a_subjects_name_that_no_batch_has_made_is_not_replaced(shop):
    shop.write("shoe,shoe,photos/shoe")
    (shop.out / "by-subject" / "shoe").mkdir(parents=True)
    (shop.out / "by-subject" / "shoe" / "mine.txt").write_text("mine")
    assert shop.statuses(shop.run()) == {"shoe": "failed"} and (shop.out / "by-subject" / "shoe" / "mine.txt").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["--accept", "fidelty > 0.5"], ["--accept", "dino > 1", "--no-evaluate"], ["--retry", "rank=8"],
        ["--accept", "dino > 1", "--retry", "rnak=8"], ["--accept", "dino > 1", "--retry", "output_dir=x"], ["--class_noun", "mug"],
        ["--keep", "scores"], ["--instance_data_dir", "x"],
    ],
)  # fmt: skip
def test_a_request_that_is_wrong_as_a_whole_ends_with_2_and_nothing_written(shop, words, capsys):
    shop.write("shoe,shoe,photos/shoe")
    assert main(["batch", str(shop.table), "--output_dir", str(shop.out), *words]) == 2
    assert "Traceback" not in capsys.readouterr().err and not shop.out.exists()
