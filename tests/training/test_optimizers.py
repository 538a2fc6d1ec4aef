"""Every optimizer builds itself from the settings, and says what else a run must know about it."""

from dataclasses import fields

import pytest
import torch
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.run.plan import checkpoint_bytes
from dreambooth.schema import flags
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import train_config
from dreambooth.training.optimizers import OPTIMIZERS, Optimization

CPU = torch.device("cpu")


def test_each_has_its_name_and_its_settings_among_the_flags():
    tree = flags(TrainConfig)
    assert tree["optimizer"].choices == tuple(OPTIMIZERS)
    assert all(field.name in tree for kind in OPTIMIZERS.values() for field in fields(kind))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("eight_bit", [False, True])
def test_each_keeps_as_many_bytes_as_it_says(name, eight_bit):
    asked = Optimization(optimizer=name, learning_rate=1.0, use_8bit_adam=eight_bit)
    if eight_bit and not OPTIMIZERS[name].eight_bit:
        with pytest.raises(SettingError, match="--use_8bit_adam"):
            check(train_config(optimizer=name, use_8bit_adam=True))
        return
    if asked.chosen.package:
        pytest.importorskip(asked.chosen.package[0])
    weight = nn.Parameter(torch.ones(64, 1024))
    built = asked.build({"denoiser": [weight]}, device=CPU, pictures_per_update=1)
    weight.grad = torch.full_like(weight, 0.1)
    built.step()
    kept = sum(value.numel() * value.element_size() for state in built.state.values() for value in state.values() if torch.is_tensor(value))
    assert kept == pytest.approx(asked.chosen.state_bytes * weight.numel(), rel=0.1)
    config = train_config(optimizer=name, use_8bit_adam=eight_bit)
    assert checkpoint_bytes(config, 10) == 10 * (4 + asked.chosen.state_bytes)


def test_one_that_finds_its_rate_refuses_a_second_and_others_take_it():
    learns = {"denoiser": [nn.Parameter(torch.ones(2))], "text_encoder": [nn.Parameter(torch.ones(2))]}
    with pytest.raises(SettingError, match="--text_encoder_lr"):
        Optimization(optimizer="prodigy", learning_rate=1.0, text_encoder_lr=0.5).chosen.refuse_rates({1.0, 0.5})
    built = Optimization(text_encoder_lr=0.5, scale_lr=True).build(learns, device=CPU, pictures_per_update=4)
    assert [group["base_lr"] for group in built.param_groups] == [4 * 5e-6, 2.0]


def test_a_setting_of_another_optimizer_has_nothing_to_do():
    (sentence,) = unused_settings(train_config(prodigy_safeguard_warmup=False))
    assert "--prodigy_safeguard_warmup" in sentence and "--optimizer prodigy" in sentence
    assert not unused_settings(train_config(optimizer="prodigy", prodigy_safeguard_warmup=False, adam_beta1=0.8))
