"""Each tensor steps within the backward pass: the same weights, and no gradients kept."""

import pytest
import torch
from torch import nn

from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import family_of
from dreambooth.memory.fitting import fitting, least_estimate
from dreambooth.memory.levers import LEVERS
from dreambooth.memory.phases import Rehearsal
from dreambooth.run.train import train
from dreambooth.setup.config import resolve
from dreambooth.training import loop
from dreambooth.training.step import FusedUpdate, Update
from tests.training.runs import config, same_files, weights

FREE = {"method": "full", "max_grad_norm": 0, "gradient_accumulation_steps": 1, "with_prior_preservation": False}


def run(model, tmp_path, name, **settings):
    """The folder of a run of three updates."""
    given = {**FREE, "max_train_steps": 3, "output_dir": tmp_path / name, **settings}
    list(train(config(model, root=tmp_path, **given)))
    return tmp_path / name


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"train_text_encoder": True, "text_encoder_lr": 1e-4}, {"gradient_checkpointing": True, "use_ema": True},
        {"mixed_precision": "bf16", "with_prior_preservation": True, "lr_scheduler": "cosine"},
    ],
)  # fmt: skip
def test_the_weights_are_those_of_steps_after_the_backward_pass(settings, pipelines, tmp_path):
    model = pipelines("stable_diffusion")
    after, within = (run(model, tmp_path, str(fused), fused_backward_pass=fused, **settings) for fused in (False, True))
    same_files(weights(after), weights(within))


def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(pipelines, tmp_path):
    model, fused = pipelines("flux2"), {"fused_backward_pass": True}
    whole = run(model, tmp_path, "whole", **fused)
    run(model, tmp_path, "parts", max_train_steps=1, checkpointing_steps=1, **fused)
    parts = run(model, tmp_path, "parts", checkpointing_steps=1, resume_from_checkpoint="latest", **fused)
    same_files(weights(whole), weights(parts))


def test_no_gradient_stays_and_a_trial_steps_nothing():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [parameter.detach().clone() for parameter in layers.parameters()]
    update = FusedUpdate(torch.optim.SGD(layers.parameters(), lr=0.1), max_grad_norm=0.0, precision="no", device=torch.device("cpu"))
    layers(torch.ones(1, 4)).sum().backward()
    assert all(parameter.grad is None for parameter in layers.parameters())
    assert all(torch.equal(was, parameter) for was, parameter in zip(before, layers.parameters(), strict=True))
    with update.backward():
        layers(torch.ones(1, 4)).sum().backward()
    assert all(parameter.grad is None for parameter in layers.parameters())
    assert not any(torch.equal(was, parameter) for was, parameter in zip(before, layers.parameters(), strict=True))


def test_the_norm_is_that_of_all_gradients():
    torch.manual_seed(0)
    norms = []
    for kind in (Update, FusedUpdate):
        layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        for place, parameter in enumerate(layers.parameters()):
            nn.init.constant_(parameter, 0.1 * (place + 1))
        update = kind(torch.optim.SGD(layers.parameters(), lr=0.1), max_grad_norm=0.0, precision="no", device=torch.device("cpu"))
        with update.backward():
            layers(torch.ones(1, 4)).sum().backward()
        norms.append(update.apply()[0])
    assert norms[0] > 0
    assert torch.allclose(*norms)


def test_without_clipping_a_long_gradient_is_stepped_as_it_is():
    moved = []
    for longest in (0.0, 1.0):
        parameter = nn.Parameter(torch.zeros(1))
        update = Update(torch.optim.SGD([parameter], lr=1.0), max_grad_norm=longest, precision="no", device=torch.device("cpu"))
        parameter.grad = torch.full((1,), 3.0)
        update.apply()
        moved.append(parameter.item())
    assert moved == pytest.approx([-3, -1], rel=1e-5)


@pytest.mark.parametrize("settings", [{"fused_backward_pass": True}, {"use_8bit_adam": True}, {"optimizer": "prodigy"}])
def test_what_is_not_finite_ends_the_run_and_is_not_saved(settings, pipelines, tmp_path, monkeypatch):
    plain = loop.forward_backward

    def broken(family, batches, **settings):
        return plain(family, batches, **{**settings, "scale": float("nan")})

    monkeypatch.setattr(loop, "forward_backward", broken)
    with pytest.raises(RunError, match="Nothing of it was saved"):
        run(pipelines("stable_diffusion"), tmp_path, "run", checkpointing_steps=1, **settings)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"max_grad_norm": 1.0}, "--max_grad_norm 0"), ({"gradient_accumulation_steps": 2}, "--gradient_accumulation_steps 1"),
        ({"method": "lora"}, "--method full"), ({"method": "lokr"}, "--method full"),
        ({"mixed_precision": "fp16"}, "bf16"), ({"aspect_ratio_buckets": True}, "--aspect_ratio_buckets"),
        ({"optimizer": "prodigy"}, "--optimizer adamw"),
    ],
)  # fmt: skip
def test_where_all_gradients_are_needed_at_once_it_is_refused_with_the_reason(settings, fix, pipelines, tmp_path):
    with pytest.raises(SettingError) as refused:
        run(pipelines("stable_diffusion"), tmp_path, "run", fused_backward_pass=True, **settings)
    assert refused.value.setting == "--fused_backward_pass"
    assert fix in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", [{}, {"use_8bit_adam": True}])
def test_the_plan_counts_no_gradients_that_are_gone(optimizer, pipelines, tmp_path):
    peaks, gradients = [], []
    for fused in (False, True):
        given = config(pipelines("flux"), root=tmp_path, train_batch_size=1, fused_backward_pass=fused, **FREE, **optimizer)
        peak = Rehearsal(resolve(given, family_of(given.model)), on_cpu=True).training()
        peaks.append(peak.bytes)
        gradients.append(peak.parts.get("gradients", 0))
    assert gradients[0] > 0
    assert peaks[0] - peaks[1] > gradients[0] / 2


def test_fit_leaves_clipping_as_it_is_and_takes_the_lever_where_there_is_none(pipelines, tmp_path):
    fused = next(lever for lever in LEVERS if lever.acts_on == ("gradients",))
    for longest, changes in ((1.0, {}), (0.0, {("execution", "fused_backward_pass"): True})):
        given = config(pipelines("stable_diffusion"), root=tmp_path, **{**FREE, "max_grad_norm": longest})
        assert fused.changes(given) == changes
    freed = given.updated(changes)
    device = torch.device("cpu")
    plain, less = (least_estimate(resolve(one, family_of(one.model)), device, limit=None).need_of("training") for one in (given, freed))
    assert less < plain


def test_smaller_parts_take_the_place_of_steps_within_the_backward_pass(pipelines, tmp_path):
    given = config(pipelines("stable_diffusion"), root=tmp_path, fused_backward_pass=True, **FREE)
    changes = {path: value for lever in LEVERS for path, value in lever.changes(given).items()}
    assert changes["loop", "gradient_accumulation_steps"] == 2
    assert changes["execution", "fused_backward_pass"] is False


def test_fit_of_several_processes_leaves_it_out(pipelines, tmp_path):
    """Each tensor was stepped by one process's gradient, before those of the others were added."""
    given = config(pipelines("flux"), root=tmp_path, train_batch_size=1, gradient_checkpointing=True, **FREE)
    given, device = resolve(given, family_of(given.model)), torch.device("cpu")
    plain = least_estimate(given, device, limit=1)
    found = [fitting(given, device, limit=1, plain=plain, processes=count).flags for count in (1, 2)]
    assert ["--fused_backward_pass" in flags for flags in found] == [True, False]
