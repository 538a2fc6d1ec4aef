"""Frozen weights kept in few bits: the network of the rounded weights, to train beside and to go on from."""

import copy
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.memory.phases import Rehearsal
from dreambooth.run.train import train
from dreambooth.setup.base_weights import FORMATS, store
from dreambooth.setup.config import resolve
from dreambooth.setup.model import attach, load_base
from tests.training.runs import config, same_files, weights

ERROR = {"bf16": 0.003, "fp8": 0.04, "int8": 0.015, "nf4": 0.12}
"""Largest share of a normal weight's norm that is lost."""


def layers() -> list[nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [nn.Linear(64, 96), nn.Linear(96, 40, bias=False), nn.Conv2d(4, 8, 3, padding=1, stride=2)]
    for layer in made:
        layer.requires_grad_(False).weight.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    return made


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_layer_is_the_layer_of_the_rounded_weight_forward_and_backward(name, precision):
    for plain, shape in zip(layers(), [(3, 5, 64), (7, 96), (2, 4, 9, 9)], strict=True):
        packed = nn.Sequential(copy.deepcopy(plain))
        store(packed, name)
        lost = (packed[0].weight - plain.weight).norm() / plain.weight.norm()
        assert lost < ERROR[name]
        plain.weight.copy_(packed[0].weight)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2), requires_grad=True)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            expected, found = plain(x), packed(x)
        assert expected.dtype == found.dtype == precision
        assert torch.allclose(expected, found, atol=1e-2 if precision == torch.bfloat16 else 1e-6)
        wanted, own = (torch.autograd.grad(y.float().pow(2).sum(), x)[0] for y in (expected, found))
        assert torch.allclose(wanted, own, atol=1e-2 if precision == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize(("name", "most"), [("bf16", 2.0), ("fp8", 1.1), ("int8", 1.1), ("nf4", 0.57)])
def test_a_weight_takes_as_many_bytes_as_the_help_says(name, most):
    layer = nn.Linear(128, 256, bias=False)
    net = nn.Sequential(layer)
    store(net, name)
    assert sum(buffer.nbytes for buffer in net.buffers()) <= most * 128 * 256
    assert not list(net.parameters())


@pytest.mark.parametrize("method", ["lora", "loha", "lokr", "oft"])
@pytest.mark.parametrize("name", ["int8", "nf4"])
@pytest.mark.parametrize("family", ["stable_diffusion", "flux2"])
def test_before_the_first_step_the_model_is_the_rounded_one(family, name, method, pipelines, tmp_path):
    given = config(pipelines(family), root=tmp_path, method=method, base_weights=name)
    rounded, learning = load_base(given), load_base(given)
    attach(given, learning, seed=0).mode(train=False)
    shape, times = rounded.latent_shape(16, 16), rounded.process.times
    with torch.no_grad():
        table = rounded.embed(rounded.tokenize(["a dog"]))
        x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
        condition = {**table, **rounded.geometry((16, 16), (0, 0), (16, 16))}
        before, after = (one.answer(x, times[len(times) // 2 : len(times) // 2 + 1], condition) for one in (rounded, learning))
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("name", ["nf4", "int8", "fp8"])
def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(name, pipelines, tmp_path):
    given = {"method": "lora", "base_weights": name, "max_train_steps": 4, "with_prior_preservation": False}
    model = pipelines("stable_diffusion")
    list(train(config(model, root=tmp_path, output_dir=tmp_path / "whole", **given)))
    half = {**given, "max_train_steps": 2, "checkpointing_steps": 2, "output_dir": tmp_path / "parts"}
    list(train(config(model, root=tmp_path, **half)))
    list(train(config(model, root=tmp_path, **{**half, "max_train_steps": 4, "resume_from_checkpoint": "latest"})))
    same_files(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_what_was_learned_loads_on_the_model_as_it_was_published(pipelines, tmp_path):
    model = pipelines("stable_diffusion")
    settings = {"method": "lora", "base_weights": "nf4", "max_train_steps": 1, "with_prior_preservation": False}
    list(train(config(model, root=tmp_path, output_dir=tmp_path / "run", **settings)))
    family = family_of(ModelSource(pretrained_model_name_or_path=str(model))).load(ModelSource(pretrained_model_name_or_path=str(model)))
    family.pipe.load_lora_weights(tmp_path / "run")
    names = load_file(tmp_path / "run" / "pytorch_lora_weights.safetensors")
    assert names and all("lora" in name for name in names)
    assert not any("packed" in name for name in family.pipe.unet.state_dict())


@pytest.mark.parametrize("name", FORMATS)
def test_full_fine_tuning_is_refused_with_the_reason(name, pipelines, tmp_path):
    with pytest.raises(SettingError, match="every weight learns") as refused:
        list(train(config(pipelines("stable_diffusion"), root=tmp_path, method="full", base_weights=name, output_dir=tmp_path / "run")))
    assert refused.value.setting == "--base_weights"
    assert not (tmp_path / "run").exists()


def test_weights_that_learn_in_place_are_left_whole(pipelines, tmp_path):
    family = load_base(config(pipelines("stable_diffusion"), root=tmp_path, method="custom_diffusion", base_weights="int8"))
    kinds = {path.rpartition(".")[2]: type(layer).__name__ for path, layer in family.denoiser.named_modules() if "attn2" in path}
    assert kinds["to_k"] == kinds["to_v"] == "Linear"
    assert kinds["to_q"] == "StoredLinear"


def test_the_plan_counts_them(pipelines, tmp_path):
    sizes = []
    for name in (None, "bf16", "int8", "nf4"):
        given = config(pipelines("flux2"), root=tmp_path, method="lora", base_weights=name)
        rehearsal = Rehearsal(resolve(given, family_of(given.model)), on_cpu=True)
        assert rehearsal.training().parts["weights"] > 0
        sizes.append(rehearsal.weights()["text_encoder"])
    assert all(before > after for before, after in pairwise(sizes))
