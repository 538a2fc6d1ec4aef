"""DreamBooth's objective, Eq. 2 of the paper: the error of the subject's photos plus lambda times that of the prior's pictures.

The loss stays one number per picture until the last line. How much a picture counts (1/n for each of the n photos of an update,
lambda/m for each of its m class pictures) lives in `Batch.weight`, so that Eq. 2 is `(error * weight).sum()`, a weighted sum that
may be cut anywhere: into pieces, into processes, into more than two sets of pictures.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule


def squared_error(
    pred: Float[Tensor, "b *chw"], target: Float[Tensor, "b *chw"], mask: Float[Tensor, "b 1 h w"] | None = None
) -> Float[Tensor, "b"]:
    """Mean squared error of each picture, float32 or better [b], from two tensors [b, ...].

    With a mask in [0, 1] the mean is over what it shows, so that small and large subjects count alike; an empty one gives 0.
    """
    wide = torch.promote_types(pred.dtype, torch.float32)
    square = (pred.to(wide) - target.to(wide)).square()
    if mask is None:
        return square.flatten(1).mean(1)
    shown = mask.to(wide).expand_as(square).flatten(1)
    return (square.flatten(1) * shown).sum(1) / shown.sum(1).clamp(min=1e-6)


def dreambooth_loss(error: Float[Tensor, "b"], weight: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """Eq. 2: the errors [b] of subject and prior, each with its picture's weight [b]; a scalar."""
    return (error * weight).sum()


def snr_weight(process: NoiseSchedule, t: Int[Tensor, "b"], gamma: float) -> Float[Tensor, "b"]:
    """Min-SNR-gamma, [b]: easy steps stop drowning the hard ones (Hang et al. 2023, sections 3.4 and 4.2).

    min(snr, gamma) / snr for epsilon, min(snr, gamma) for sample, min(snr, gamma) / (snr + 1) for v. Every row by its own
    timestep; finite at snr = 0, where epsilon's quotient has the limit 1. Raises SettingError for flows, whose weights are another
    matter.
    """
    if process.prediction == "flow":
        reason = "min-SNR is defined for diffusion, not for flow matching."
        raise SettingError("--snr_gamma", reason, fix="Use --weighting_scheme.")
    snr = process.snr(t)
    capped = snr.clamp(max=gamma)
    if process.prediction == "epsilon":
        return torch.where(snr > gamma, gamma / snr, torch.ones_like(snr))
    if process.prediction == "sample":
        return capped
    return torch.where(snr.isinf(), torch.zeros_like(snr), capped / (snr + 1))


def flow_density(scheme: str, u: Float[Tensor, "b"], z: Float[Tensor, "b"], *, mean: float, std: float, scale: float) -> Float[Tensor, "b"]:
    """Where on [0, 1) a flow trains, from a uniform `u` and a normal `z` per row (Esser et al. 2024, section 3.1)."""
    if scheme == "logit_normal":
        return torch.sigmoid(mean + std * z)
    if scheme == "mode":
        return 1 - u - scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)
    return u


def flow_weight(scheme: str, sigma: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """How much a flow's error counts at `sigma`, [b] (Esser et al. 2024, section 3.1)."""
    if scheme == "sigma_sqrt":
        return sigma**-2.0
    if scheme == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
    return torch.ones_like(sigma)
