"""T-LoRA's masks: the formula, what it does to a layer, and that drawing sees them as training does."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from dreambooth.core.errors import SettingError
from dreambooth.methods import LoRA
from dreambooth.methods.timestep_rank import rank_at
from tests import tiny


def test_the_rank_grows_from_the_lowest_at_noise_to_all_of_it_at_none():
    time = torch.tensor([1.0, 0.75, 0.74, 0.5, 0.25, 0.0])
    assert rank_at(time, rank=8, lowest=4).tolist() == [4, 5, 5, 6, 7, 8]
    assert rank_at(time, rank=4, lowest=4).tolist() == [4] * 6


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_each_row_of_a_batch_is_answered_with_the_components_of_its_own_time(pipelines, name):
    family = tiny.load(pipelines(name))
    LoRA(rank=4, timestep_rank=1).attach(family, [family.denoiser_name], seed=0)
    plain = tiny.load(pipelines(name))
    LoRA(rank=4).attach(plain, [plain.denoiser_name], seed=0)
    rng = torch.Generator().manual_seed(1)
    layers = [[m for m in one.denoiser.modules() if isinstance(m, LoraLayer)] for one in (family, plain)]
    with torch.no_grad():
        for ours, theirs in zip(*layers, strict=True):
            ours.lora_B["default"].weight.normal_(generator=rng)
            theirs.lora_B["default"].weight.copy_(ours.lora_B["default"].weight)
    x = torch.randn(2, 4, 8, 8, generator=rng)
    told = {key: value.expand(2, -1) for key, value in family.geometry((16, 16), (0, 0), (16, 16)).items()}
    with torch.no_grad():
        condition = family.embed(family.tokenize(["a dog", "a cat"])) | told
        time = torch.tensor([0.9, 0.4]) * 1000
        answered = family.predict(x, time, condition)
        assert not torch.allclose(answered, plain.predict(x, time, condition), atol=1e-4)
        for row, components in enumerate([1, 2]):  # floor(3 * 0.1) + 1, floor(3 * 0.6) + 1
            for ours, theirs in zip(*layers, strict=True):
                theirs.lora_A["default"].weight.copy_(ours.lora_A["default"].weight)
                theirs.lora_A["default"].weight[components:] = 0
            expected = plain.predict(x, time, condition)[row]
            torch.testing.assert_close(answered[row], expected, rtol=0, atol=1e-5)


def test_a_pipeline_draws_with_the_masks(pipelines):
    family = tiny.load(pipelines("stable_diffusion"))
    learner = LoRA(rank=4, timestep_rank=1).attach(family, ["unet"], seed=0)
    with torch.no_grad():
        for parameter in learner.parameters()["unet"]:
            parameter += 0.3
    first = tiny.picture(family.pipe)
    with torch.no_grad():
        for module in family.denoiser.modules():
            if isinstance(module, LoraLayer):
                module.lora_A["default"].weight[3:] += 5.0  # acts at time 0 alone, where no sampler asks
    assert torch.equal(tiny.picture(family.pipe), first)


@pytest.mark.parametrize(("settings", "told"), [({"timestep_rank": 5}, "more than the rank, 4"), ({"use_dora": True}, "DoRA")])
def test_what_cannot_be_masked_is_refused(pipelines, settings, told):
    with pytest.raises(SettingError, match=f"--timestep_rank: .*{told}"):
        LoRA(**{"rank": 4, "timestep_rank": 2, **settings}).attach(tiny.load(pipelines("stable_diffusion")), ["unet"], seed=0)
