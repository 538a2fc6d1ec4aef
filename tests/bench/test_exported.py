"""`bench --export_pictures`: every picture in full size in a folder of its subject, with the scores of each prompt."""

import csv
import shutil

import pytest
from PIL import Image

from dreambooth.bench.run import Ended, bench
from dreambooth.core.errors import SettingError
from dreambooth.files.images import read_settings

ONE = {"tuned": {"settings": {"method": "lora"}}}


def ended(request):
    return next(record for record in bench(request) if isinstance(record, Ended))


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_subject_has_its_folder_of_prompts_and_pictures_and_both_lists_name_all(ask, tmp_path):
    out = tmp_path / "pictures"
    found = ended(ask({**ONE, "as it was": {"model": "untuned"}}, export_pictures=str(out)))
    assert not found.failures and not found.remarks
    for arm in ("tuned", "as it was"):
        for subject in ("dog7", "toy1"):
            place = out / arm / "seed-0" / subject
            assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.png")) == [
                f"{prompt:02d}/{number:02d}.png" for prompt in range(2) for number in range(2)
            ]
            with Image.open(place / "00" / "00.png") as image:
                assert image.size == (16, 16)
            assert read_settings(place / "01" / "00.png")["subject"] == subject
    lines = table(out / "prompts.csv")
    assert len(lines) == 2 * 2 * 2 and {line["arm"] for line in lines} == {"tuned", "as it was"}
    assert all(-1 <= float(line["clip_t"]) <= 1 for line in lines)
    row = next(row for row in found.rows if row.arm == "tuned" and row.subject == "dog7")
    own = [float(line["dino"]) for line in lines if line["arm"] == "tuned" and line["subject"] == "dog7"]
    assert sum(own) / len(own) == pytest.approx(row.scores["dino"]["value"], abs=1e-5)
    assert {line["subject"] for line in table(out / "subjects.csv")} == {"dog7", "toy1"}


def test_models_pictures_are_thrown_away_all_the_same_and_the_key_is_the_same(ask, tmp_path):
    plain = ended(ask(ONE, subjects=("dog7",), output_dir=str(tmp_path / "one")))
    exported = ended(ask(ONE, subjects=("dog7",), output_dir=str(tmp_path / "two"), export_pictures=str(tmp_path / "pictures")))
    assert [row.key for row in plain.rows] == [row.key for row in exported.rows]
    assert not (tmp_path / "two" / "jobs" / exported.rows[0].key / "samples").exists()


def test_jobs_that_were_done_before_are_named_and_not_done_again(ask, tmp_path):
    wanted = {"subjects": ("dog7",)}
    ended(ask(ONE, **wanted))
    found = ended(ask(ONE, **wanted, export_pictures=str(tmp_path / "pictures")))
    assert len(found.remarks) == 1 and "1 job was done before" in found.remarks[0]
    assert not list((tmp_path / "pictures").rglob("*.png"))


def test_arms_that_are_one_job_have_both_their_pictures(ask, tmp_path):
    out = tmp_path / "pictures"
    first = ended(ask(ONE, subjects=("dog7",), export_pictures=str(out)))
    again = ended(ask({"other words": ONE["tuned"]}, subjects=("dog7",), export_pictures=str(out)))
    assert [row.key for row in first.rows] == [row.key for row in again.rows]
    assert again.remarks, "the pictures lie under the arm that they were drawn for"


@pytest.mark.parametrize("where", ["dataset", "out"])
def test_no_folder_of_another_use_is_written_into(where, ask, tmp_path, dataset):
    place = dataset if where == "dataset" else tmp_path / "out"
    with pytest.raises(SettingError, match="export_pictures"):
        list(bench(ask(ONE, export_pictures=str(place), dataset_dir=str(dataset))))
    assert not list(place.rglob("prompts.csv"))


def test_a_column_is_added_for_a_score_that_was_asked_for(ask, tmp_path):
    from tests.metrics.encoders import dinov2_folder

    folder = dinov2_folder(tmp_path / "dinov2")
    found = ended(ask(ONE, subjects=("dog7",), training={"dinov2_encoder": str(folder)}))
    assert "dinov2" in found.rows[0].scores and "dinov2" in found.rows[0].real
    assert "DINOv2" in (tmp_path / "out" / "tables" / "p" / "bench.md").read_text()
    shutil.rmtree(tmp_path / "out")
    assert "dinov2" not in ended(ask(ONE, subjects=("dog7",))).rows[0].scores
