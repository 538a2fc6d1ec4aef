"""What all of PEFT's methods share: small weights beside frozen layers, put in, named, kept and switched off in one way."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.draws import key
from dreambooth.core.errors import SettingError, first_line
from dreambooth.families.base import Family
from dreambooth.files.atomic import write_json
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.methods.base import Learner, Method

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's own file names."""
PREFIX = "base_model.model."
"""What PEFT puts before the names of layers."""
UNCOMPILED = {"torch_compile": ("in each of its layers PEFT draws whether to drop it, which breaks every graph.", "Leave it out.")}
"""What methods exclude whose layers cannot be compiled."""


class AdapterMethod(Method, ABC):
    """A method of PEFT's"""

    lora_layers: str | None = None
    """Names of the denoiser's layers to change, with commas between; automatic: its attention's projections."""

    @abstractmethod
    def peft(self, targets: list[str]) -> Any:
        """PEFT's configuration for these layers."""

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        self.put_in(family, parts, seed=seed)
        return Adapters(family, parts)

    def put_in(self, family: Family, parts: Sequence[str], *, seed: int) -> None:
        """The method's layers around those of the parts, learning in float32; they change nothing yet."""
        with torch.random.fork_rng(devices=[]):  # PEFT draws on the CPU, whatever the model is on
            torch.default_generator.manual_seed(key(seed, "lora"))
            for name in parts:
                self._add(family, name)

    def _add(self, family: Family, name: str) -> None:
        part = family.parts[name]
        targets = family.text_lora_targets if name != family.denoiser_name else self._targets(family)
        try:
            part.add_adapter(self.peft(list(targets)))
        except (ValueError, TypeError) as error:
            raise SettingError("--lora_layers", f"{first_line(error)}.", fix=_fix(family)) from None
        for own in part.peft_config.values():
            own.base_model_name_or_path = None  # of a text encoder PEFT notes its folder on this disk, and files carry it around
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
    """The family's own layers by kind: N stands for the number where a layer is named once for each of 48 blocks."""
    kinds: dict[str, list[str]] = {}
    for name in family.lora_targets:
        kinds.setdefault(re.sub(r"\.\d+(?=\.)", ".N", name), []).append(name)
    return f"This family's own are {', '.join(names[0] if len(names) == 1 else kind for kind, names in kinds.items())}."


class Adapters(Learner):
    """Each part's weights and configuration in PEFT's own layout, in a folder of the part's name: what `PeftModel` loads."""

    def save(self, folder: Path, *, whole: bool) -> None:
        for name in self.parts:
            place, part = folder / name, self.family.parts[name]
            place.mkdir(parents=True, exist_ok=True)
            save_tensors(place / WEIGHTS, {f"{PREFIX}{path}": value for path, value in tensors_of(part).items()})
            config = part.peft_config["default"].to_dict()
            write_json(place / CONFIG, {field: sorted(value) if isinstance(value, set) else value for field, value in config.items()})

    def load(self, folder: Path) -> None:
        for name in self.parts:
            found, _ = load_tensors(folder / name / WEIGHTS)
            self.fill({name: {path.removeprefix(PREFIX): value for path, value in found.items()}}, folder / name / WEIGHTS)

    def fill(self, tensors: dict[str, dict[str, torch.Tensor]], file: Path) -> None:
        """Put what was read of each part into it; raises SettingError where anything does not fit."""
        from peft import set_peft_model_state_dict

        for name, found in tensors.items():
            expected = {path: value.shape for path, value in tensors_of(self.family.parts[name]).items()}
            if expected != {path: value.shape for path, value in found.items()}:
                reason = f"does not fit the {' and '.join(self.parts)} of this base model with this rank."
                raise SettingError(str(file), reason, fix="Use the base model and the settings it was made with.")
            set_peft_model_state_dict(self.family.parts[name], found)

    def disabled(self) -> AbstractContextManager[None] | None:
        return self._disabled()

    def usage_snippet(self) -> str:
        return "\n".join(["from peft import PeftModel", *(f'PeftModel.from_pretrained(pipe.{name}, "{name}")' for name in self.parts)])

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


def tensors_of(part: Any) -> dict[str, torch.Tensor]:
    """What PEFT keeps of a part, by its own names."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(part)
