"""The pull to the initial weights: its gradient, its start, and that it stands in the place of class images."""

import pytest
import torch
from torch import nn

from dreambooth.stream import train
from dreambooth.training.anchor import Anchor
from tests.training import runs


def test_the_pull_is_the_gradient_of_the_mean_square_of_each_tensor():
    rng = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for shape in ((3, 4), (5,), (2, 2))]
    start = [p.detach().clone() for p in parameters]
    anchor = Anchor(parameters, 7.0)
    with torch.no_grad():
        for parameter in parameters:
            parameter += torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    loss = sum(p.sum() for p in parameters[:2])
    whole = loss + 7.0 * sum((p - s).square().mean() for p, s in zip(parameters, start, strict=True))
    expected = torch.autograd.grad(3.0 * whole, parameters)
    (3.0 * sum(p.sum() for p in parameters[:2])).backward()
    anchor.pull(scale=3.0)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def learned(base, tmp_path, name: str, **settings):
    """The distance of a run's weights from the base's, and its files."""
    given = {
        "with_prior_preservation": None, "class_prompt": None, "num_class_images": None, "prior_inference_steps": None,
        "class_noun": "dog", "method": "lora", "max_train_steps": 4, "checkpointing_steps": 2,
    }  # fmt: skip
    wanted = runs.config(base, root=tmp_path, output_dir=str(tmp_path / name), **{**given, **settings})
    for _ in train(wanted):
        pass
    return runs.weights(tmp_path / name)


@pytest.fixture
def base(pipelines):
    return pipelines("stable_diffusion")


def test_a_strong_pull_keeps_the_weights_near_and_needs_no_class_images(base, tmp_path):
    from safetensors.torch import load_file

    sizes = {}
    for strength in (1e-9, 1e6):
        (file,) = learned(base, tmp_path, f"run-{strength}", weight_anchor=strength).values()
        sizes[strength] = sum(value.abs().sum().item() for name, value in load_file(file).items() if "lora_B" in name or "lora.up" in name)
    assert 0 < sizes[1e6] < 0.9 * sizes[1e-9]
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_a_resumed_run_is_pulled_to_where_the_first_one_began(base, tmp_path):
    whole = learned(base, tmp_path, "whole", weight_anchor=1e4)
    learned(base, tmp_path, "cut", weight_anchor=1e4, max_train_steps=2)
    cut = learned(base, tmp_path, "cut", weight_anchor=1e4, resume_from_checkpoint="latest")
    runs.same_files(whole, cut)
