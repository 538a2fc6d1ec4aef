"""OFT: W' = R W with R block-diagonal and orthogonal, so that angles between neurons stay (Qiu et al. 2023). By PEFT."""

from collections.abc import Sequence
from typing import Any, Literal

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.methods.adapters import AdapterMethod
from dreambooth.schema import Count


class OFT(AdapterMethod):
    """A rotation of the frozen weights' inputs learns; PEFT loads the result."""

    kind: Literal["oft"] = "oft"
    oft_blocks: Count = 4
    """Blocks of the rotation in each layer, or the nearest number that divides its inputs: fewer can learn more. The paper has 4."""

    def peft(self, targets: list[str]) -> Any:
        """Cayley's inverse is exact here, and not PEFT's five terms of a series: R stays orthogonal."""
        from peft import OFTConfig

        return OFTConfig(r=self.oft_blocks, oft_block_size=0, use_cayley_neumann=False, target_modules=targets)

    def put_in(self, family: Family, parts: Sequence[str], *, seed: int) -> None:
        from peft.tuners.oft.layer import OFTRotationModule

        super().put_in(family, parts, seed=seed)
        for name in parts:
            for path, module in family.parts[name].named_modules():
                if isinstance(module, OFTRotationModule) and module.block_size < 2:
                    layer, inputs = path.partition(".oft_R")[0], module.in_features
                    reason = f"{self.oft_blocks} blocks leave nothing to rotate in {layer}, which has {inputs} inputs."
                    raise SettingError("--oft_blocks", reason, fix=f"Give at most {inputs // 2}, or leave the layer out: --lora_layers.")

    def _targets(self, family: Family) -> Sequence[str]:
        targets = super()._targets(family)
        if self.lora_layers is None:
            return [name for name in targets if name not in family.deep_inputs]
        refused = [name for name in family.deep_inputs if any(f".{name}".endswith(f".{target}") for target in targets)]
        if refused:
            reason = f"the inputs of {refused[0]} have four dimensions, which PEFT's OFT takes for a picture's."
            raise SettingError("--lora_layers", reason, fix="Leave it out, or choose --method lora, loha or lokr.")
        return targets
