"""Two processes learn what one process with twice the batch learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.run.train import train
from dreambooth.training.step import forward_backward
from tests.training.runs import config, weights
from tests.training.two import double_batch

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]


@pytest.mark.parametrize(("name", "settings"), [("full", {"train_text_encoder": True}), ("lora", {"method": "lora"})])
def test_two_processes_learn_what_one_does(name, settings, pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 3, **settings}
    for _ in train(config(**base, train_batch_size=4, output_dir=tmp_path / "one")):
        pass
    flags = [f"--{key}={value}" if not isinstance(value, bool) else f"--{key}" for key, value in settings.items()]
    command = [
        *LAUNCH,
        str(29500 + os.getpid() % 400),
        "-m",
        "tests.training.two",
        str(base["model"]),
        str(tmp_path),
        str(tmp_path / "two"),
        *flags,
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for file in one:
        left, right = load_file(one[file]), load_file(two[file])
        worst = max(float((left[key].double() - right[key].double()).abs().max()) for key in left)
        assert worst < 1e-4, (file, worst)  # a tenth of one step: Adam enlarges the rounding of sums in another order


def test_without_a_seed_all_processes_learn_from_the_first_ones(pipelines, tmp_path):
    """Each chose its own by the clock; the picked identifier, the first weights and the order of photos hang on it."""
    command = [
        *LAUNCH,
        str(29500 + os.getpid() % 400),
        "-m",
        "tests.training.two",
        "seeds",
        str(pipelines("stable_diffusion")),
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    learned = [(tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert learned[0] == learned[1]


def test_in_float64_the_gradients_of_two_processes_are_those_of_one(pipelines, tmp_path):
    model = pipelines("stable_diffusion")
    family, batch, objective = double_batch(model)
    forward_backward(family, batch, process=family.process.to("cpu", torch.float64), objective=objective)
    one = [p.grad for part in family.parts.values() for p in part.parameters() if p.requires_grad]
    command = [
        *LAUNCH,
        str(29100 + os.getpid() % 400),
        "-m",
        "tests.training.two",
        "gradients",
        str(model),
        str(tmp_path / "sum.safetensors"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    two = load_file(tmp_path / "sum.safetensors")
    assert len(one) == len(two)
    for place, gradient in enumerate(one):
        other = torch.zeros_like(two[str(place)]) if gradient is None else gradient
        assert torch.allclose(other, two[str(place)], rtol=1e-9, atol=1e-12)


def test_gradients_are_summed_over_processes_not_averaged(tmp_path):
    command = [*LAUNCH, str(29950 + os.getpid() % 40), "-m", "tests.training.two", "sum"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("summed 3.0") == 2
    assert torch.distributed.is_available()
