"""OFT: W' = R W with R block-diagonal and orthogonal, so that angles between neurons stay (Qiu et al. 2023). By PEFT."""

from typing import Any, Literal

from dreambooth.methods.adapters import AdapterMethod
from dreambooth.schema import Count


class OFT(AdapterMethod):
    """A rotation of the frozen weights' inputs learns; PEFT loads the result."""

    kind: Literal["oft"] = "oft"
    oft_blocks: Count = 4
    """Blocks of the rotation in each layer: fewer can learn more. The paper has 4."""

    def peft(self, targets: list[str]) -> Any:
        """Cayley's inverse is exact here, and not PEFT's five terms of a series: R stays orthogonal."""
        from peft import OFTConfig

        return OFTConfig(r=self.oft_blocks, oft_block_size=0, use_cayley_neumann=False, target_modules=targets)
