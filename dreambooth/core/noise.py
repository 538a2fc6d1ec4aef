"""Noising and its targets as one linear system.

A picture `x` and noise `eps` mix to `x_t = alpha_t x + sigma_t eps`, and whatever a network predicts is another row of the same
system, `target = a x + b eps`:

    epsilon (0, 1)    sample (1, 0)    v_prediction (-sigma, alpha)    flow (-1, 1)

Two equations, two unknowns: `solve` gives `(x, eps)` back for every kind. Its determinant `alpha b - sigma a` is zero just where
the question has no answer (epsilon at alpha = 0, sample at sigma = 0). DreamBooth Eq. 1; Salimans & Ho 2022 (v); Lipman et al.
2023 (flow).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreambooth.core.errors import SettingError

Prediction = Literal["epsilon", "sample", "v_prediction", "flow"]

NEEDED = "The base model needs a scheduler like DDPMScheduler, predicting epsilon, sample or v_prediction."


@dataclass(frozen=True)
class NoiseSchedule:
    """A noise schedule and the kind of prediction; `t` is an index into its tables, long [b], everywhere in this class."""

    alpha: Float[Tensor, "T"]
    """[T] float32: how much of the picture is left."""
    sigma: Float[Tensor, "T"]
    """[T] float32: how much noise there is."""
    times: Float[Tensor, "T"]
    """[T] float32: the network's time input at each index (0, 1, ... or 1000 sigma for flows)."""
    prediction: Prediction

    @classmethod
    def from_betas(cls, config: Mapping[str, Any], *, prediction: Prediction | None = None) -> "NoiseSchedule":
        """The process of a DDPM-style `scheduler_config.json` (beta schedule, zero-terminal SNR, prediction type).

        Raises SettingError for a scheduler that is of another make: a flow's, or EDM's with its preconditioning.
        """
        kind = prediction or config.get("prediction_type", "epsilon")
        if kind not in get_args(Prediction)[:3] or not any(config.get(name) for name in ("beta_schedule", "trained_betas")):
            made = f"{config.get('_class_name', 'this scheduler')} (predicting {kind})"
            raise SettingError("scheduler_config.json", f"{made} has no beta schedule that can be trained on.", fix=NEEDED)
        alpha_bar = torch.cumprod(1.0 - _betas(config), dim=0)
        times = torch.arange(len(alpha_bar), dtype=torch.float32)
        return cls(alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5, times, kind)

    @classmethod
    def from_sigmas(cls, sigmas: Float[Tensor, "T"]) -> "NoiseSchedule":
        """A rectified flow over sigmas in (0, 1], as a scheduler lists them (from 1 down): x_t = (1 - sigma) x + sigma eps."""
        sigmas = sigmas.to(torch.float32)
        return cls(1.0 - sigmas, sigmas, 1000.0 * sigmas, "flow")

    def __len__(self) -> int:
        return len(self.alpha)

    def shifted(self, shift: float) -> "NoiseSchedule":
        """A flow over as many sigmas s = 1 ... 1/T as this one, each at shift s / (1 + (shift - 1) s): above 1 more noise (Esser et al.
        2024, section 5.3.2), whatever this one's own shift is."""
        plain = torch.arange(len(self), 0, -1, dtype=torch.float32) / len(self)
        return self.from_sigmas(shift * plain / (1 + (shift - 1) * plain))

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "NoiseSchedule":
        """The same process with its tables on another device, so that no step has to copy them."""
        alpha, sigma, times = (table.to(device, dtype) for table in (self.alpha, self.sigma, self.times))
        return type(self)(alpha, sigma, times, self.prediction)

    def noise(self, x: Float[Tensor, "b *chw"], eps: Float[Tensor, "b *chw"], t: Int[Tensor, "b"]) -> Float[Tensor, "b *chw"]:
        """x_t = alpha x + sigma eps."""
        return _as(self.alpha[t], x) * x + _as(self.sigma[t], x) * eps

    def target(self, x: Float[Tensor, "b *chw"], eps: Float[Tensor, "b *chw"], t: Int[Tensor, "b"]) -> Float[Tensor, "b *chw"]:
        """What the network ought to say at x_t: a x + b eps."""
        a, b = self._row(t)
        return _as(a, x) * x + _as(b, x) * eps

    def solve(
        self, x_t: Float[Tensor, "b *chw"], pred: Float[Tensor, "b *chw"], t: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b *chw"], Float[Tensor, "b *chw"]]:
        """The picture and the noise that `x_t` and a prediction stand for, by Cramer's rule."""
        a, b = (_as(value, x_t) for value in self._row(t))
        alpha, sigma = _as(self.alpha[t], x_t), _as(self.sigma[t], x_t)
        determinant = alpha * b - sigma * a
        return (b * x_t - sigma * pred) / determinant, (alpha * pred - a * x_t) / determinant

    def snr(self, t: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Signal-to-noise ratio alpha^2 / sigma^2, [b]; 0 at the end of a zero-terminal schedule, infinite without noise."""
        return (self.alpha[t] / self.sigma[t]) ** 2

    def between(self, low: int, high: int | None) -> Bool[Tensor, "T"]:
        """Which indices have `low` <= time < `high` (None: no end), [T]: one run without gaps, since times rise or fall all the way."""
        return (self.times >= low) & (self.times < (math.inf if high is None else high))

    def _row(self, t: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """(a, b) of the target's equation, each [b]."""
        alpha, sigma = self.alpha[t], self.sigma[t]
        zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
        rows = {"epsilon": (zero, one), "sample": (one, zero), "v_prediction": (-sigma, alpha), "flow": (-one, one)}
        return rows[self.prediction]


def draw_timestep(process: NoiseSchedule, u: Float[Tensor, "b"], among: Bool[Tensor, "T"] | None = None) -> Int[Tensor, "b"]:
    """Indices for densities `u` in [0, 1), long, same shape: uniform `u` is the paper's t ~ U([0, 1]) (Eq. 1).

    `among`, of `NoiseSchedule.between`, are those that are drawn; None is all. Nothing waits for the device.
    """
    if among is None:
        return (u * len(process)).long().clamp_(0, len(process) - 1)
    count = among.sum()
    return among.int().argmax() + (u * count).long().clamp(min=0).minimum(count - 1)


def _betas(config: Mapping[str, Any]) -> Tensor:
    """The variances of a scheduler's config, float32 [T]; numbers as diffusers computes them."""
    count = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    schedule = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float32)
    elif schedule == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    elif schedule in ALPHA_BARS:
        bar = [ALPHA_BARS[schedule](i / count) for i in range(count + 1)]
        betas = torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(count)], dtype=torch.float32)
    elif schedule == "sigmoid":
        betas = torch.sigmoid(torch.linspace(-6, 6, count)) * (end - start) + start
    else:
        known = ", ".join(("linear", "scaled_linear", "sigmoid", *ALPHA_BARS))
        raise SettingError("scheduler_config.json", f"unknown beta_schedule {schedule!r}; known are {known}.")
    return _zero_terminal(betas) if config.get("rescale_betas_zero_snr") else betas


def _cosine(share: float) -> float:
    """What is left of the signal after a share of the time (Nichol & Dhariwal 2021, Eq. 17)."""
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2


def _laplace(share: float) -> float:
    """The same for a Laplace density of log-SNRs (Hang et al. 2024), as diffusers has it."""
    log_snr = -0.5 * math.copysign(1, 0.5 - share) * math.log(1 - 2 * abs(0.5 - share) + 1e-6)
    return math.sqrt(math.exp(log_snr) / (1 + math.exp(log_snr)))


ALPHA_BARS = {"squaredcos_cap_v2": _cosine, "laplace": _laplace}


def _zero_terminal(betas: Tensor) -> Tensor:
    """Betas whose last step has no signal left (Lin et al. 2023, algorithm 1)."""
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * (first / (first - last))
    bar = root**2
    return 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])


def _as(value: Tensor, like: Tensor) -> Tensor:
    """A number per picture, [b], in a shape that multiplies [b, ...]."""
    return value.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))
