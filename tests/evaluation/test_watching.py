"""A run that is evaluated while it trains learns the same, and ends with a named checkpoint."""

import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth.api import open_run
from dreambooth.cli import main
from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.evaluation.live import LiveScored, LiveScores
from dreambooth.evaluation.selection import Signals
from dreambooth.files.images import read_settings
from dreambooth.run.generate import GenerateConfig, generate
from dreambooth.run.train import train
from dreambooth.setup.given import train_config
from dreambooth.setup.open import Opening, open_model
from dreambooth.training.records import Message, Scores
from dreambooth.training.state import checkpoints, step_of
from tests import tiny
from tests.training.runs import config, same_files, weights


def watched(pipelines, root, name, flags, **settings):
    given = {"class_noun": "dog", "max_train_steps": 4, "checkpointing_steps": 2, "validation_inference_steps": 1, **flags, **settings}
    return list(train(config(pipelines("stable_diffusion"), root=root, output_dir=root / name, **given)))


def test_looks_change_nothing_and_name_a_checkpoint(pipelines, encoder_flags, tmp_path):
    watched(pipelines, tmp_path, "plain", encoder_flags)
    records = watched(pipelines, tmp_path, "watched", encoder_flags, evaluate_every=2, evaluation_share=0.99)
    same_files(weights(tmp_path / "plain"), weights(tmp_path / "watched"))
    looks = [record for record in records if isinstance(record, Scores)]
    assert looks[0].step == 0 and looks[-1].step == 4
    assert looks[0].values.keys() >= {"dino", "clip_t", "pres", "evaluation_seconds"}
    record = json.loads((tmp_path / "watched" / "run.json").read_text())
    assert record["choice"]["step"] in (2, 4) and record["choice"]["why"]
    lines = [json.loads(line) for line in (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()]
    assert next(line["step"] for line in lines if "dino" in line) == 0
    page = (tmp_path / "watched" / "progress.html").read_text()
    assert "Step 4 of 4" in page and ">finished<" in page and f"best: step {record['choice']['step']}" in page and "reload" not in page
    output = [record.text for record in records if isinstance(record, Message)]
    assert any(str(tmp_path / "watched" / "progress.html") in text for text in output)
    plain = (tmp_path / "plain" / "progress.html").read_text()
    assert ">finished<" in plain and "held-out prompts" not in plain, "without an evaluation there are no scores"


def test_the_page_of_an_interrupted_run_ends_and_goes_on_with_it(pipelines, encoder_flags, tmp_path):
    settings = {"class_noun": "dog", "max_train_steps": 4, "checkpointing_steps": 2, "validation_inference_steps": 1, "evaluate_every": 2}
    given = {**settings, **encoder_flags, "evaluation_share": 0.99, "output_dir": tmp_path / "run"}
    stopped = config(pipelines("stable_diffusion"), root=tmp_path, **given)
    with pytest.raises(Interrupted):
        list(train(stopped, stop=lambda: (tmp_path / "run" / "checkpoint-2").is_dir()))
    page = (tmp_path / "run" / "progress.html").read_text()
    assert "Step 2 of 4" in page and ">interrupted<" in page
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, resume_from_checkpoint="latest", **given)))
    again = (tmp_path / "run" / "progress.html").read_text()
    first = page.split("<dt>DINO</dt><dd>")[1].split(" ")[0]
    assert "Step 4 of 4" in again and ">finished<" in again and f"<dt>DINO</dt><dd>{first} →" in again, (
        "the untuned model's look is still there"
    )


def test_encoders_that_are_not_there_are_reported_before_the_training(pipelines, tmp_path):
    with pytest.raises(SettingError, match="--dino_encoder"):
        watched(pipelines, tmp_path, "run", {}, evaluate_every=2)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_evaluate_prints_the_table_and_writes_the_report(pipelines, encoder_flags, tmp_path, capsys):
    watched(pipelines, tmp_path, "run", {})
    few = ["--num_prompts", "2", "--num_images", "2", "--class_samples", "2", "--num_inference_steps", "1"]
    assert main(["evaluate", str(tmp_path / "run"), *few, *(f"--{name}={folder}" for name, folder in encoder_flags.items())]) == 0
    output = capsys.readouterr().out
    assert "DINO" in output and "CLIP-T" in output and "report.html" in output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores.keys() >= {"dino", "clip_i", "clip_t", "pres", "div"}


def seen_as(monkeypatch, dino):
    """Looks that find these fidelities, by step."""

    def evaluate(self, step, inference_mode):
        self.curve[step] = Signals(dino[step])
        return LiveScored(step, {"dino": dino[step]}, (), ())

    monkeypatch.setattr(LiveScores, "evaluate", evaluate)


