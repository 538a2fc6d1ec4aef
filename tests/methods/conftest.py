"""Every pair of a family and a method, attached to all parts that can learn."""

from dataclasses import dataclass

import pytest
import torch

from dreambooth.families import Family
from dreambooth.methods import Full, Learner, LoRA, Method
from tests import tiny

METHODS = {"full": Full(), "lora": LoRA(rank=4, lora_alpha=2.0), "dora": LoRA(rank=2, lora_alpha=3.0, use_dora=True)}


@dataclass
class Pair:
    """A base model's folder, and how to have it learn in one way."""

    base: str
    method: Method

    def load(self) -> Family:
        return tiny.load(self.base)

    def attach(self, family: Family, *, seed: int = 0) -> Learner:
        return self.method.attach(family, [family.denoiser_name, *family.text_trainable], seed=seed)

    def learned(self) -> Learner:
        """Attached to a fresh model, and changed as if it had been trained, enough to be seen in a picture."""
        learner = self.attach(self.load())
        rng = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameters in learner.parameters().values():
                for parameter in parameters:
                    parameter += 0.2 * torch.randn(parameter.shape, generator=rng) * parameter.std().nan_to_num(0.5).clamp(min=0.1)
        return learner


@pytest.fixture(params=METHODS)
def method(request) -> Method:
    return METHODS[request.param]


@pytest.fixture(params=tiny.PIPELINES)
def pair(request, pipelines, method) -> Pair:
    return Pair(str(pipelines(request.param)), method)
