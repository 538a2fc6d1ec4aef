"""Names that are no UTF-8 (an archive from another Windows) and letters that an output cannot print: trained on, drawn with, scored.

Where such a name is shown or kept it is written out (`caf\\udce9.png`), and where a file is read back it is the name again.
"""

import io
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dreambooth.cli import main
from dreambooth.config import from_file
from dreambooth.files.images import contact_sheet, read_settings, save_png
from dreambooth.loading import readable_name
from tests import tiny
from tests.evaluation.conftest import encoder_flags

__all__ = ["encoder_flags"]

NAME = os.fsdecode(b"caf\xe9 \xb0\xad")
"""Latin-1 and half of a Korean letter in CP949: no UTF-8 at all."""
KOREAN = "강아지"
SMALL = (
    "--num_class_images", "2", "--prior_inference_steps", "1", "--validation_inference_steps", "1", "--num_validation_images", "1",
    "--seed", "1",
)  # fmt: skip
TEXTS = {".json", ".jsonl", ".yaml", ".md", ".html", ".csv", ".tex", ".txt"}


@pytest.fixture
def odd(tmp_path):
    """A folder whose name is no UTF-8, with photos in another one, one of them of such a name with a caption beside it."""
    folder = tmp_path / NAME
    try:
        photos = tiny.photos(folder / f"photos {NAME}")
    except OSError:
        pytest.skip("this disk takes no such names")
    (photos / "0.png").rename(photos / f"{NAME}.png")
    (photos / f"{NAME}.txt").write_text("a [V] dog in a café", encoding="utf-8")
    return folder


def train(model: Path, odd: Path, *flags: str) -> list[str]:
    words = ["--pretrained_model_name_or_path", str(model), "--instance_data_dir", str(odd / f"photos {NAME}"), "--class_noun", "dog"]
    folders = ["--class_data_dir", str(odd / "class"), "--output_dir", str(odd / "run"), "--identifier", "sks", "--max_train_steps", "2"]
    return ["train", *words, *folders, *SMALL, *flags]


def no_text_is_broken(folder: Path) -> int:
    """How many text files there are; each is UTF-8, and each JSON is whole."""
    found = [path for path in folder.rglob("*") if path.suffix in TEXTS and path.is_file()]
    for path in found:
        text = path.read_bytes().decode("utf-8")
        if path.suffix == ".json":
            json.loads(text)
    return len(found)


