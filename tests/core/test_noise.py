"""Noising and targets are diffusers' for every schedule, and `solve` undoes them."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule, draw_timestep

SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "laplace": {"beta_schedule": "laplace"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "given": {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4},
    "zero_terminal": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True},
    "short": {"beta_schedule": "linear", "num_train_timesteps": 50},
}
schedules = pytest.mark.parametrize("name", SCHEDULES)


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, 3, 5, generator=rng), torch.randn(count, 4, 3, 5, generator=rng)


def processes() -> dict[str, NoiseSchedule]:
    """One of each prediction, in float64, away from the ends where some have no answer."""
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    kinds = {kind: NoiseSchedule.from_betas(betas, prediction=kind) for kind in ("epsilon", "sample", "v_prediction")}
    flow = NoiseSchedule.from_sigmas(torch.linspace(1, 0.001, 1000))
    return {name: process.to("cpu", torch.float64) for name, process in {**kinds, "flow": flow}.items()}


@schedules
def test_noised_pictures_equal_those_of_diffusers(name):
    scheduler = DDPMScheduler(**SCHEDULES[name])
    process = NoiseSchedule.from_betas(scheduler.config)
    t = torch.arange(len(process))
    x, eps = pictures(len(t))
    assert torch.equal(process.noise(x, eps, t), scheduler.add_noise(x, eps, t))


@schedules
def test_v_targets_equal_the_velocity_of_diffusers(name):
    scheduler = DDPMScheduler(**SCHEDULES[name], prediction_type="v_prediction")
    process = NoiseSchedule.from_betas(scheduler.config)
    t = torch.arange(len(process))
    x, eps = pictures(len(t))
    assert process.prediction == "v_prediction"
    torch.testing.assert_close(process.target(x, eps, t), scheduler.get_velocity(x, eps, t), rtol=0, atol=1e-6)


@schedules
def test_signal_to_noise_equals_that_of_diffusers(name):
    scheduler = DDPMScheduler(**SCHEDULES[name])
    process = NoiseSchedule.from_betas(scheduler.config)
    t = torch.arange(len(process))
    torch.testing.assert_close(process.snr(t), compute_snr(scheduler, t), rtol=1e-6, atol=0)


def test_a_zero_terminal_schedule_ends_in_pure_noise():
    process = NoiseSchedule.from_betas(SCHEDULES["zero_terminal"])
    last = torch.tensor([999])
    x, eps = pictures(1)
    assert process.snr(last).item() == 0
    assert torch.equal(process.noise(x, eps, last), eps)


@pytest.mark.parametrize("shift", [{"shift": 3.0}, {"shift": 1.0}, {"use_dynamic_shifting": True}], ids=str)
def test_a_flow_noises_as_scale_noise_of_diffusers_does(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(**shift)
    process = NoiseSchedule.from_sigmas(scheduler.sigmas[:1000])
    t = torch.tensor([0, 1, 250, 500, 998, 999])
    x, eps = pictures(len(t))
    torch.testing.assert_close(process.noise(x, eps, t), scheduler.scale_noise(x, scheduler.timesteps[t], eps), rtol=0, atol=1e-6)
    torch.testing.assert_close(process.times[t], scheduler.timesteps[t], rtol=1e-6, atol=0)
    assert torch.equal(process.target(x, eps, t), eps - x)


def test_a_static_shift_is_in_the_sigmas_and_a_dynamic_one_is_not():
    middle = [FlowMatchEulerDiscreteScheduler(**kind).sigmas[500].item() for kind in ({"shift": 3.0}, {"use_dynamic_shifting": True})]
    assert middle == pytest.approx([0.75, 0.5], abs=0.001)


@pytest.mark.parametrize("shift", [0.5, 1.0, 1.73, 3.0, 7.6])
def test_a_flow_is_shifted_as_the_scheduler_of_that_shift_whatever_its_own_is(shift):
    expected = FlowMatchEulerDiscreteScheduler(shift=shift).sigmas[:1000]
    for own in (1.0, 3.0, 6.0):
        process = NoiseSchedule.from_sigmas(FlowMatchEulerDiscreteScheduler(shift=own).sigmas[:1000]).shifted(shift)
        torch.testing.assert_close(process.sigma, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(process.times, 1000 * expected, rtol=1e-5, atol=0)


@given(st.sampled_from(sorted(processes())), st.integers(1, 998), st.integers(0, 2**31))
def test_solve_gives_back_the_picture_and_the_noise(kind, t, seed):
    process, rng = processes()[kind], torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 1, 4, 4, 4, generator=rng, dtype=torch.float64)
    at = torch.tensor([t])
    x_again, eps_again = process.solve(process.noise(x, eps, at), process.target(x, eps, at), at)
    torch.testing.assert_close(x_again, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(eps_again, eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "row"), [("epsilon", (0, 1)), ("sample", (1, 0)), ("v_prediction", None), ("flow", (-1, 1))])
def test_every_target_is_its_row_of_the_linear_system(kind, row):
    process, t = processes()[kind], torch.tensor([3, 700])
    x, eps = (tensor.double() for tensor in pictures(2))
    a, b = row or (-process.sigma[t].view(-1, 1, 1, 1), process.alpha[t].view(-1, 1, 1, 1))
    torch.testing.assert_close(process.target(x, eps, t), a * x + b * eps)


def test_noise_grows_with_the_timestep():
    """The mistake of a public re-implementation: a noise level drawn apart from the timestep that the network was told."""
    process = NoiseSchedule.from_betas(SCHEDULES["scaled_linear"])
    x, eps = torch.zeros(1000, 1), torch.ones(1000, 1)
    levels = process.noise(x, eps, torch.arange(1000)).flatten()
    assert bool((levels.diff() > 0).all())
    torch.testing.assert_close(levels**2 + process.alpha**2, torch.ones(1000))


def test_timesteps_are_uniform_over_all_of_the_schedule():
    process = NoiseSchedule.from_betas(SCHEDULES["short"])
    t = draw_timestep(process, (torch.arange(5000) + 0.5) / 5000)
    assert torch.equal(t.bincount(), torch.full((50,), 100))


@pytest.mark.parametrize(("kind", "noisiest"), [("epsilon", -1), ("flow", 0)])
def test_a_range_of_timesteps_is_drawn_evenly_and_nothing_outside_of_it(kind, noisiest):
    process = processes()[kind]
    among = process.between(200, 650)
    t = draw_timestep(process, (torch.arange(9000) + 0.5) / 9000, among)
    times = process.times[t]
    assert 200 <= times.min() < 201 and 649 <= times.max() < 650
    counts = t.bincount(minlength=len(process))
    assert torch.equal(counts > 0, among) and counts[among].max() <= counts[among].min() + 1
    assert not among[noisiest], "the noisiest step, wherever the table has it, is the one that a largest timestep leaves out"


def test_a_range_that_holds_everything_draws_what_no_range_draws():
    process, u = NoiseSchedule.from_betas(SCHEDULES["scaled_linear"]), torch.rand(500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw_timestep(process, u, process.between(0, None)), draw_timestep(process, u))


def test_densities_at_and_beyond_the_ends_stay_in_the_schedule():
    process = NoiseSchedule.from_betas(SCHEDULES["short"])
    assert draw_timestep(process, torch.tensor([-0.5, 0.0, 1.0, 1.5])).tolist() == [0, 0, 49, 49]


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
        {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "prediction_type": "epsilon"},
        {"beta_schedule": "linear", "prediction_type": "flow_prediction"},
        {"beta_schedule": "quadratic"},
    ],
    ids=lambda config: config.get("_class_name") or config.get("prediction_type") or config["beta_schedule"],
)
def test_a_scheduler_without_betas_to_train_on_is_refused(config):
    with pytest.raises(SettingError, match=r"scheduler_config\.json"):
        NoiseSchedule.from_betas(config)
