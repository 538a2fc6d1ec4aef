"""Muon: its steps are orthogonal and of AdamW's length, it moves only what it is given, and a stage continues with it."""

import pytest
import torch
from torch import nn

from dreambooth.toybox.pretrain import loop
from dreambooth.toybox.pretrain.loop import Budget, Stage, train
from dreambooth.toybox.pretrain.muon import Muon, matrices, orthogonal


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(1, *shape))[0].float())
    assert values.min() > 0.4 and values.max() < 1.3


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_in_any_layout_moves_by_the_rate(memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(16, 8, 3, 3).to(memory_format=memory).requires_grad_()
    before, kernel.grad = kernel.detach().clone(), torch.randn(16, 8, 3, 3).to(memory_format=memory)
    Muon([kernel], lr=0.1, weight_decay=0.0).step()
    moved = (kernel.detach() - before) / -0.1
    assert 0.1 < moved.square().mean().sqrt() < 0.3
    assert torch.allclose(moved.flatten(1), orthogonal(kernel.grad.flatten(1)[None])[0].float() * (0.2 * 72**0.5), atol=0.05)


def test_muon_gets_inner_matrices_alone() -> None:
    model = nn.ModuleDict({"first": nn.Linear(4, 8), "inner": nn.Conv2d(8, 8, 3), "norm": nn.GroupNorm(2, 8), "words": nn.Embedding(5, 8)})
    assert matrices(model, outer=("first",)) == {model["inner"].weight}


class Turned(Stage):
    """Fits a matrix with Muon and a shift with AdamW."""

    name, rate = "turned", 0.02

    def __init__(self) -> None:
        self.model = nn.Linear(6, 6)
        self.right = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]

    def modules(self):
        return {"turned": (self.model, 1.0)}

    def matrices(self):
        return {self.model.weight}

    def loss(self, rng, done):
        x = torch.randn(32, 6, generator=rng)
        return (self.model(x) - x @ self.right - 1).square().mean(), {}, 32

    def export(self, folder):
        return {"off": (self.model.weight.T - self.right).square().mean().item(), "shift": self.model.bias.mean().item()}


def test_a_stage_learns_with_muon_and_continues(tmp_path) -> None:
    first = list(train(Turned, tmp_path, Budget(minutes=0.05, processes=1, log_every=10, warmup=5)))
    again = list(train(Turned, tmp_path, Budget(minutes=0.08, processes=1, log_every=10, warmup=5)))
    assert again[-1].step > first[-1].step
    assert again[-1].figures["off"] < 0.02 and abs(again[-1].figures["shift"] - 1) < 0.2


def test_an_hour_in_which_the_process_was_stopped_does_not_count(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "LONGEST", 0.01)
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(loop.time, "time", lambda: float(next(jumps)))
    records = list(train(Turned, tmp_path, Budget(minutes=0.01, processes=1, log_every=10, warmup=5, save_seconds=1e9)))
    assert records[-1].step == 60 and records[-1].seconds == pytest.approx(0.6)
