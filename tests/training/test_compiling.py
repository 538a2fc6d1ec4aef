"""A compiled denoiser learns what the plain one does, is one graph for each block, and is saved in plain names."""

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from dreambooth.core.errors import SettingError
from dreambooth.memory.levers import LEVERS
from dreambooth.run.train import train
from dreambooth.setup.model import attach, load_base
from dreambooth.training.execution import Execution
from tests.training.runs import config, same_files, weights


@pytest.fixture(autouse=True)
def nothing_compiled():
    """Nothing that another test has compiled counts here."""
    torch._dynamo.reset()
    counters.clear()


def learned(model, root, execution, **settings):
    """A family after a backward pass: its answer, and the gradients of what learns."""
    given = config(model, root=root, method="lora", **settings)
    family = load_base(given)
    learner = attach(given, family, seed=0)
    learner.mode(train=True)
    names = list(family.denoiser.state_dict())
    execution.compile(family.denoiser, backend="aot_eager")
    assert list(family.denoiser.state_dict()) == names
    with torch.no_grad():
        table = family.embed(family.tokenize(["a dog", "a photo of a dog"]))
    x = torch.randn((2, *family.latent_shape(16, 16)), generator=torch.Generator().manual_seed(0))
    geometry = family.geometry((16, 16), (0, 0), (16, 16))
    out = family.answer(x, family.process.times[[5, 6]], {**table, **{name: torch.cat([one] * 2) for name, one in geometry.items()}})
    out.pow(2).sum().backward()
    return [out.detach(), *(p.grad for some in learner.parameters().values() for p in some if p.grad is not None)]


@pytest.mark.parametrize("family", ["stable_diffusion", "flux", "sd3"])
def test_blocks_are_one_graph_each_and_answer_the_same(family, pipelines, tmp_path):
    plain = learned(pipelines(family), tmp_path, Execution())
    assert not counters["stats"]
    compiled = learned(pipelines(family), tmp_path, Execution(torch_compile=True))
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(plain, compiled, strict=True))


def test_a_run_by_inductor_learns_the_same_and_goes_on_exactly(pipelines, tmp_path):
    model = pipelines("stable_diffusion")
    given = {"method": "lora", "max_train_steps": 2, "with_prior_preservation": False, "checkpointing_steps": 1}
    whole, plain, parts = (tmp_path / name for name in ("whole", "plain", "parts"))
    list(train(config(model, root=tmp_path, output_dir=plain, **given)))
    given |= {"torch_compile": True}
    list(train(config(model, root=tmp_path, output_dir=whole, **given)))
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    list(train(config(model, root=tmp_path, output_dir=parts, **{**given, "max_train_steps": 1})))
    list(train(config(model, root=tmp_path, output_dir=parts, resume_from_checkpoint="latest", **given)))
    same_files(weights(whole), weights(parts))
    for name in weights(plain):
        expected, found = load_file(plain / name), load_file(whole / name)
        assert expected.keys() == found.keys()
        assert all(torch.allclose(expected[key], found[key], atol=1e-4) for key in expected)


class Block(torch.nn.Module):
    """Something of our own to compile: torch's own layers are not, when they stand alone."""

    def forward(self, x):
        return x.sin() + 1


def test_pictures_are_drawn_as_if_nothing_had_been_compiled():
    layer = Block()
    layer.compile(backend="aot_eager")
    with Execution(torch_compile=True).drawing(), torch.no_grad():
        layer(torch.ones(1, 4))
    assert not counters["stats"]
    layer(torch.ones(1, 4))
    assert counters["stats"]["unique_graphs"] == 1


def test_a_machine_without_a_compiler_is_refused_before_anything_is_written(pipelines, tmp_path, monkeypatch):
    monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "g++"),))
    with pytest.raises(SettingError, match="C\\+\\+ compiler") as refused:
        list(train(config(pipelines("stable_diffusion"), root=tmp_path, method="lora", torch_compile=True, output_dir=tmp_path / "run")))
    assert refused.value.setting == "--torch_compile"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"method": "loha"}, "draws"), ({"method": "lokr"}, "draws"), ({"method": "lora", "base_weights": "int8"}, "--base_weights")],
)
def test_layers_that_break_every_graph_are_refused_with_the_reason(settings, reason, pipelines, tmp_path):
    with pytest.raises(SettingError, match=reason) as refused:
        list(train(config(pipelines("stable_diffusion"), root=tmp_path, torch_compile=True, output_dir=tmp_path / "run", **settings)))
    assert refused.value.setting == "--torch_compile"


def test_fit_packs_no_weights_of_what_is_compiled(pipelines, tmp_path):
    for compiled in (False, True):
        given = config(pipelines("stable_diffusion"), root=tmp_path, method="lora", torch_compile=compiled)
        changes = {path for lever in LEVERS for path in lever.changes(given)}
        assert (("loop", "base_weights") in changes) is not compiled
