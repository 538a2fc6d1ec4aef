"""Eq. 2 and the weights of timesteps, against references of a few lines and the known wrong values of public code."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from hypothesis import given
from hypothesis import strategies as st

from dreambooth.core.batch import picture_weights
from dreambooth.core.errors import SettingError
from dreambooth.core.loss import dreambooth_loss, flow_density, flow_weight, snr_weight, squared_error
from dreambooth.core.noise import NoiseSchedule

GAMMA = 5.0


def process_of(snr: list[float], prediction: str) -> NoiseSchedule:
    """A process that has just these signal-to-noise ratios."""
    ratio = torch.tensor(snr, dtype=torch.float64)
    alpha = torch.where(ratio.isinf(), 1.0, (ratio / (1 + ratio)).sqrt())
    return NoiseSchedule(alpha, (1 - alpha**2).sqrt(), torch.arange(len(snr)).float(), prediction)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("epsilon", [1, 1, 1, 0.5, 0.05]),
        ("sample", [0, 0.5, 5, 5, 5]),
        ("v_prediction", [0, 0.5 / 1.5, 5 / 6, 5 / 11, 5 / 101]),
    ],
)
def test_min_snr_has_the_values_worked_out_by_hand(prediction, expected):
    process = process_of([0, 0.5, 5, 10, 100], prediction)
    torch.testing.assert_close(snr_weight(process, torch.arange(5), GAMMA), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_min_snr_is_finite_where_there_is_only_noise_or_none(prediction):
    weight = snr_weight(process_of([0.0, float("inf")], prediction), torch.arange(2), GAMMA)
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_finite_on_a_zero_terminal_schedule(prediction):
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True}
    weight = snr_weight(NoiseSchedule.from_betas(betas, prediction=prediction), torch.arange(1000), GAMMA)
    assert bool(weight.isfinite().all())
    assert weight[-1].item() == (1.0 if prediction == "epsilon" else 0.0)


def test_min_snr_of_v_divides_once_by_snr_plus_one():
    """Not min(snr, gamma) / snr + 1, as one of the public scripts has it: 2 where 1/2 is right."""
    assert snr_weight(process_of([1.0], "v_prediction"), torch.tensor([0]), GAMMA).item() == pytest.approx(0.5)


def test_each_row_is_weighted_by_its_own_timestep():
    """Public scripts compute the weights of 2 B timesteps and multiply the B photos' errors with all of them: 0.0525, not 0.10."""
    process = process_of([50.0, 1000.0], "epsilon")
    error, t = torch.tensor([1.0]), torch.tensor([0, 1])
    theirs = (error * snr_weight(process, t, GAMMA)).mean()
    ours = dreambooth_loss(error * snr_weight(process, t[:1], GAMMA), torch.tensor(picture_weights(1, 0, 1.0)))
    assert theirs.item() == pytest.approx(0.0525)
    assert ours.item() == pytest.approx(0.10)


def test_the_prior_is_weighted_by_min_snr_too():
    process = process_of([50.0, 1000.0], "epsilon")
    weight = torch.tensor(picture_weights(1, 1, 1.0))
    assert dreambooth_loss(snr_weight(process, torch.tensor([0, 1]), GAMMA), weight).item() == pytest.approx(0.1 + 0.005)


def test_min_snr_is_refused_for_flows():
    with pytest.raises(SettingError, match=r"--snr_gamma.*--weighting_scheme"):
        snr_weight(NoiseSchedule.from_sigmas(torch.linspace(1, 0.1, 10)), torch.tensor([0]), GAMMA)


@pytest.mark.parametrize("scheme", ["none", "sigma_sqrt", "logit_normal", "mode", "cosmap"])
def test_a_flow_draws_its_times_as_diffusers_does(scheme):
    numbers = {"logit_mean": 0.3, "logit_std": 0.7, "mode_scale": 1.29}
    theirs = compute_density_for_timestep_sampling(scheme, 64, **numbers, generator=torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    if scheme == "logit_normal":
        u, z = torch.zeros(64), (torch.normal(mean=0.3, std=0.7, size=(64,), generator=rng) - 0.3) / 0.7
    else:
        u, z = torch.rand(64, generator=rng), torch.zeros(64)
    ours = flow_density(scheme, u, z, mean=0.3, std=0.7, scale=1.29)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", ["none", "sigma_sqrt", "logit_normal", "mode", "cosmap"])
def test_a_flow_weighs_its_times_as_diffusers_does(scheme):
    sigmas = torch.linspace(1, 0.001, 100)
    torch.testing.assert_close(flow_weight(scheme, sigmas), compute_loss_weighting_for_sd3(scheme, sigmas).flatten())


@given(st.integers(1, 5), st.integers(0, 5), st.floats(0, 3), st.integers(0, 2**31))
def test_the_loss_is_equation_2_of_the_paper(num_photos, num_prior, prior_loss_weight, seed):
    rng = torch.Generator().manual_seed(seed)
    pred, target = torch.randn(2, num_photos + num_prior, 4, 3, 3, generator=rng, dtype=torch.float64)
    subject = torch.nn.functional.mse_loss(pred[:num_photos], target[:num_photos])
    prior = torch.nn.functional.mse_loss(pred[num_photos:], target[num_photos:]) if num_prior else torch.tensor(0.0)
    weight = torch.tensor(picture_weights(num_photos, num_prior, prior_loss_weight), dtype=torch.float64)
    torch.testing.assert_close(
        dreambooth_loss(squared_error(pred, target), weight), subject + prior_loss_weight * prior, rtol=1e-12, atol=1e-12, check_dtype=False
    )


def test_errors_are_computed_in_float32_even_when_the_network_answers_in_half():
    pred = torch.full((2, 4), 300.0, dtype=torch.float16)
    error = squared_error(pred, torch.zeros(2, 4))
    assert error.dtype == torch.float32
    assert error.tolist() == [90000.0, 90000.0]


def test_diffusers_own_target_of_epsilon_is_the_noise():
    """The mistake of a public re-implementation: the clean latent as target of a network that predicts the noise."""
    process = NoiseSchedule.from_betas(DDPMScheduler().config)
    x, eps, t = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), torch.tensor([5])
    assert torch.equal(process.target(x, eps, t), eps)
