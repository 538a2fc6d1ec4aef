"""LoRA: W' = W + (alpha / r) B A (Hu et al. 2022, Eq. 3); DoRA: W' = m V / |V| with V as LoRA's W' (Liu et al. 2024, Eq. 5). By PEFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.files.names import DIFFUSERS_FILE as WEIGHTS
from dreambooth.files.tensors import load_tensors, sort_header
from dreambooth.methods.adapters import AdapterMethod, Adapters, tensors_of
from dreambooth.methods.base import Learner
from dreambooth.schema import BASIC

DORA = "programs that read kohya's names do not agree on DoRA, so no file is for all of them."
MAGNITUDE, OUTER = "lora_magnitude_vector", "text_model"


class LoRA(AdapterMethod):
    """Small matrices beside the frozen weights learn; a small file for diffusers, and for SD and SDXL one for ComfyUI and A1111."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Ge(1), Le(4096), BASIC] = 4
    """Rank r of the update B A. More can be learned, and the file grows in proportion."""
    lora_alpha: Annotated[float, Gt(0), Le(1e6)] | None = None
    """The update counts lora_alpha / rank; automatic: the rank, so that the factor is 1."""
    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of a layer's inputs that LoRA does not see in a step."""
    use_dora: bool = False
    """Learn each output row's length apart from its direction (DoRA): more faithful at low rank, slower."""

    def peft(self, targets: list[str]) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank, lora_alpha=self.lora_alpha or self.rank, lora_dropout=self.lora_dropout, use_dora=self.use_dora,  # type: ignore[arg-type]
            init_lora_weights="gaussian", target_modules=targets,
        )  # fmt: skip

    def excludes(self) -> dict[str, tuple[str, str]]:
        return {"output_kohya_format": (DORA, "Leave it out, and export: --as comfy or kohya.")} if self.use_dora else {}

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        self.put_in(family, parts, seed=seed)
        if self.use_dora:
            for name in parts:
                _measure(family.parts[name])
        return DiffusersFile(family, parts)


class DiffusersFile(Adapters):
    """All parts in `pytorch_lora_weights.safetensors`, with their alpha and rank in its header."""

    def save(self, folder: Path, *, whole: bool) -> None:
        from diffusers.training_utils import _collate_lora_metadata

        modules = {name: self.family.parts[name] for name in self.parts}
        layers: dict[str, Any] = {f"{name}_lora_layers": _tensors(part) for name, part in modules.items()}
        self.family.pipe.save_lora_weights(folder, safe_serialization=True, **layers, **_collate_lora_metadata(modules))
        sort_header(folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        from peft import set_peft_model_state_dict

        found, _ = load_tensors(folder / WEIGHTS)
        parts = {name: self.family.parts[name] for name in self.parts}
        expected = {f"{name}.{path}": value.shape for name, part in parts.items() for path, value in _tensors(part).items()}
        tensors = {path if path in expected else _below_outer(path): value for path, value in found.items()}
        if expected != {path: value.shape for path, value in tensors.items()}:
            reason = f"does not fit the {' and '.join(parts)} of this base model with this rank."
            raise SettingError(str(folder / WEIGHTS), reason, fix="Use the base model and the settings it was made with.")
        for name, part in parts.items():
            own = {path.removeprefix(f"{name}."): value for path, value in tensors.items() if path.startswith(f"{name}.")}
            inner = "" if hasattr(part, OUTER) else f"{OUTER}."
            own = {path.removeprefix(inner).replace(f"{MAGNITUDE}.weight", MAGNITUDE): value for path, value in own.items()}
            set_peft_model_state_dict(part, own)

    def usage_snippet(self) -> str:
        return self.family.lora_snippet


@torch.no_grad()
def _measure(part: Any) -> None:
    """DoRA's lengths anew, in float32, where PEFT has rounded them to the weights' half precision: else the model is another at once."""
    for module in part.modules():
        for name, magnitude in getattr(module, MAGNITUDE, {}).items():
            weight = module.get_base_layer().weight.float()
            dims = tuple(range(1, weight.ndim))
            assert not module.lora_B[name].weight.any(), "nothing has been learned yet"
            magnitude.weight.copy_(weight.norm(dim=dims).view_as(magnitude.weight))


def _below_outer(path: str) -> str:
    """A text encoder's weight as a file names it in which transformers 5 has left out `text_model`."""
    part, _, rest = path.partition(".")
    return f"{part}.{OUTER}.{rest}"


def _tensors(part: Any) -> dict[str, torch.Tensor]:
    """What PEFT keeps of a part. A text encoder's magnitudes are named as weights: transformers drops them in silence otherwise. And
    CLIP's layers stand below `text_model`, as everywhere but in transformers 5: ComfyUI and older diffusers know no other name."""
    from transformers import CLIPTextModel, PreTrainedModel

    tensors = tensors_of(part)
    if not isinstance(part, PreTrainedModel):
        return tensors
    outer = f"{OUTER}." if isinstance(part, CLIPTextModel) and not hasattr(part, OUTER) else ""
    return {outer + (f"{path}.weight" if path.endswith(MAGNITUDE) else path): value for path, value in tensors.items()}
