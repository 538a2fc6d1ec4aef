"""LoKr: W' = W + (alpha / r) C x (B A), a Kronecker product (Yeh et al. 2024, section 3; Edalati et al. 2022). By PEFT."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dreambooth.methods.adapters import UNCOMPILED, AdapterMethod


class LoKr(AdapterMethod):
    """The Kronecker product of two small matrices learns beside the frozen weights, the smallest file of all; PEFT loads the result."""

    kind: Literal["lokr"] = "lokr"
    rank: Annotated[int, Ge(1), Le(4096)] = 4
    """Rank r of the larger factor."""
    lora_alpha: Annotated[float, Gt(0), Le(1e6)] | None = None
    """The update counts lora_alpha / rank; automatic: the rank."""
    decompose_factor: Annotated[int, Ge(-1), Le(10**6)] = -1
    """Side of the smaller factor; -1 makes both as equal as the layer allows, a small number learns more."""

    def excludes(self) -> dict[str, tuple[str, str]]:
        return super().excludes() | UNCOMPILED

    def peft(self, targets: list[str]) -> Any:
        from peft import LoKrConfig

        return LoKrConfig(
            r=self.rank, alpha=self.lora_alpha or self.rank, decompose_factor=self.decompose_factor, target_modules=targets,  # type: ignore[arg-type]
        )  # fmt: skip
