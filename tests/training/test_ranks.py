"""Two processes learn what one process with twice the batch learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.core.errors import SettingError
from dreambooth.run.train import train
from dreambooth.training.step import forward_backward
from tests.training.runs import config, weights
from tests.training.two import double_batch


def launched(*given: object) -> str:
    """What two processes print that run `tests.training.two` with these words."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.training.two"]
    done = subprocess.run(
        [*command, *map(str, given)], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("name", "settings"), [("full", {"train_text_encoder": True}), ("lora", {"method": "lora"})])
def test_two_processes_learn_what_one_does(name, settings, pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 3, **settings}
    for _ in train(config(**base, train_batch_size=4, output_dir=tmp_path / "one")):
        pass
    flags = [f"--{key}={value}" if not isinstance(value, bool) else f"--{key}" for key, value in settings.items()]
    launched(base["model"], tmp_path, tmp_path / "two", *flags)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for file in one:
        left, right = load_file(one[file]), load_file(two[file])
        worst = max(float((left[key].double() - right[key].double()).abs().max()) for key in left)
        assert worst < 1e-4, (file, worst)  # a tenth of one step: Adam enlarges the rounding of sums in another order


def test_without_a_seed_all_processes_learn_from_the_first_ones(pipelines, tmp_path):
    """Each chose its own by the clock; the picked identifier, the first weights and the order of photos hang on it."""
    launched("seeds", pipelines("stable_diffusion"), tmp_path)
    learned = [(tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert learned[0] == learned[1]


def test_processes_that_are_stopped_before_the_training_stop_together(pipelines, tmp_path):
    """While the first one draws class images, at once, if it is the one that was asked; else after an update, which is saved."""
    launched("stopped", pipelines("stable_diffusion"), tmp_path)
    first, second = ((tmp_path / f"rank{rank}.txt").read_text().splitlines() for rank in (0, 1))
    assert first == ["Interrupted 1 0", "Step-1 Saved-1 Interrupted 1 4", "Step-1 Saved-1 Interrupted 1 4"]
    assert second == first


def test_in_float64_the_gradients_of_two_processes_are_those_of_one(pipelines, tmp_path):
    model = pipelines("stable_diffusion")
    family, batch, objective = double_batch(model)
    forward_backward(family, batch, process=family.process.to("cpu", torch.float64), objective=objective)
    one = [p.grad for part in family.parts.values() for p in part.parameters() if p.requires_grad]
    launched("gradients", model, tmp_path / "sum.safetensors")
    two = load_file(tmp_path / "sum.safetensors")
    assert len(one) == len(two)
    for place, gradient in enumerate(one):
        other = torch.zeros_like(two[str(place)]) if gradient is None else gradient
        assert torch.allclose(other, two[str(place)], rtol=1e-9, atol=1e-12)


def test_gradients_are_summed_over_processes_not_averaged():
    assert launched("sum").count("summed 3.0") == 2


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_a_launcher_that_was_to_divide_the_model_otherwise_is_refused(name, pipelines, tmp_path, monkeypatch):
    """It was ignored: each process held the whole model, and nothing said why memory ran out."""
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(SettingError) as refused:
        list(train(config(pipelines("stable_diffusion"), root=tmp_path, method="lora", output_dir=tmp_path / "run")))
    assert refused.value.setting == "accelerate launch"
    assert "--fsdp_version 2" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_two_processes_do_together_what_the_folder_of_their_run_asks_for(pipelines, tmp_path):
    """The first alone reads it; one that drew, saved, stopped or finished without the other would wait for it for ever."""

    def learned(*asked: str) -> list[list[str]]:
        launched("steered", pipelines("stable_diffusion"), tmp_path, *asked)
        return [(tmp_path / f"rank{rank}.txt").read_text().split() for rank in (0, 1)]

    first, second = learned("2", "sample", "stop")
    assert first == ["Preview", "1", "2", "Preview", "Saved", "Interrupted"] and second == ["1", "2", "Saved", "Interrupted"]
    first, second = learned("4", "save", "finish")
    assert first == ["3", "4", "Saved", "Saved"] and second == ["3", "4", "Saved"]  # the result is the first one's to save