@pytest.mark.parametrize(("every", "limit", "left"), [(500, None, {2}), (1, 1, {2, 4})])
def test_the_best_evaluation_pass_is_a_checkpoint(pipelines, encoder_flags, tmp_path, monkeypatch, every, limit, left):
    seen_as(monkeypatch, {0: 0.2, 1: 0.5, 2: 0.8, 3: 0.4, 4: 0.3})
    given = {**encoder_flags, "checkpointing_steps": every, "checkpoints_total_limit": limit, "evaluation_share": 0.99}
    watched(pipelines, tmp_path, "run", given, evaluate_every=1)
    run = tmp_path / "run"
    assert {int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*")} == left
    assert json.loads((run / "run.json").read_text())["choice"]["step"] == 2
    assert open_model(str(run / "checkpoint-2")).learner is not None


BEST_AT_2 = {0: 0.2, 1: 0.5, 2: 0.8, 3: 0.4, 4: 0.3, 5: 0.3}


def test_a_run_that_is_saved_by_itself_keeps_the_best_the_newest_and_the_one_before(pipelines, encoder_flags, tmp_path, monkeypatch):
    seen_as(monkeypatch, {0: 0.2, 1: 0.3, 2: 0.8, **dict.fromkeys(range(3, 9), 0.4)})
    given = {**encoder_flags, "checkpointing_steps": None, "max_train_steps": 8, "evaluate_every": 1, "evaluation_share": 0.99}
    records = watched(pipelines, tmp_path, "run", given)
    assert set(map(step_of, checkpoints(tmp_path / "run"))) == {2, 6, 8}
    (line,) = [output.text for output in records if isinstance(output, Message) and "newest 2 and the best" in output.text]
    assert "at most 3 of" in line


@pytest.mark.parametrize(("by_hand", "left"), [(None, {1, 4}), (3, {1, 3})])
def test_an_early_end_is_a_moment_to_save_too(pipelines, encoder_flags, tmp_path, monkeypatch, by_hand, left):
    seen_as(monkeypatch, {0: 0.2, 1: 0.8, 2: 0.4, 3: 0.4, 4: 0.4})
    given = {**encoder_flags, "checkpointing_steps": by_hand, "max_train_steps": 100, "evaluate_every": 1, "evaluation_share": 0.99}
    watched(pipelines, tmp_path, "run", given, stop_early=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["step"] == 4
    assert set(map(step_of, checkpoints(tmp_path / "run"))) == left


def test_the_last_lines_name_the_best_step_and_the_command_that_draws_it(pipelines, encoder_flags, tmp_path, monkeypatch, capsys):
    seen_as(monkeypatch, BEST_AT_2)
    watched(pipelines, tmp_path, "my dog", {**encoder_flags, "checkpointing_steps": None}, evaluate_every=1, evaluation_share=0.99)
    run = tmp_path / "my dog"
    record = json.loads((run / "run.json").read_text())
    assert (record["choice"]["step"], record["choice"]["last"], record["result_step"]) == (2, 4, 4)
    records = list(train(train_config(config=run / "config.yaml", resume_from_checkpoint="latest")))  # its last words once more
    (line,) = [output.text for output in records if isinstance(output, Message) and "Use it: " in output.text]
    assert line.startswith(record["choice"]["why"]) and record["choice"]["why"] in (run / "report.html").read_text()
    program, *words = shlex.split(line.split("Use it: ")[1])
    assert (program, words) == ("dreambooth", ["generate", f"{run}@2", "a [V] dog on the beach"])
    assert main([*words, "--num_images", "1", "--num_inference_steps", "1"]) == 0
    assert list((run / "samples" / "generated" / "checkpoint-2").glob("*.png")), "where deleting the checkpoint does not delete them"
    assert main(["generate", f"{run}@1", "a dog"]) == 2
    assert f"There are {run}@2, {run}@3, {run}@4." in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("settings", [{}, {"method": "lora", "use_ema": True, "output_kohya_format": True}], ids=["full", "average"])
def test_the_best_becomes_the_result_where_that_was_asked_for(pipelines, encoder_flags, tmp_path, monkeypatch, settings):
    seen_as(monkeypatch, BEST_AT_2)
    asked = {**encoder_flags, **settings, "evaluate_every": 1, "evaluation_share": 0.99, "keep_best": True, "skip_final_inference": False}
    asked |= {"num_validation_images": 1}
    records = watched(pipelines, tmp_path, "best", asked)
    watched(pipelines, tmp_path, "short", {**settings, "max_train_steps": 2})
    same_files(weights(tmp_path / "best"), weights(tmp_path / "short"))
    run = tmp_path / "best"
    record = json.loads((run / "run.json").read_text())
    assert (record["result_step"], record["step"], record["choice"]["step"]) == (2, 4, 2)
    assert "step 2 of 4" in (run / "README.md").read_text() and "the result is of step 2" in (run / "report.html").read_text()
    assert not [output.text for output in records if isinstance(output, Message) and "Use it" in output.text], "the run itself is the best"
    assert {read_settings(path)["step"] for path in (run / "samples" / "final").glob("*.png")} == {2}
    drawn = []
    for name in (run, f"{run}@best", f"{run}@2"):
        *_, last = generate(GenerateConfig(run=str(name), prompt=("a [V] dog",), num_images=1, output_dir=str(tmp_path / "drawn")))
        drawn.append(np.asarray(last.pictures[0].image))
    drawn.append(np.asarray(open_run(f"{run}@2").generate("a [V] dog", num_images=1, output_dir=str(tmp_path / "drawn"))[0]))
    assert all(np.array_equal(drawn[0], other) for other in drawn[1:])
    assert np.array_equal(drawn[0], np.asarray(Image.open(run / "samples" / "final" / "00-seed0.png")))
    again = watched(pipelines, tmp_path, "best", {**asked, "max_train_steps": 5, "resume_from_checkpoint": "latest"})
    assert again[-1].record["step"] == 5, "the training itself goes on from its last step"


def test_keep_best_without_evaluations_is_refused(pipelines, tmp_path):
    with pytest.raises(SettingError, match=r"--keep_best: .*--evaluate_every"):
        watched(pipelines, tmp_path, "run", {}, keep_best=True)
    assert not (tmp_path / "run").exists()


def test_the_best_of_a_run_that_was_stopped_can_be_drawn_with(pipelines, encoder_flags, tmp_path, monkeypatch):
    seen_as(monkeypatch, BEST_AT_2)
    given = {**encoder_flags, "checkpointing_steps": None, "evaluate_every": 1, "evaluation_share": 0.99, "output_dir": tmp_path / "run"}
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, class_noun="dog", max_train_steps=4, **given)
    with pytest.raises(Interrupted):
        list(train(wanted, stop=lambda: (tmp_path / "run" / "checkpoint-3").is_dir()))
    assert open_model(f"{tmp_path / 'run'}@best").name == str(tmp_path / "run" / "checkpoint-2")
    with pytest.raises(SettingError, match="is interrupted"):
        open_model(str(tmp_path / "run"))


def test_a_lora_of_a_checkpoint_goes_onto_a_base_model(pipelines, encoder_flags, tmp_path, monkeypatch):
    seen_as(monkeypatch, BEST_AT_2)
    given = {**encoder_flags, "method": "lora", "checkpointing_steps": None, "evaluate_every": 1, "evaluation_share": 0.99}
    watched(pipelines, tmp_path, "run", given)
    on_base = open_model(str(pipelines("stable_diffusion")), Opening(lora=f"{tmp_path / 'run'}@best")).family
    own = open_model(f"{tmp_path / 'run'}@2").family
    assert torch.equal(tiny.picture(on_base.pipe), tiny.picture(own.pipe))
    with pytest.raises(SettingError, match=r"^--lora: "):
        open_model(str(pipelines("stable_diffusion")), Opening(lora=f"{tmp_path / 'run'}@1"))


def test_a_new_run_in_an_old_folder_begins_with_an_evaluation_pass_of_its_own(pipelines, encoder_flags, tmp_path, monkeypatch):
    given = {**encoder_flags, "checkpointing_steps": 500, "max_train_steps": 1, "evaluate_every": 1, "overwrite_output_dir": True}
    for dino in (0.9, 0.2):
        seen_as(monkeypatch, {0: dino, 1: 0.5})
        watched(pipelines, tmp_path, "run", given)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["dino"]) == (0, 0.2)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_looks_that_begin_in_the_middle_see_the_untuned_model_where_the_method_can_go_back(pipelines, encoder_flags, tmp_path, method):
    given = {"method": method, "checkpointing_steps": 2}
    watched(pipelines, tmp_path, "run", given, max_train_steps=2)
    looks = {**encoder_flags, **given, "evaluate_every": 2, "evaluation_share": 0.99, "resume_from_checkpoint": "latest"}
    records = watched(pipelines, tmp_path, "run", looks)
    seen = [record.step for record in records if isinstance(record, Scores)]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    if method == "lora":
        assert seen == [0, 4] and record["choice"]["step"] == 4
    else:
        assert seen == [4] and record["choice"] is None
        assert any("no checkpoint will be chosen" in output.text for output in records if isinstance(output, Message))


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ({"evaluate_every": 2, "dino_encoder": "none"}, "--dino_encoder"),
        ({"evaluate_every": 2, "identifier": None}, "--evaluate_every: .*which word"),
        ({"validation_prompt": "a [V] dog", "identifier": None}, "--validation_prompt"),
    ],
)
def test_what_would_fail_at_the_first_evaluation_pass_is_reported_before(pipelines, encoder_flags, tmp_path, given, output):
    with pytest.raises(SettingError, match=output):
        watched(pipelines, tmp_path, "run", {**encoder_flags, **given})
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
