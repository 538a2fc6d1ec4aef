"""Optimizers and learning-rate schedules: libraries' own, built from one setting; the rate is a function of the update alone.

An optimizer is a frozen value that builds itself. A new one is its class here, its name in `OPTIMIZERS` and --optimizer, and a setting in
`Optimization` of the same name for each field that it alone has.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import field_validator
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.schema import BASIC, Count, Setting

Unit = Annotated[float, Ge(0), Lt(1)]
Groups = list[dict[str, Any]]
"""What learns, in torch's groups: `params`, `lr` and `base_lr` of each."""


@dataclass(frozen=True)
class Optimizer(ABC):
    """An optimizer by its settings. Those of Adam are shared by all that stem from it."""

    adam_beta1: float
    adam_beta2: float
    adam_weight_decay: float
    adam_epsilon: float

    state_bytes: ClassVar[int]
    """Bytes that it keeps for each number that learns."""
    package: ClassVar[tuple[str, str] | None] = None
    """The package that it needs beside torch, and the setting that asks for it."""
    steps_alone: ClassVar[bool] = True
    """Whether it steps each tensor by that tensor's gradient alone."""
    eight_bit: ClassVar["type[Optimizer] | None"] = None
    """The same with its state in 8 bits, where there is such a one."""

    @abstractmethod
    def build(self, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
        """The library's own optimizer."""

    def refuse_rates(self, rates: Collection[float]) -> None:
        """Raise SettingError for learning rates that it cannot have."""
        return

    @property
    def of_adam(self) -> dict[str, Any]:
        """Adam's arguments, as all libraries name them."""
        return {"betas": (self.adam_beta1, self.adam_beta2), "weight_decay": self.adam_weight_decay, "eps": self.adam_epsilon}


@dataclass(frozen=True)
class AdamW8bit(Optimizer):
    """bitsandbytes' AdamW: two moments of a byte each."""

    state_bytes = 2
    package = ("bitsandbytes", "--use_8bit_adam")

    def build(self, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
        return _library(self, "bitsandbytes.optim").AdamW8bit(groups, **self.of_adam)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """torch's AdamW: two moments."""

    state_bytes = 8
    eight_bit = AdamW8bit

    def build(self, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, **self.of_adam, fused=device.type in ("cuda", "cpu", "mps", "xpu"))


@dataclass(frozen=True)
class Prodigy(Optimizer):
    """Prodigy: two moments, its starting point and a sum; it finds one learning rate for all that learns."""

    prodigy_beta3: float | None
    prodigy_decouple: bool
    prodigy_use_bias_correction: bool
    prodigy_safeguard_warmup: bool

    state_bytes = 16
    steps_alone = False
    package = ("prodigyopt", "--optimizer")

    def build(self, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
        self.refuse_rates({group["lr"] for group in groups})
        return _library(self, "prodigyopt").Prodigy(
            groups, **self.of_adam, beta3=self.prodigy_beta3, decouple=self.prodigy_decouple,
            use_bias_correction=self.prodigy_use_bias_correction, safeguard_warmup=self.prodigy_safeguard_warmup,
        )  # fmt: skip

    def refuse_rates(self, rates: Collection[float]) -> None:
        if len(rates) > 1:
            raise SettingError("--text_encoder_lr", "Prodigy finds one rate for all that learns.", fix="Leave it out.")


OPTIMIZERS: Mapping[str, type[Optimizer]] = {"adamw": AdamW, "prodigy": Prodigy}


class Optimization(Setting):
    """The optimizer"""

    optimizer: Literal["adamw", "prodigy"] = "adamw"
    """adamw, or prodigy, which finds its learning rate by itself (give it --learning_rate 1)."""
    learning_rate: Annotated[float, Gt(0), Le(1000), BASIC] = 5e-6
    """Learning rate of the denoiser. Full fine-tuning wants 1e-6 ... 5e-6, LoRA about 1e-4."""
    text_encoder_lr: Annotated[float, Gt(0), Le(1000)] | None = None
    """Learning rate of the text encoder; automatic: the denoiser's."""
    scale_lr: bool = False
    """Multiply the learning rate by pictures per step: batch size x accumulation x processes."""
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"] = "constant"
    """How the learning rate changes over the run."""
    lr_warmup_steps: Annotated[int, Ge(0), Le(10**9)] = 500
    """Steps in which the rate grows from 0, for the schedules that warm up (all but constant)."""
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
    """Prodigy: decay of its step size estimate; automatic: the root of beta2."""
    prodigy_decouple: bool = True
    """Prodigy: decouple the weight decay, as AdamW does."""
    prodigy_use_bias_correction: bool = True
    """Prodigy: Adam's bias correction."""
    prodigy_safeguard_warmup: bool = True
    """Prodigy: leave warm-up out of its step size estimate."""
    max_grad_norm: Annotated[float, Ge(0), Le(1e12)] = 1.0
    """Longest gradient, over everything that learns; a longer one is scaled down to it. 0: none is."""

    @field_validator("optimizer", mode="before")
    @classmethod
    def _any_case(cls, name: Any) -> Any:
        return name.lower() if isinstance(name, str) else name

    def build(self, parts: dict[str, list[nn.Parameter]], *, device: torch.device, pictures_per_update: int) -> torch.optim.Optimizer:
        """An optimizer with a group per part, each with its `base_lr`."""
        scale = pictures_per_update if self.scale_lr else 1
        rate, text_rate = (one * scale for one in self.rates)
        groups = []
        for name, parameters in parts.items():
            own = text_rate if name.startswith("text_encoder") else rate
            groups.append({"params": parameters, "lr": own, "base_lr": own})
        return self.chosen.build(groups, device)

    @property
    def chosen(self) -> Optimizer:
        """The optimizer that these settings name. Raises SettingError for 8 bits of one that has none."""
        kind = OPTIMIZERS[self.optimizer]
        if self.use_8bit_adam and kind.eight_bit is None:
            raise SettingError("--use_8bit_adam", f"{kind.__name__} has no 8-bit state.", fix="Leave one of the two out.")
        kind = kind.eight_bit if self.use_8bit_adam and kind.eight_bit else kind
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of the denoiser and of the text encoder, not yet multiplied by --scale_lr."""
        return self.learning_rate, self.text_encoder_lr or self.learning_rate

    def refuse_contradictions(self) -> None:
        _ = self.chosen

    def unused(self) -> dict[str, str]:
        read = {field.name for field in fields(self.chosen)}
        others = {field.name: name for name, kind in OPTIMIZERS.items() for field in fields(kind) if field.name not in read}
        return {setting: f"the optimizer is another (--optimizer {name})" for setting, name in others.items()}

    def rate(self, total_steps: int) -> Callable[[int], float]:
        """The factor on the base rate at each update (from 0)."""
        from diffusers.optimization import get_scheduler

        silent = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_scheduler(
            self.lr_scheduler, silent, num_warmup_steps=min(self.lr_warmup_steps, total_steps), num_training_steps=total_steps,
            num_cycles=self.lr_num_cycles, power=self.lr_power,
        )  # fmt: skip
        return schedule.lr_lambdas[0]


def _library(optimizer: Optimizer, module: str) -> Any:
    assert optimizer.package
    package, setting = optimizer.package
    try:
        return import_module(module)
    except ImportError:
        raise SettingError(setting, f"{package} is not installed.", fix=f"pip install {package}") from None
