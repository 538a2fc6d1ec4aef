"""LoRA: W' = W + (alpha / r) B A (Hu et al. 2022, Eq. 3); DoRA: W' = m V / |V| with V as LoRA's W' (Liu et al. 2024, Eq. 5). By PEFT."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt

from dreambooth.core.draws import key
from dreambooth.core.errors import SettingError, first_line
from dreambooth.families.base import Family
from dreambooth.files.layouts import DIFFUSERS_FILE as WEIGHTS
from dreambooth.files.tensors import load_tensors, sort_header
from dreambooth.methods.base import Learner, Method

MAGNITUDE = "lora_magnitude_vector"


class LoRA(Method):
    """Small matrices beside the frozen weights learn; the result is one small file that diffusers, ComfyUI and A1111 load."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Ge(1)] = 4
    """Rank r of the update B A. More can be learned, and the file grows in proportion."""
    lora_alpha: Annotated[float, Gt(0)] | None = None
    """The update counts lora_alpha / rank; left out, it is the rank, so that the factor is 1."""
    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of a layer's inputs that LoRA does not see in a step."""
    lora_layers: str | None = None
    """Names of the denoiser's layers to change, with commas between; left out, its attention's projections."""
    use_dora: bool = False
    """Learn each output row's length apart from its direction (DoRA): more faithful at low rank, slower."""

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        with torch.random.fork_rng(devices=[]):  # PEFT draws on the CPU, whatever the model is on
            torch.default_generator.manual_seed(key(seed, "lora"))
            for name in parts:
                self._add(family, name)
        return Adapters(family, parts)

    def _add(self, family: Family, name: str) -> None:
        from peft import LoraConfig

        part = family.parts[name]
        targets = family.text_lora_targets if name != family.denoiser_name else self._targets(family)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.lora_alpha or self.rank, lora_dropout=self.lora_dropout, use_dora=self.use_dora,  # type: ignore[arg-type]
            init_lora_weights="gaussian", target_modules=list(targets),
        )  # fmt: skip
        try:
            part.add_adapter(config)
        except ValueError as error:
            raise SettingError("--lora_layers", f"{first_line(error)}.", fix=_fix(family)) from None
        for parameter in part.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        part.train(part.training)

    def _targets(self, family: Family) -> Sequence[str]:
        """The denoiser's layers that change; raises SettingError for a name that none of its layers has."""
        if self.lora_layers is None:
            return family.lora_targets
        names = [name.strip() for name in self.lora_layers.split(",") if name.strip()]
        layers = [f".{name}" for name, _ in family.denoiser.named_modules()]
        unknown = [name for name in names if not any(layer.endswith(f".{name}") for layer in layers)]
        if unknown or not names:
            reason = f"no layer of the {family.denoiser_name} is named {' or '.join(unknown) or repr(self.lora_layers)}."
            raise SettingError("--lora_layers", reason, fix=_fix(family))
        return names


def _fix(family: Family) -> str:
    return f"This family's own are {', '.join(family.lora_targets)}."


class Adapters(Learner):
    """PEFT adapters, in `pytorch_lora_weights.safetensors` with their alpha and rank in its header."""

    def save(self, folder: Path, *, whole: bool) -> None:
        from diffusers.training_utils import _collate_lora_metadata

        modules = {name: self.family.parts[name] for name in self.parts}
        layers: dict[str, Any] = {f"{name}_lora_layers": _tensors(part) for name, part in modules.items()}
        self.family.pipe.save_lora_weights(folder, safe_serialization=True, **layers, **_collate_lora_metadata(modules))
        sort_header(folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        from peft import set_peft_model_state_dict

        tensors, _ = load_tensors(folder / WEIGHTS)
        parts = {name: self.family.parts[name] for name in self.parts}
        expected = {f"{name}.{path}": value.shape for name, part in parts.items() for path, value in _tensors(part).items()}
        if expected != {path: value.shape for path, value in tensors.items()}:
            reason = f"does not fit the {' and '.join(parts)} of this base model with this rank."
            raise SettingError(str(folder / WEIGHTS), reason, fix="Use the base model and the settings it was made with.")
        for name, part in parts.items():
            own = {path.removeprefix(f"{name}."): value for path, value in tensors.items() if path.startswith(f"{name}.")}
            set_peft_model_state_dict(part, {path.replace(f"{MAGNITUDE}.weight", MAGNITUDE): value for path, value in own.items()})

    def disabled(self) -> AbstractContextManager[None] | None:
        return self._disabled()

    def loading(self) -> str:
        return 'pipe.load_lora_weights(".")'

    @contextmanager
    def _disabled(self) -> Iterator[None]:
        modules = [self.family.parts[name] for name in self.parts]
        for module in modules:
            module.disable_adapters()
        try:
            yield
        finally:
            for module in modules:
                module.enable_adapters()


def _tensors(part: Any) -> dict[str, torch.Tensor]:
    """What PEFT keeps of a part. A text encoder's magnitudes are named as weights: transformers drops them in silence otherwise."""
    from peft import get_peft_model_state_dict
    from transformers import PreTrainedModel

    tensors = get_peft_model_state_dict(part)
    if not isinstance(part, PreTrainedModel):
        return tensors
    return {f"{path}.weight" if path.endswith(MAGNITUDE) else path: value for path, value in tensors.items()}
