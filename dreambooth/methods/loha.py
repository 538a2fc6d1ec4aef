"""LoHa: W' = W + (alpha / r) (B1 A1) * (B2 A2), elementwise: rank up to r^2 from 2r's weights (Hyeon-Woo et al. 2022, Prop. 1). By PEFT."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dreambooth.methods.adapters import UNCOMPILED, AdapterMethod


class LoHa(AdapterMethod):
    """The elementwise product of two small pairs of matrices learns beside the frozen weights; PEFT loads the result."""

    kind: Literal["loha"] = "loha"
    rank: Annotated[int, Ge(1), Le(4096)] = 4
    """Rank r of each of the two factors."""
    lora_alpha: Annotated[float, Gt(0), Le(1e6)] | None = None
    """The update counts lora_alpha / rank; automatic: the rank."""

    def excludes(self) -> dict[str, tuple[str, str]]:
        return super().excludes() | UNCOMPILED

    def peft(self, targets: list[str]) -> Any:
        from peft import LoHaConfig

        return LoHaConfig(r=self.rank, alpha=self.lora_alpha or self.rank, target_modules=targets)  # type: ignore[arg-type]
