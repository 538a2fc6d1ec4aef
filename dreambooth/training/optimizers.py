"""Optimizers and learning-rate schedules: libraries' own, built from one setting; the rate is a function of the update alone."""

from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import field_validator
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.schema import Count, Setting

Unit = Annotated[float, Ge(0), Lt(1)]


class Optimization(Setting):
    """The optimizer"""

    optimizer: Literal["adamw", "prodigy"] = "adamw"
    """adamw, or prodigy, which finds its learning rate by itself (give it --learning_rate 1)."""
    learning_rate: Annotated[float, Gt(0), Le(1000)] = 5e-6
    """Learning rate of the denoiser. Full fine-tuning wants 1e-6 ... 5e-6, LoRA about 1e-4."""
    text_encoder_lr: Annotated[float, Gt(0), Le(1000)] | None = None
    """Learning rate of the text encoder; left out, the denoiser's."""
    scale_lr: bool = False
    """Multiply the learning rate by pictures per update: batch size x accumulation x processes."""
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"] = "constant"
    """How the learning rate changes over the run."""
    lr_warmup_steps: Annotated[int, Ge(0), Le(10**9)] = 500
    """Updates in which the rate grows from 0, for the schedules that warm up (all but constant)."""
    lr_num_cycles: Count = 1
    """Hard restarts of cosine_with_restarts."""
    lr_power: Annotated[float, Gt(0), Le(100)] = 1.0
    """Power of the polynomial schedule."""
    use_8bit_adam: bool = False
    """Keep Adam's state in 8 bits (bitsandbytes): a quarter of the memory."""
    adam_beta1: Unit = 0.9
    """Decay of the first moment."""
    adam_beta2: Unit = 0.999
    """Decay of the second moment."""
    adam_weight_decay: Annotated[float, Ge(0), Le(1000)] = 1e-2
    """Decoupled weight decay."""
    adam_epsilon: Annotated[float, Gt(0), Le(1)] = 1e-8
    """Added to the second moment's root."""
    prodigy_beta3: Unit | None = None
    """Prodigy: decay of its step size estimate; left out, the root of beta2."""
    prodigy_decouple: bool = True
    """Prodigy: decouple the weight decay, as AdamW does."""
    prodigy_use_bias_correction: bool = True
    """Prodigy: Adam's bias correction."""
    prodigy_safeguard_warmup: bool = True
    """Prodigy: leave warm-up out of its step size estimate."""
    max_grad_norm: Annotated[float, Gt(0), Le(1e12)] = 1.0
    """Longest gradient, over everything that learns; a longer one is scaled down to it."""

    @field_validator("optimizer", mode="before")
    @classmethod
    def _any_case(cls, name: Any) -> Any:
        return name.lower() if isinstance(name, str) else name

    def build(self, parts: dict[str, list[nn.Parameter]], *, device: torch.device, pictures_per_update: int) -> torch.optim.Optimizer:
        """An optimizer with a group per part, each with its `base_lr`."""
        scale = pictures_per_update if self.scale_lr else 1
        rate, text_rate = self.learning_rate * scale, (self.text_encoder_lr or self.learning_rate) * scale
        groups = []
        for name, parameters in parts.items():
            own = text_rate if name.startswith("text_encoder") else rate
            groups.append({"params": parameters, "lr": own, "base_lr": own})
        betas = (self.adam_beta1, self.adam_beta2)
        if self.optimizer == "prodigy":
            return self._prodigy(groups, betas)
        if self.use_8bit_adam:
            return _bitsandbytes().AdamW8bit(groups, betas=betas, weight_decay=self.adam_weight_decay, eps=self.adam_epsilon)
        fused = device.type in ("cuda", "cpu", "mps", "xpu")
        return torch.optim.AdamW(groups, betas=betas, weight_decay=self.adam_weight_decay, eps=self.adam_epsilon, fused=fused)

    def rate(self, total_steps: int) -> Callable[[int], float]:
        """The factor on the base rate at each update (from 0)."""
        from diffusers.optimization import get_scheduler

        silent = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_scheduler(
            self.lr_scheduler, silent, num_warmup_steps=min(self.lr_warmup_steps, total_steps), num_training_steps=total_steps,
            num_cycles=self.lr_num_cycles, power=self.lr_power,
        )  # fmt: skip
        return schedule.lr_lambdas[0]

    def refuse_two_rates(self, rates: Collection[float]) -> None:
        """Raise SettingError for two learning rates where the optimizer finds one."""
        if len(rates) > 1:
            raise SettingError("--text_encoder_lr", "Prodigy finds one rate for all that learns.", fix="Leave it out.")

    def _prodigy(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> torch.optim.Optimizer:
        self.refuse_two_rates({group["lr"] for group in groups})
        try:
            from prodigyopt import Prodigy
        except ImportError:
            raise SettingError("--optimizer", "prodigy is not installed.", fix="pip install prodigyopt") from None
        options: dict[str, Any] = {"weight_decay": self.adam_weight_decay, "eps": self.adam_epsilon, "beta3": self.prodigy_beta3}
        own = ("decouple", "use_bias_correction", "safeguard_warmup")
        return Prodigy(groups, betas=betas, **options, **{name: getattr(self, f"prodigy_{name}") for name in own})


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.optim
    except ImportError:
        raise SettingError("--use_8bit_adam", "bitsandbytes is not installed.", fix="pip install bitsandbytes") from None
    return bitsandbytes.optim
