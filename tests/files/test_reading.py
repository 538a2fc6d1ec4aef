"""JSON that was written here comes back whole and of the right shape, or the file is named with the way out; no reader falls over."""

import json
import os

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth.bench.rows import as_row, has_row, read_row
from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.files.images import read_settings, save_png
from dreambooth.files.reading import Damaged, needed_json, parse_json, readings
from dreambooth.reporting import report
from dreambooth.setup.record import read_record, spent
from dreambooth.study.sources import source
from dreambooth.training.state import read_state
from dreambooth.training.subjects import Photos, subjects
from tests import tiny
from tests.bench.made_up import row

BAD = {
    "empty": b"", "half": b'{"a": ', "list": b"[1, 2]", "text": b'"run"', "number": b"7", "null": b"null", "bomb": b"[" * 200_000,
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "bytes": bytes(range(128, 256)), "digits": b'{"step": ' + b"9" * 5000 + b"}",
    "zeros": bytes(4096),
}  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_what_is_no_mapping_is_damaged_whatever_the_bytes_are(content, tmp_path):
    with pytest.raises(Damaged):
        parse_json(content)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(SettingError, match=r"run\.json is damaged") as refused:
        needed_json(tmp_path / "run.json", setting="run", fix="Write it anew.")
    assert len(str(refused.value)) < 400 and str(refused.value).endswith("Write it anew.")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(SettingError, match="no ordinary file"):
        read_record(tmp_path)