def test_a_run_among_such_names_leaves_text_that_everybody_can_read_and_goes_on(odd, pipelines, encoder_flags, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    encoders = [word for name, folder in encoder_flags.items() for word in (f"--{name}", folder)]
    looks = [
        "--validation_prompt",
        "a [V] dog",
        "--validation_steps",
        "1",
        "--evaluate_every",
        "1",
        "--checkpointing_steps",
        "1",
        *encoders,
    ]
    command = train(pipelines("stable_diffusion"), odd, *looks, "--report_to", "tensorboard", "wandb")
    monkeypatch.setattr(sys, "argv", ["dreambooth", *command])
    assert main(command) == 0
    run = odd / "run"
    assert r"caf\udce9" in capsys.readouterr().out.encode("utf-8", "backslashreplace").decode()
    assert no_text_is_broken(run) > 10
    assert f"{NAME}.png" in [photo["name"] for photo in json.loads((run / "run.json").read_text(encoding="utf-8"))["photos"]]
    tree = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert (
        tree["photos"]["instance_data_dir"]
        == from_file(run / "config.yaml", {}, None)[1]["photos"]["instance_data_dir"]
        == str(odd / f"photos {NAME}")
    )
    assert r"caf\udce9" in (run / "report.html").read_text(encoding="utf-8").lower()
    assert list((run / "logs").rglob("events.out.tfevents*")) and list((run / "logs").rglob("*.wandb"))
    assert main([*command, "--max_train_steps", "3", "--resume_from_checkpoint", "latest"]) == 0
    assert main(["generate", str(run), "a [V] dog", "--num_images", "1", "--negative_prompt", KOREAN]) == 0
    assert KOREAN in next((run / "samples" / "generated").glob("*-seed0.png")).read_bytes().decode("utf-8", "ignore")
    scored = ["--num_prompts", "1", "--num_images", "2", "--class_samples", "2", *encoders]
    assert main(["evaluate", str(run), *scored]) == 0
    assert no_text_is_broken(run) > 12 and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("method", ["full", "lora", "lokr", "textual_inversion", "custom_diffusion"])
def test_every_method_saves_into_such_a_folder_and_draws_from_it(odd, pipelines, method, capsys):
    flags = ["--method", method, "--skip_final_inference", "--checkpointing_steps", "1"]
    flags += ["--train_text_encoder", "--use_ema"] if method == "full" else []
    assert main(train(pipelines("stable_diffusion"), odd, *flags)) == 0
    assert main(["generate", str(odd / "run"), "a [V] dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0
    assert main(["generate", str(odd / "run" / "checkpoint-1"), "a [V] dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0
    assert no_text_is_broken(odd / "run") > 3, capsys.readouterr().err


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_base_model_and_its_replaced_parts_may_lie_in_such_a_folder(odd, pipelines, family, capsys):
    (odd / "model").symlink_to(pipelines(family))
    tokenizer = ("--tokenizer_name", str(odd / "model" / "tokenizer"))
    flags = ("--method", "lora", "--skip_final_inference", "--resolution", "16", *tokenizer)
    assert main(train(odd / "model", odd, *flags)) == 0, capsys.readouterr().err
    lora = ("--lora", str(odd / "run" / "pytorch_lora_weights.safetensors"), "--output_dir", str(odd / "drawn"))
    assert main(["generate", str(odd / "model"), "a dog", *lora, "--num_images", "1", "--num_inference_steps", "1", "--height", "16"]) == 0
    (picture,) = (path for path in (odd / "drawn").glob("*-seed0.png"))
    assert read_settings(picture)["model"] == str(odd / "model")
    assert main(["identifier", str(odd / "model"), "--num", "2", "--num_pictures", "0", "--pool", "5"]) in (0, 2)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp949"])
def test_an_output_that_cannot_print_a_letter_does_not_end_the_run(pipelines, photos, tmp_path, monkeypatch, encoding):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    words = ["--pretrained_model_name_or_path", str(pipelines("stable_diffusion")), "--instance_data_dir", str(photos)]
    words += ["--class_noun", KOREAN, "--identifier", "sks", "--max_train_steps", "1", "--output_dir", str(tmp_path / "run é 😀")]
    code = main(["train", *words, *SMALL])
    for stream in (out, err):
        stream.flush()
    told = out.buffer.getvalue()
    assert code == 0, err.buffer.getvalue()
    assert (KOREAN.encode("cp949") if encoding == "cp949" else rb"\uac15\uc544\uc9c0") in told and rb"\U0001f600" in told
    assert KOREAN in json.loads((tmp_path / "run é 😀" / "run.json").read_text(encoding="utf-8"))["instance_prompts"][0]


@pytest.mark.parametrize("flag", ["class_noun", "instance_prompt", "identifier", "class_prompt", "validation_prompt", "negative"])
def test_words_that_are_no_utf_8_are_refused_by_their_flag(pipelines, photos, tmp_path, capsys, flag):
    flag = {"negative": "validation_negative_prompt"}.get(flag, flag)
    own = [] if flag == "class_noun" else ["--class_noun", "dog"]
    argv = ["train", "--pretrained_model_name_or_path", str(pipelines("stable_diffusion")), "--instance_data_dir", str(photos), *own]
    assert main([*argv, f"--{flag}", "caf\udce9 [V]" if "prompt" in flag else "caf\udce9", "--output_dir", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"--{flag}" in told and "UTF-8" in told and "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_a_bench_on_such_folders_has_its_tables(odd, pipelines, encoder_flags, capsys):
    dataset = odd / "data"
    dataset.mkdir()
    (odd / f"photos {NAME}").rename(dataset / "dog7")
    (dataset / "subjects.csv").write_text("subject_name,class,live,description\ndog7,dog,1,red dog\n")
    plan = "arms: {a: {settings: {with_prior_preservation: no}}, b: {model: untuned}}\nnotes: 'the dog of a café'\n"
    (odd / f"{NAME}.yaml").write_text(plan, encoding="utf-8")
    numbers = {
        "num_prompts": 1, "num_images": 2, "class_samples": 2, "max_train_steps": 1, "resolution": 16, "validation_inference_steps": 1,
        "identifier": "sks", "keep": "everything", "pretrained_model_name_or_path": pipelines("stable_diffusion"), **encoder_flags,
    }  # fmt: skip
    given = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    argv = ["bench", str(odd / f"{NAME}.yaml"), "--dataset_dir", str(dataset), "--output_dir", str(odd / "out"), *given]
    assert main(argv) == 0, capsys.readouterr().err
    assert no_text_is_broken(odd / "out") > 5
    tables = {path.name: path.read_text(encoding="utf-8") for path in (odd / "out").rglob("bench.*")}
    assert {"bench.html", "bench.md", "bench.csv", "bench.tex"} <= tables.keys() and "café" in tables["bench.md"]
    study = odd / "study"
    assert main(["study", "make", f"{odd / 'out'}:a", f"{odd / 'out'}:b", str(study), "--photos", str(dataset), "--comparisons", "1"]) == 0
    key = json.loads((study / "key.json").read_text(encoding="utf-8"))
    assert key["comparisons"][0]["photo"].startswith(str(odd))
    answers = {one["id"]: {"identity": "A", "prompt": "B", "seconds": 3} for one in key["comparisons"]}
    for rater in ("René", KOREAN):
        (study / f"{rater}.json").write_text(json.dumps({"study": key["study"], "rater": rater, "answers": answers}), encoding="utf-8")
    assert main(["study", "table", str(study), str(study / "René.json"), str(study / f"{KOREAN}.json")]) == 0
    assert no_text_is_broken(study) > 3 and KOREAN in (study / "table.md").read_text(encoding="utf-8")


def test_photos_are_checked_and_prepared_under_such_names(odd, capsys):
    folder = odd / f"photos {NAME}"
    assert main(["photos", "check", str(folder), "--json"]) in (0, 1)
    assert any(finding["file"] == f"{NAME}.png" or r"\udce9" in str(finding["file"]) for finding in json.loads(capsys.readouterr().out))
    assert main(["photos", "prepare", str(folder), str(odd / "clean"), "--resolution", "16"]) == 0, capsys.readouterr().err
    assert no_text_is_broken(odd / "clean") >= 1 and len(list((odd / "clean").glob("*.png"))) == 4


def test_a_pictures_own_notes_and_a_sheets_labels_hold_such_names(tmp_path):
    image = Image.new("RGB", (8, 8))
    save_png(tmp_path / "a.png", image, {"prompt": "a dog", "model": f"/{NAME}", "lora": KOREAN})
    assert read_settings(tmp_path / "a.png") == {"prompt": "a dog", "model": f"/{NAME}", "lora": KOREAN}
    assert r"\udce9" in Image.open(tmp_path / "a.png").text["parameters"]  # type: ignore[attr-defined]
    assert contact_sheet([(f"of {NAME}", [image])], title=NAME, footer=NAME).width > 192


def test_libraries_get_a_name_that_they_can_read_while_they_need_it(tmp_path):
    folder = tmp_path / NAME
    folder.mkdir()
    with readable_name(folder) as name:
        assert name.encode() and Path(name).samefile(folder)
        (Path(name) / "file").touch()
    assert not Path(name).exists() and (folder / "file").is_file()
    with readable_name(tmp_path) as name:
        assert name == str(tmp_path)
