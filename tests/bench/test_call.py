"""A bench and a search for identifiers as calls in Python, by the names of the packages that do them."""

import importlib

import pytest
import yaml

import dreambooth
from dreambooth.bench.run import AlreadyDone, Ended
from dreambooth.files.packaged import toybox
from tests import tiny
from tests.bench.conftest import FEW


@pytest.fixture
def asked(dataset, pipelines, encoder_flags, tmp_path):
    """A plan of one arm that trains nothing, and the settings of a bench on two subjects."""
    plan = tmp_path / "own.yaml"
    plan.write_text(yaml.safe_dump({"name": "own", "title": "Untuned alone", "arms": {"untuned": {"model": "untuned"}}}))
    given = {"dataset_dir": dataset, "output_dir": tmp_path / "out", "resolution": 16, "identifier": "sks", "validation_inference_steps": 2}
    return plan, {**FEW, **encoder_flags, **given, "pretrained_model_name_or_path": pipelines("stable_diffusion")}


def test_a_bench_in_python_does_what_is_missing_and_hands_back_rows_and_tables(asked, tmp_path):
    plan, settings = asked
    lines: list[object] = []
    assert dreambooth.bench(plan, **settings, dry_run=True, on_record=lines.append).waiting == 2
    assert any("2 to do" in str(line) for line in lines) and not (tmp_path / "out" / "rows").exists()
    done = dreambooth.bench(plan, **settings)
    assert {row.subject for row in done.rows} == {"dog7", "toy1"} and not done.failures and all(path.is_file() for path in done.tables)
    again: list[object] = []
    assert dreambooth.bench(plan, **settings, on_record=again.append).rows == done.rows
    assert [record.count for record in again if isinstance(record, AlreadyDone)] == [2] and isinstance(again[-1], Ended)
    assert dreambooth.bench(plan, **settings, tables_only=True).rows == done.rows


@pytest.mark.parametrize("name", ["sedes", "rnak", "seed", "instance_data_dir", "pack"])
def test_a_bench_in_python_refuses_settings_that_there_are_not_or_that_it_decides_itself(asked, name):
    with pytest.raises(dreambooth.SettingError) as refused:
        dreambooth.bench(asked[0], **asked[1], **{name: 1})
    assert refused.value.setting == name and refused.value.fix


def test_identifiers_are_ranked_in_python_and_wrong_names_refused():
    folder = toybox() / "tokenizer"  # ranked by its vocabulary alone
    report = dreambooth.identifier(folder, num=2, class_noun="cat")
    assert len(report.rows) == 2 and "cat" in report.table()
    with pytest.raises(dreambooth.SettingError):
        dreambooth.identifier(folder, nums=2)


def test_photos_are_checked_in_python_by_either_name(tmp_path):
    importlib.import_module("dreambooth.photos.check")
    folder = tiny.photos(tmp_path / "photos", count=2)
    assert dreambooth.photos.check(folder).table() == dreambooth.check_photos(folder).table()  # type: ignore[operator]
