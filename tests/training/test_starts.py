"""Where a run starts: nothing finished is replaced without a word, nothing damaged is gone on from, no two starts share a folder."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.leftovers import prefix
from dreambooth.run import train as stream
from dreambooth.run.train import train
from dreambooth.setup.journal import read_records
from dreambooth.setup.record import read_record, status
from dreambooth.setup.states import State
from dreambooth.training.records import Done, Message
from tests.training.runs import config, same_files, weights


@pytest.fixture(scope="module")
def run_folder(pipelines, tmp_path_factory):
    """`run_folder(method)`: a finished run of four steps with checkpoints at two and four, to be copied."""
    root, made = tmp_path_factory.mktemp("starts"), {}

    def build(method: str, **settings) -> Path:
        key = method + repr(settings)
        if key not in made:
            made[key] = root / f"{method}-{len(made)}"
            go(pipelines, root, made[key], method=method, **settings)
        return made[key]

    return build


def go(pipelines, root, folder, **settings):
    """Train, 4 steps with a checkpoint at every second one where nothing else is said; returns the records."""
    given = {"max_train_steps": 4, "checkpointing_steps": 2, "class_data_dir": str(root / "class"), **settings}
    return list(train(config(pipelines("stable_diffusion"), root=root, output_dir=folder, **given)))


def kept(folder):
    return {name: path.read_bytes() for name, path in weights(folder).items()}


def said(records):
    return [record.text for record in records if isinstance(record, Message) and record.important]


@pytest.mark.parametrize("method", ["full", "lora", "textual_inversion"])
def test_a_finished_run_without_checkpoints_is_not_overwritten(method, pipelines, tmp_path):
    word = {"initializer_token": "dog", "instance_prompt": "a [V] dog"} if method == "textual_inversion" else {}
    base = {"method": method, "with_prior_preservation": False, "class_data_dir": None, **word}
    go(pipelines, tmp_path, tmp_path / "run", **base, checkpointing_steps=100)
    before = kept(tmp_path / "run")
    for resume in (None, "latest"):
        with pytest.raises(SettingError) as refused:
            go(pipelines, tmp_path, tmp_path / "run", **base, max_train_steps=6, resume_from_checkpoint=resume)
        assert refused.value.setting == "--output_dir" and kept(tmp_path / "run") == before
    go(pipelines, tmp_path, tmp_path / "run", **base, seed=2, overwrite_output_dir=True)
    assert kept(tmp_path / "run") != before


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_a_killed_run_has_half_written_is_no_model(method, pipelines, tmp_path, run_folder):
    folder, dead = tmp_path / "run", prefix().replace(str(os.getpid()), "999999999")
    shutil.copytree(run_folder(method) / "checkpoint-2", folder / f"{dead}0a1b2c3d")
    go(pipelines, tmp_path, folder, method=method, resume_from_checkpoint="latest")
    assert (folder / "checkpoint-4").is_dir() and not list(folder.glob(".partial-*"))


def test_a_base_model_is_no_place_for_a_result(pipelines, tmp_path):
    shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base")
    with pytest.raises(SettingError, match="--output_dir"):
        go(pipelines, tmp_path, tmp_path / "base", method="lora")


def test_latest_on_a_finished_run_says_so_and_does_nothing(run_folder, pipelines, tmp_path):
    folder = shutil.copytree(run_folder("full"), tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    records = go(pipelines, tmp_path, folder, resume_from_checkpoint="latest", allow_changed_settings=True)
    assert isinstance(records[-1], Done) and "finished" in said(records)[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_latest_on_a_finished_run_goes_on_to_more_steps(run_folder, pipelines, tmp_path):
    folder = shutil.copytree(run_folder("full"), tmp_path / "run")
    go(pipelines, tmp_path, folder, resume_from_checkpoint="latest", max_train_steps=6, allow_changed_settings=True)
    assert read_record(folder)["step"] == 6 and status(folder).state is State.FINISHED


def test_an_earlier_checkpoint_does_not_replace_a_finished_result(run_folder, pipelines, tmp_path):
    folder = shutil.copytree(run_folder("full"), tmp_path / "run")
    before = kept(folder)
    with pytest.raises(SettingError) as refused:
        go(pipelines, tmp_path, folder, resume_from_checkpoint="checkpoint-2", allow_changed_settings=True)
    assert refused.value.setting == "--resume_from_checkpoint" and kept(folder) == before


def test_latest_with_nothing_to_go_on_from_says_that_it_starts_at_step_0(pipelines, tmp_path):
    records = go(pipelines, tmp_path, tmp_path / "run", resume_from_checkpoint="latest", max_train_steps=1)
    assert any("step 0" in text for text in said(records)) and read_record(tmp_path / "run")["step"] == 1


@pytest.mark.parametrize("moved", ["elsewhere", "renamed"])
def test_a_runs_own_file_means_its_own_folder(moved, run_folder, pipelines, tmp_path, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    folder = shutil.copytree(run_folder("lora"), tmp_path / "home" / ("my-dog" if moved == "elsewhere" else "kept"))
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["output"]["output_dir"] = "my-dog"  # as the run was started, from the folder above
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work" if moved == "elsewhere" else folder.parent)
    written = ["train", "--config", str(folder / "config.yaml"), "--resume_from_checkpoint", "latest", "--max_train_steps", "5"]
    assert main(written) == 0, capsys.readouterr().err
    assert read_record(folder)["step"] == 5
    assert [*tmp_path.rglob("run.json")] == [folder / "run.json"], "no second run was begun"


PARTS = {
    "unet/diffusion_pytorch_model.safetensors": {}, "training_state/optimizer.safetensors": {}, "training_state/state.json": {},
    "training_state/average.safetensors": {"use_ema": True}, "training_state/weights.safetensors": {"use_ema": True},
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_with_one_flipped_bit_is_skipped_and_named(part, run_folder, pipelines, tmp_path):
    base = run_folder("full", **PARTS[part])
    folder = shutil.copytree(base, tmp_path / "run")
    name = next((folder / "checkpoint-4").glob(part))
    data = bytearray(name.read_bytes())
    data[len(data) // 2] ^= 16
    name.write_bytes(data)
    go_on = {"resume_from_checkpoint": "latest", "max_train_steps": 6, "allow_changed_settings": True, **PARTS[part]}
    records = go(pipelines, tmp_path, folder, **go_on)
    assert any("checkpoint-4 is skipped" in text and Path(part).name in text for text in said(records))
    whole = shutil.copytree(base, tmp_path / "whole")
    go(pipelines, tmp_path, whole, **go_on)
    same_files(weights(whole), weights(folder))


def test_the_optimizer_of_another_checkpoint_is_noticed(run_folder, pipelines, tmp_path):
    folder = shutil.copytree(run_folder("full"), tmp_path / "run")
    inside = Path("training_state") / "optimizer.safetensors"
    shutil.copyfile(folder / "checkpoint-2" / inside, folder / "checkpoint-4" / inside)
    with pytest.raises(SettingError, match=r"optimizer\.safetensors"):
        go(pipelines, tmp_path, folder, resume_from_checkpoint="checkpoint-4", max_train_steps=6, allow_changed_settings=True)


def test_a_folder_is_one_starts_own(pipelines, tmp_path):
    first = train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1))
    while not (tmp_path / "run").exists():
        next(first)
    with pytest.raises(SettingError, match="in use"):
        go(pipelines, tmp_path, tmp_path / "run")
    assert isinstance([*first][-1], Done)


FAILING = {
    "draw_prior": "class images",
    "make_batches": "encoding",
    "final_pictures": "drawing",
    "write_result": "saving",
    "report": "report",
}


@pytest.mark.parametrize("place", FAILING)
@pytest.mark.parametrize(("error", "state"), [(RunError("Out of memory."), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_a_run_that_ends_outside_the_training_is_not_left_running(place, error, state, pipelines, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(stream, place, fail)
    with pytest.raises(type(error)):
        go(pipelines, tmp_path, tmp_path / "run", max_train_steps=1, skip_final_inference=False, validation_inference_steps=1)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == state and record["cause"]
    assert read_records(tmp_path / "run")[-1]["kind"] == "end" and read_records(tmp_path / "run")[-1]["state"] == state


def test_a_reader_that_takes_no_more_records_leaves_an_interrupted_run(pipelines, tmp_path):
    records = train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=3))
    while not (tmp_path / "run" / "run.json").exists():
        next(records)
    assert status(tmp_path / "run").state is State.RUNNING
    records.close()
    assert status(tmp_path / "run").state is State.INTERRUPTED


def test_a_finished_run_says_so_only_when_its_report_is_there(pipelines, tmp_path, monkeypatch):
    seen = []
    real = stream.report
    monkeypatch.setattr(stream, "report", lambda folder, **more: (seen.append(status(folder).state), real(folder, **more))[1])
    go(pipelines, tmp_path, tmp_path / "run", max_train_steps=1)
    assert seen == [State.RUNNING] and status(tmp_path / "run").state is State.FINISHED
