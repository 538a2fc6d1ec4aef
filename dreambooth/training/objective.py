"""What is minimised: which timesteps are drawn, and how much each counts. The sum itself is `core.loss`."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, MaxLen
from jaxtyping import Float, Int
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.core.loss import flow_density, flow_weight, snr_weight
from dreambooth.core.noise import NoiseSchedule, draw_timestep
from dreambooth.families.superresolution import Variance
from dreambooth.schema import Count, Guidance, Setting


class Objective(Setting):
    """The objective"""

    prior_loss_weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    """Weight lambda of the prior's term in Eq. 2 of the paper, which uses 1."""
    snr_gamma: Annotated[float, Gt(0), Le(1e6)] | None = None
    """Min-SNR weighting with this gamma (Hang et al. 2023 use 5), each picture by its own timestep; automatic: none. Not for flows."""
    offset_noise: Annotated[float, Ge(0), Le(1000)] = 0.0
    """Strength of noise that is constant over each channel, which lets pictures become darker and brighter. Alone it means 0.1."""
    weighting_scheme: Literal["none", "sigma_sqrt", "logit_normal", "mode", "cosmap"] = "none"
    """For flows: which times are trained more (logit_normal, mode) or count more (sigma_sqrt, cosmap); none is uniform."""
    logit_mean: Annotated[float, Ge(-100), Le(100)] = 0.0
    """Mean of the logit-normal draw of times; above 0 trains low noise."""
    logit_std: Annotated[float, Gt(0), Le(100)] = 1.0
    """Standard deviation of the logit-normal draw of times."""
    mode_scale: Annotated[float, Ge(-1), Le(1.75)] = 1.29
    """Scale of the mode draw of times."""
    flow_shift: Annotated[float, Gt(0), Le(1000)] | Literal["dynamic"] | None = None
    """For flows: by how much the times that are trained are shifted towards noise, 1 being not at all, or `dynamic` for what the model's
    scheduler shifts pictures of this size by; automatic: as its scheduler trains. kohya's --discrete_flow_shift."""
    train_guidance_scale: Guidance = 3.5
    """For guidance-distilled flows (FLUX.1 dev): the network's guidance input while it trains; diffusers' `--guidance_scale`."""

    min_timestep: Annotated[int, Ge(0), Le(10**6)] = 0
    """Train from this timestep on only, as the model's own scheduler counts them (0 to 999 for most; kohya's flag)."""
    max_timestep: Count | None = None
    """Train below this timestep only: the noisiest steps, which lay a picture out, stay the base model's. A weighting_scheme's density is
    squeezed into the range."""

    noise_augmentation: Annotated[tuple[Variance, ...], MaxLen(2)] = ()
    """For stages that see a smaller picture: variance of the noise on it, which the network is told; of two, any in between. Left out, the
    least that the model knows, which keeps the subject's fine detail."""
    class_labels_conditioning: Literal["timesteps"] | None = None
    """For DeepFloyd IF's stage II, as diffusers' script trains it: the noisy picture stands in the small one's place, its time in the
    level's. For comparisons."""
    masked_loss: bool = False
    """Compare pictures where the subject is, by --mask_dir or the photos' transparency; the background teaches nothing."""

    def refuse_contradictions(self) -> None:
        if self.class_labels_conditioning and self.noise_augmentation:
            reason = "no small picture is seen so, that could get noise."
            raise SettingError("--class_labels_conditioning", reason, fix="Leave it out, or --noise_augmentation.")

    def unused(self) -> dict[str, str]:
        why = "times are not drawn so (--weighting_scheme)"
        return {} if self.weighting_scheme == "logit_normal" else {"logit_mean": why, "logit_std": why}

    def check(self, process: NoiseSchedule) -> None:
        """Refuse what has no meaning for this kind of model."""
        if process.prediction == "flow" and self.snr_gamma is not None:
            snr_weight(process, torch.zeros(1, dtype=torch.long), self.snr_gamma)
        if process.prediction != "flow":
            self.refuse_flows_own(f"this model predicts {process.prediction}")
        if not process.between(self.min_timestep, self.max_timestep).any():
            asked = f"from {self.min_timestep} on" + (f" and below {self.max_timestep}" if self.max_timestep else "")
            reason = f"there is no timestep {asked}: this model has {process.times.min():.0f} to {process.times.max():.0f}."
            flag, fix = ("--min_timestep", "Give a smaller one.") if self.min_timestep else ("--max_timestep", "Give a larger one.")
            raise SettingError(flag, reason, fix=fix)

    def refuse_flows_own(self, why: str) -> None:
        """Raise SettingError for what has a meaning for flows alone; `why` the model is none."""
        if self.weighting_scheme != "none":
            reason = f"{self.weighting_scheme} is for flow matching; {why}."
            raise SettingError("--weighting_scheme", reason, fix="Use --snr_gamma 5, or leave it out.")
        if self.flow_shift is not None:
            raise SettingError("--flow_shift", f"is for flow matching; {why}.", fix="Leave it out.")

    def timesteps(self, process: NoiseSchedule, u: Float[Tensor, "b"], z: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
        """Indices, long [b], from a uniform and a normal number per row."""
        if process.prediction == "flow":
            u = flow_density(self.weighting_scheme, u, z, mean=self.logit_mean, std=self.logit_std, scale=self.mode_scale)
        some = self.min_timestep > 0 or self.max_timestep is not None
        return draw_timestep(process, u, process.between(self.min_timestep, self.max_timestep) if some else None)

    def weight(self, process: NoiseSchedule, t: Int[Tensor, "b"]) -> Float[Tensor, "b"] | float:
        """How much each row's error counts beside its picture's weight, [b]."""
        if process.prediction == "flow":
            return flow_weight(self.weighting_scheme, process.sigma[t])
        return snr_weight(process, t, self.snr_gamma) if self.snr_gamma else 1.0