RECORDS = {
    "photos as a mapping": {"photos": {"0.png": "ab"}}, "photos without bytes": {"photos": [{"name": "0.png"}]},
    "a step that is not finite": {"step": float("nan")}, "a step in words": {"step": "many"}, "no seconds": {"seconds": {"training": None}},
    "a choice without a reason": {"choice": {"step": 3}}, "a base model that is a number": {"base_model": {"name": 3}},
    "a state that is a list": {"state": ["finished"]}, "photos that are words": {"photos": "all"},
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_of_another_shape_is_named_with_the_way_to_have_it_written_anew(record, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(SettingError, match=r"run\.json is damaged .*--resume_from_checkpoint latest"):
        read_record(tmp_path)
    assert spent(tmp_path, 3) == 0.0, "a run that goes on writes it anew"


@pytest.mark.parametrize(
    "state", [{}, {"step": -1}, {"step": 2, "optimizer": [], "scaler": {}, "settings": {"loop": {"seed": 1}}},
              {"step": 2, "optimizer": {}, "scaler": {}, "settings": {"loop": []}}],
)  # fmt: skip
def test_a_state_of_another_shape_is_named(state, tmp_path):
    folder = tmp_path / "checkpoint-2" / "training_state"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(SettingError, match=r"state\.json is damaged"):
        read_state(tmp_path / "checkpoint-2")


def test_lines_of_metrics_that_are_none_are_left_out_and_the_others_stay(tmp_path):
    good = {"step": 2, "loss": 0.5, "dino": 0.4}
    bad = [
        b'{"step": 3, "lo', b"[3, 4]", b'{"loss": 1.0}', b'{"step": "three"}', b'{"step": 4, "loss": "low"}', b"[" * 50_000,
        b"\xff\xfe\xfa", b'{"step": 1e400}', b'{"step": 5, "dino": 1e300}', b'{"step": 1' + b"0" * 5000 + b"}", b"null", b"",
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([bad[0], json.dumps(good).encode(), *bad]))
    assert readings(tmp_path / "metrics.jsonl") == [good]
    assert readings(tmp_path / "none.jsonl") == []


def test_a_picture_whose_note_is_no_mapping_says_nothing(tmp_path):
    for number, note in enumerate(["[1]", "{", "[" * 100_000, '"x"', "NaN"]):
        info = PngInfo()
        info.add_text("dreambooth", note)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png", pnginfo=info)
        assert read_settings(tmp_path / f"{number}.png") == {}
    (tmp_path / "half.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    assert read_settings(tmp_path / "half.png") == {} == read_settings(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"[]", b"[" * 100_000, b'"StableDiffusionPipeline"', b'{"_class_name": {"a": 1}}', b"\xff"])
def test_an_index_of_parts_that_is_no_mapping_is_refused(content, tmp_path):
    (tmp_path / "model_index.json").write_bytes(content)
    with pytest.raises(SettingError, match="--pretrained_model_name_or_path"):
        family_of(ModelSource(pretrained_model_name_or_path=str(tmp_path)))


@pytest.mark.parametrize("content", [b"{}", b"[]", b'["dog"]', b"[[1]]", b"[" * 100_000, b"", b"\xff"])
def test_a_list_of_concepts_that_is_none_is_named(content, tmp_path):
    (tmp_path / "concepts.json").write_bytes(content)
    with pytest.raises(SettingError, match="--concepts_list"):
        subjects(Photos(concepts_list=str(tmp_path / "concepts.json")), None)


ROWS = {
    "half": lambda row: None, "scores in words": lambda row: row | {"scores": {"dino": {"value": "high"}}},
    "scores as a list": lambda row: row | {"scores": [0.5]}, "a subject elsewhere": lambda row: row | {"subject": "../../secret"},
    "a picture elsewhere": lambda row: row | {"pictures": {"a dog": ["jobs/../../secret.png"]}},
    "a picture from the root": lambda row: row | {"pictures": {"a dog": ["/etc/secret.png"]}},
    "encoders as a list": lambda row: row | {"protocol": {"encoders": ["dino"]}},
    "no arm": lambda row: {name: value for name, value in row.items() if name != "arm"},
    "seeds in words": lambda row: row | {"protocol": {"seeds": "0 to 3"}},
}  # fmt: skip


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_a_row_that_is_none_is_reported_and_its_job_is_done_anew(change, tmp_path, caplog):
    whole = row("LoRA", "ann", 0, dino=0.5).plain()
    assert as_row(json.dumps(whole | {"of a later version": 1})).arm == "LoRA"
    path = tmp_path / "rows" / "k.json"
    path.parent.mkdir()
    path.write_text(json.dumps(whole))
    assert has_row(tmp_path, "k")
    changed = change(whole)
    path.write_text(json.dumps(changed) if changed else json.dumps(whole)[:50])
    assert not has_row(tmp_path, "k") and "k.json is no row of a bench" in caplog.text
    with pytest.raises(RunError, match="its job is done anew"):
        read_row(path)


def scored():
    """The least that a report needs of scores."""
    entry = {"prompt": "a [V] dog", "kind": "place", "scores": {"dino": {"value": 0.5}}, "untuned": {}}
    protocol = {
        "model": "m", "weights": "w", "base_model": "b", "base_weights": "b", "untuned_prompts": "", "intervals": "", "seed": 0,
        "encoders": {}, "prompts": 1, "images_per_prompt": 1, "class_samples": 0, "seeds": [0, 0],
    }  # fmt: skip
    return {
        "dino": {"value": 0.5, "low": 0.4, "high": 0.6}, "untuned": {}, "real_photos": {}, "per_prompt": [entry], "protocol": protocol,
        "subject": {"class_noun": "dog"}, "verdict": {"word": "fair", "sentence": "It is.", "figures": {"fidelity": 0.5}, "problems": []},
    }  # fmt: skip


SCORES = {
    "a value in words": ("dino", {"value": "high"}), "a score that is a number": ("clip_t", 0.3),
    "prompts as a mapping": ("per_prompt", {}), "a verdict in a word": ("verdict", "good"),
    "figures in words": ("verdict", scored()["verdict"] | {"figures": {"fidelity": "x"}}), "cost in words": ("cost", {"pictures": "many"}),
    "encoders in a word": ("protocol", scored()["protocol"] | {"encoders": "x"}), "no protocol": ("protocol", None),
    "three seeds": ("protocol", scored()["protocol"] | {"seeds": [1, 2, 3]}), "untuned as a list": ("untuned", []),
}  # fmt: skip


@pytest.mark.parametrize("change", SCORES.values(), ids=SCORES)
def test_scores_of_another_shape_are_named_by_the_report(change, tmp_path):
    whole = scored()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.json").write_text(json.dumps(whole))
    assert report(tmp_path / "run").is_file()
    (tmp_path / "run" / "scores.json").write_text(json.dumps(whole | dict([change])))
    with pytest.raises(SettingError, match=r"scores\.json is damaged .*dreambooth evaluate"):
        report(tmp_path / "run")


def test_a_score_that_is_not_finite_is_shown_as_none(tmp_path):
    (tmp_path / "run").mkdir()
    whole = scored() | {"clip_t": {"value": float("nan"), "low": float("-inf"), "high": 1.0}}
    whole["verdict"]["figures"] = {"fidelity": float("nan")}
    (tmp_path / "run" / "scores.json").write_text(json.dumps(whole))
    text = report(tmp_path / "run").read_text()
    assert "nan" not in text.lower().replace("finance", "") and "inf" not in text.partition("</style>")[2].lower().replace("info", "")


def test_a_study_names_scores_that_it_cannot_read(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for content in ("[]", '{"per_prompt": ["a dog"]}', "[" * 100_000):
        (run / "scores.json").write_text(content)
        with pytest.raises(SettingError, match=r"scores\.json is damaged"):
            source(str(run))


def test_a_study_shows_no_photo_that_the_run_was_not_trained_on(tmp_path):
    """A run that somebody has sent may name any folder of this machine as that of its photos."""
    run, private = tmp_path / "run", tiny.photos(tmp_path / "private")
    save_png(run / "samples" / "evaluation" / "tuned" / "00-seed0.png", Image.new("RGB", (8, 8)), {})
    (run / "scores.json").write_text(json.dumps(scored()))
    (run / "config.yaml").write_text(json.dumps({"photos": {"instance_data_dir": str(private)}}))
    (run / "run.json").write_text(json.dumps({"state": "finished", "photos": []}))
    assert source(str(run)).photos == {}
