"""A run that was stopped goes on as if it had not been: the same weight files, byte for byte."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth.cli import main
from dreambooth.core.errors import Interrupted
from dreambooth.run.train import train
from dreambooth.setup.config import dump
from dreambooth.setup.given import train_config
from dreambooth.setup.resuming import differences
from dreambooth.training.records import Message, Step
from tests import tiny
from tests.training.runs import config, same_files, weights


def run(stop_after: int | None = None, **settings) -> None:
    """Train to the end, or until `stop_after` updates; then by the way a signal takes."""
    seen: list[int] = []
    for record in train(config(**settings), stop=lambda: stop_after is not None and len(seen) >= stop_after):
        if isinstance(record, Step):
            seen.append(record.step)


VARIANTS = {
    "full": {},
    "text_encoder": {"train_text_encoder": True},
    "lora": {"method": "lora", "lora_dropout": 0.1},
    "average": {"use_ema": True},
    "lora_average": {"method": "lora", "use_ema": True},
    "fp16_scaler": {"mixed_precision": "fp16"},
    "cosine": {"lr_scheduler": "cosine", "lr_warmup_steps": 2},
    "random_crops": {"center_crop": False, "random_flip": True, "photo_size": (40, 24)},
    "without_cache": {"cache_latents": False},
    "pieces": {"gradient_accumulation_steps": 2},
    "eight_bit": {"use_8bit_adam": True},
    "prodigy": {"optimizer": "prodigy", "learning_rate": 1.0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interrupted_run_ends_with_the_same_bytes(name, pipelines, tmp_path):
    if name == "eight_bit":
        pytest.importorskip("bitsandbytes")
    if name == "prodigy":
        pytest.importorskip("prodigyopt")
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 7, **VARIANTS[name]}
    run(**base, output_dir=tmp_path / "whole")
    with pytest.raises(Interrupted, match="after step 3"):
        run(**base, output_dir=tmp_path / "cut", stop_after=3)
    run(**base, output_dir=tmp_path / "cut", resume_from_checkpoint="latest")
    same_files(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_previews_and_trackers_do_not_change_what_is_learned(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 4, "method": "lora", "lora_dropout": 0.2}
    run(**base, output_dir=tmp_path / "plain")
    watched = {
        "validation_prompt": "a [V] dog",
        "validation_steps": 1,
        "num_validation_images": 1,
        "validation_inference_steps": 2,
    }
    run(**base, **watched, output_dir=tmp_path / "watched", report_to=["tensorboard"])
    same_files(weights(tmp_path / "plain"), weights(tmp_path / "watched"))
    assert len(list((tmp_path / "watched" / "samples").glob("step-*/*.png"))) == 5, "the untuned model, and one at each step"


def test_more_steps_continue_a_run_as_one_longer_run(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path}
    run(**base, max_train_steps=6, output_dir=tmp_path / "long")
    run(**base, max_train_steps=3, checkpointing_steps=3, output_dir=tmp_path / "short")
    run(
        **base,
        max_train_steps=6,
        output_dir=tmp_path / "short",
        resume_from_checkpoint="checkpoint-3",
        allow_changed_settings=False,
    )
    same_files(weights(tmp_path / "long"), weights(tmp_path / "short"))


def test_other_changed_settings_are_listed_and_refused(pipelines, tmp_path, capsys):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 2, "checkpointing_steps": 2}
    run(**base, output_dir=tmp_path / "run")
    with pytest.raises(Exception, match=r"--learning_rate 0.001 -> 0.01"):
        run(**{**base, "learning_rate": 0.01}, output_dir=tmp_path / "run", resume_from_checkpoint="latest")


def test_a_half_written_checkpoint_is_passed_over(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 4, "checkpointing_steps": 2}
    run(**base, output_dir=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4" / "training_state")
    before = weights(tmp_path / "run")
    kept = {name: path.read_bytes() for name, path in before.items()}
    run(**base, output_dir=tmp_path / "run", resume_from_checkpoint="latest")
    assert {name: path.read_bytes() for name, path in weights(tmp_path / "run").items()} == kept


def test_kill_9_loses_only_the_steps_since_the_last_checkpoint(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "checkpointing_steps": 5, "max_train_steps": 40}
    run(**base, output_dir=tmp_path / "whole")
    cut = tmp_path / "cut"
    command = [sys.executable, "-m", "tests.training.runs", str(base["model"]), str(tmp_path), str(cut)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (cut / "checkpoint-10" / "training_state" / "state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    run(**base, output_dir=cut, resume_from_checkpoint="latest")
    same_files(weights(tmp_path / "whole"), weights(cut))


def test_ctrl_c_saves_and_says_how_to_go_on(pipelines, tmp_path):
    cut = tmp_path / "cut"
    command = [
        sys.executable, "-m", "dreambooth", "train", "--pretrained_model_name_or_path", str(pipelines("stable_diffusion")),
        "--instance_data_dir", str(tiny.photos(tmp_path / "photos")), "--instance_prompt", "a sks dog", "--output_dir", str(cut),
        "--max_train_steps", "100000", "--resolution", "16",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (cut / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume_from_checkpoint latest" in output and "Traceback" not in output
    assert len(list(cut.glob("checkpoint-*/training_state/state.json"))) == 1
    assert main(["generate", str(next(cut.glob("checkpoint-*"))), "a sks dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0


def test_a_run_whose_identifier_was_picked_of_several_tokens_goes_on_by_the_same_name(tmp_path):
    given = {
        "instance_data_dir": tiny.photos(tmp_path / "photos", size=(128, 128)), "class_noun": "dog", "with_prior_preservation": False,
        "identifier_tokens": 2, "train_batch_size": 1, "checkpointing_steps": 1, "skip_final_inference": True,
        "output_dir": tmp_path / "run",
    }  # fmt: skip
    output = [record.text for record in train(train_config(max_train_steps=1, **given)) if isinstance(record, Message)]
    first = json.loads((tmp_path / "run" / "run.json").read_text())["identifier"]
    assert len(first.split()) == 2 and any(f"Identifier: {first} (2 rare tokens" in text for text in output)
    list(train(train_config(max_train_steps=2, resume_from_checkpoint="latest", **given)))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identifier"] == first and (tmp_path / "run" / "checkpoint-2").is_dir()


def test_a_runs_own_settings_start_it_from_any_folder_and_only_a_new_one_is_called_idle(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"instance_data_dir": tiny.photos(Path("photos"), size=(128, 128)), "class_noun": "dog", "identifier_tokens": 3,
             "with_prior_preservation": False, "train_batch_size": 1, "checkpointing_steps": 1, "skip_final_inference": True}  # fmt: skip
    list(train(train_config(max_train_steps=1, output_dir=Path("elsewhere", "..", "run"), **given)))
    monkeypatch.chdir(tmp_path / "elsewhere")
    new = {"prior_loss_weight": 0.5, "allow_changed_settings": True, "max_train_steps": 2, "resume_from_checkpoint": "latest"}
    again = train_config(config=Path("..", "run", "config.yaml"), **new)
    assert again.output_dir == tmp_path / "run"
    named = json.loads((tmp_path / "run" / "run.json").read_text())["identifier"]
    said = [record.text for record in train(again) if isinstance(record, Message)]
    assert [text for text in said if "nothing to do" in text] == ["--prior_loss_weight has nothing to do: there are no class images."]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identifier"] == named
    assert (tmp_path / "run" / "checkpoint-2").is_dir() and ".." not in (tmp_path / "run" / "config.yaml").read_text()


def test_a_setting_that_is_newer_than_a_checkpoint_had_its_default_then():
    now = train_config(rank=8, method="lora", lora_alpha=4.0, instance_data_dir="photos")
    old = dump(now)
    assert not differences(old, now)
    del old["method"]["lora_alpha"]
    assert differences(old, now) == ["--lora_alpha None -> 4.0"]
    assert not differences(old, now.updated({("method", "lora_alpha"): None}))
    del old["text"]
    assert differences(old, now.updated({("method", "lora_alpha"): None})) == [], "a whole branch that was not there yet"
