"""OFT: W' = R W with R block-diagonal and orthogonal, so that angles between neurons stay (Qiu et al. 2023). By PEFT."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from dreambooth.methods.adapters import AdapterMethod


class OFT(AdapterMethod):
    """A rotation of the frozen weights' inputs learns; PEFT loads the result."""

    kind: Literal["oft"] = "oft"
    oft_blocks: Annotated[int, Ge(1)] = 4
    """Blocks of the rotation in each layer: fewer can learn more. The paper has 4."""
    coft: bool = False
    """Keep the rotation within --coft_eps of none at all (constrained OFT): it does not collapse when trained long."""
    coft_eps: Annotated[float, Gt(0)] = 6e-5
    """How far, for --coft."""

    def peft(self, targets: list[str]) -> Any:
        """Cayley's inverse is exact here, and not PEFT's five terms of a series: R stays orthogonal."""
        from peft import OFTConfig

        return OFTConfig(
            r=self.oft_blocks, oft_block_size=0, coft=self.coft, eps=self.coft_eps, use_cayley_neumann=False, target_modules=targets,
        )  # fmt: skip
