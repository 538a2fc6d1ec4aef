"""Between two readings an update waits for no number: nothing of it is read by the host, so that a device is never idle for that."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from dreambooth.run.train import train
from dreambooth.training.batches import Batches
from dreambooth.training.loop import Trainer
from tests.training.runs import config

READS = {torch.ops.aten._local_scalar_dense.default: "a number read", torch.ops.aten.nonzero.default: "places counted"}
METHODS = ("full", "lora", "loha", "lokr", "oft", "textual_inversion", "custom_diffusion")


class Stalls(TorchDispatchMode):
    """Counts what makes the host wait for a device: numbers that are read, sizes that depend on them, copies from one to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        is_coin = isinstance(args[0] if args else None, torch.Tensor) and args[0].dtype == torch.bool and args[0].shape == (1,)
        if func in READS and not is_coin:  # PEFT's LoHa and LoKr draw on the host whether a module is dropped
            self.found[READS[func]] += 1
        if isinstance(out, torch.Tensor) and any(isinstance(one, torch.Tensor) and one.device != out.device for one in args):
            self.found["copied between devices"] += 1
        return out


@pytest.fixture
def stalls(monkeypatch):
    """What makes the updates of a training wait. What is drawn for a row is drawn on the host, and waits for nobody."""
    counter, one, draw = Stalls(), Trainer._one, Batches._draw

    def counted(self):
        with counter:
            one(self)

    def drawn(self, *args):
        with _disable_current_modes():
            return draw(self, *args)

    monkeypatch.setattr(Trainer, "_one", counted)
    monkeypatch.setattr(Batches, "_draw", drawn)
    return counter.found


def run(pipelines, tmp_path, family="stable_diffusion", **settings):
    given = {"max_train_steps": 2, "log_interval": 2, "num_class_images": 2, "prior_inference_steps": 1, **settings}
    list(train(config(pipelines(family), root=tmp_path, output_dir=tmp_path / "run", **given)))


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reads_a_number_in_an_update(method, pipelines, tmp_path, stalls):
    settings = {"with_prior_preservation": False} if method == "textual_inversion" else {}
    settings |= {"instance_prompt": None, "identifier": None, "class_noun": "dog"} if method in METHODS[5:] else {}
    run(pipelines, tmp_path, method=method, **settings)
    assert not stalls


@pytest.mark.parametrize(
    "settings",
    [
        {"mixed_precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation_steps": 2},
        {"use_ema": True, "snr_gamma": 5.0, "offset_noise": 0.1, "min_timestep": 100},
        {"base_weights": "nf4"},
        {"use_8bit_adam": True},
    ],
)
def test_no_setting_makes_an_update_read_one(settings, pipelines, tmp_path, stalls):
    run(pipelines, tmp_path, method="lora", with_prior_preservation=False, **settings)
    assert not stalls


@pytest.mark.parametrize("family", ["sdxl", "flux", "sd3"])
def test_nor_does_a_family(family, pipelines, tmp_path, stalls):
    run(pipelines, tmp_path, family, method="lora", with_prior_preservation=False)
    assert not stalls


def test_nor_do_steps_within_the_backward_pass(pipelines, tmp_path, stalls):
    run(pipelines, tmp_path, method="full", with_prior_preservation=False, max_grad_norm=0, fused_backward_pass=True)
    assert not stalls
