"""Looks at a model while it is trained: their curves, and that the training does not notice them."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from dreambooth.evaluation import LiveScores
from dreambooth.evaluation.protocol import held_out
from dreambooth.families.sampling import Sampling
from dreambooth.metrics.encoders import EncoderSettings
from tests import tiny
from tests.metrics.encoders import picture


@pytest.fixture
def live(pipelines, encoder_flags):
    encoders = EncoderSettings(**encoder_flags).load(device=torch.device("cpu"))
    return LiveScores(
        tiny.load(pipelines("stable_diffusion")), encoders, held_out("dog", toybox=True)[:2], "sks", "a dog", [picture(1), picture(2)],
        Sampling(num_inference_steps=2, height=16), class_samples=3,
    )  # fmt: skip


def test_an_evaluation_pass_gives_the_four_curves_and_its_cost(live):
    found = live.evaluate(0, nullcontext)
    assert {"dino", "clip_t", "pres", "div", "copying", "evaluation_seconds"} <= found.values.keys() and len(found.pictures) == 4
    again = live.evaluate(10, nullcontext)
    same = {k: v for k, v in found.values.items() if k != "evaluation_seconds"}
    assert same == {k: v for k, v in again.values.items() if k != "evaluation_seconds"}, "fixed seeds: a model that rests has flat curves"
    assert live.curve[0] == found.signals and live.choose([10]).step == 10 and live.choose([7]) is None
    assert not live.should_stop()


def test_an_evaluation_pass_leaves_the_random_numbers_of_the_training_alone(live):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    live.evaluate(0, nullcontext)
    assert torch.equal(torch.rand(3), expected)


def test_an_evaluation_pass_shows_what_previews_show(live):
    seen = []

    @contextmanager
    def shown():
        seen.append("in")
        yield
        seen.append("out")

    live.evaluate(3, shown)
    assert seen == ["in", "out"]


def test_looking_has_a_bound(live):
    assert live.is_due(10, 5) and not live.is_due(11, 5)
    live.spent = 1e9
    assert not live.is_due(10, 5)
