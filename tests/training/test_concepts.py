"""A list of several subjects as people write it: every value that is none is named with its entry and its field, before the model loads."""

import codecs
import json
import time
from pathlib import Path

import pytest

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.training.concepts import read_concepts
from dreambooth.training.subjects import Photos, subjects
from tests import tiny

GOOD = {
    "instance_prompt": "a [V] dog",
    "instance_data_dir": "dogs",
    "class_prompt": "a dog",
    "class_data_dir": "class",
    "num_class_images": 3,
}


def written(folder: Path, entries: object) -> Path:
    path = folder / "concepts.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    return path


def refusal(path: Path) -> SettingError:
    with pytest.raises(SettingError) as raised:
        read_concepts(path)
    return raised.value


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("num_class_images", "20", "whole number"), ("num_class_images", "1e3", "whole number"), ("num_class_images", 2.5, "whole number"),
        ("num_class_images", 4.0, "whole number"), ("num_class_images", -1, "too small"), ("num_class_images", 0, "too small"),
        ("num_class_images", True, "whole number"), ("num_class_images", None, "null"), ("num_class_images", [3], "whole number"),
        ("instance_prompt", 7, "text"), ("instance_prompt", False, "text"), ("instance_prompt", ["a [V] dog"], "text"),
        ("instance_prompt", "  ", "blank"), ("instance_prompt", None, "null"), ("instance_prompt", "a \ud800 dog", "UTF-8"),
        ("class_prompt", {"a": "dog"}, "text"), ("class_prompt", "", "blank"), ("class_prompt", 0, "text"),
        ("instance_data_dir", 12, "text"), ("instance_data_dir", "dogs\0", "zero byte"), ("class_data_dir", [], "text"),
        ("instance_data_dir", "~nobody-of-that-name/dogs", "nobody"), ("class_data_dir", "~nobody-of-that-name", "nobody"),
        ("class_data_dir", True, "text"), ("class_images_dir", "x", "class_data_dir"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_with_its_entry_and_its_field(tmp_path, field, value, kind):
    error = refusal(written(tmp_path, [GOOD, {**GOOD, field: value}]))
    assert "--concepts_list entry 2" in error.setting and field in str(error) and kind in str(error)


@pytest.mark.parametrize("field", ["instance_prompt", "instance_data_dir"])
def test_what_an_entry_cannot_do_without_is_named(tmp_path, field):
    error = refusal(written(tmp_path, [GOOD, GOOD, {name: value for name, value in GOOD.items() if name != field}]))
    assert error.setting == "--concepts_list entry 3" and field in error.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "a list of subjects"), ("[]", "a list of subjects"), ("[[{}]]", "entry 1"), ('["dogs"]', "entry 1"), ("7", "a list"),
        ('[\n{"instance_prompt": "a"\n"class_prompt": "b"}]', "line 3, column 1"), ("", "line 1"), ("[{]", "line 1, column 3"),
        ('[{"instance_prompt": "a", "instance_prompt": "b"}]', "entry 1: instance_prompt stands twice"),
        (f'[{json.dumps(GOOD)}, {{"class_prompt": "a", "class_prompt": "a"}}]', "entry 2: class_prompt stands twice"),
        ("[" * 100_000, "too deeply"), ('{"a":' * 50_000, "too deeply"), ('[{"num_class_images": NaN}]', "NaN"),
        ('[{"num_class_images": ' + "9" * 5000 + "}]", "4300 digits"), ("[" + " " * 2**21 + "]", "too large"),
        ("[" + ", ".join(['{"instance_prompt": "a"}'] * 30_000) + "]", "entry 1"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_subjects_is_refused_by_its_place(tmp_path, text, words):
    began = time.perf_counter()
    assert words in str(refusal(written(tmp_path, text)))
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_a_list_of_windows_editors_is_read_as_any_other(tmp_path, mark):
    path = tmp_path / "concepts.json"
    text = json.dumps([{**GOOD, "instance_prompt": "a [V] 강아지"}], ensure_ascii=False)
    path.write_bytes(mark + text.encode("utf-8" if mark == codecs.BOM_UTF8 else "utf-16-le"))
    assert read_concepts(path)[0].instance_prompt == "a [V] 강아지"


def test_a_tilde_is_the_home_folder_in_every_field(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny.photos(tmp_path / "dogs")
    listed = written(tmp_path, [{**GOOD, "instance_data_dir": "~/dogs", "class_data_dir": "~/class"}])
    (subject,) = subjects(Photos(concepts_list=str(listed)), "sks")
    assert (subject.folder.root, subject.class_data_dir) == (tmp_path / "dogs", tmp_path / "class")
    assert (subject.instance_prompt, subject.num_class_images) == ("a sks dog", 3)


def test_a_wrong_entry_costs_no_loading_and_leaves_no_folder(tmp_path, capsys, photos, pipelines):
    listed = written(tmp_path, [{**GOOD, "instance_data_dir": str(photos), "num_class_images": "3"}])
    words = ["--pretrained_model_name_or_path", str(pipelines("stable_diffusion")), "--concepts_list", str(listed)]
    assert main(["train", *words, "--output_dir", str(tmp_path / "run")]) == 2
    output = capsys.readouterr()
    assert "--concepts_list entry 1: num_class_images: " in output.err and "Loading" not in output.out
    assert not (tmp_path / "run").exists()
