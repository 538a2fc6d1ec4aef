"""By which means an update is computed. None of them changes what is computed, beyond roundings."""

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le

from dreambooth.schema import Setting

AttentionBackend = Literal[
    "native", "_native_math", "_native_efficient", "_native_flash", "_native_cudnn", "flash", "_flash_3", "xformers"
]  # fmt: skip


class Execution(Setting):
    """How updates are computed"""

    attention_backend: AttentionBackend | None = None
    """Kernel of the denoiser's attention, by diffusers' names: torch's of one kind (_native_...), or another package's. Stable
    Diffusion has native alone. Automatic: native, of which torch takes the fastest that the device has."""
    group_offload: bool = False
    """Keep the frozen weights of denoiser and text encoders in RAM, and bring them to the GPU block by block, the next one while one is
    computed: far less of its memory, and slower. It needs --gradient_checkpointing. Not run on a GPU yet."""
    fsdp: Annotated[int, Ge(1), Le(10_000)] | None = None
    """Hold a transformer denoiser together, by so many processes (`torchrun --nproc_per_node 4 -m dreambooth train --fsdp 4 ...`): each GPU
    has its share of the weights, and a block is gathered while it is computed (FSDP2). Automatic: as `accelerate launch --use_fsdp
    --fsdp_version 2` says, else each has the whole model. Not run on GPUs yet."""
    torch_compile: bool = False
    """Compile the denoiser for its updates by torch.compile: fewer and larger kernels, after minutes of compiling that long runs on a GPU
    are worth. Pictures are drawn without."""
    fused_backward_pass: bool = False
    """Full fine-tuning: step each tensor within the backward pass and let its gradient go, so that none are kept (4 bytes a weight). The
    same result; it needs --max_grad_norm 0, as clipping must see all of them, and --gradient_accumulation_steps 1."""

    @property
    def is_divided(self) -> bool:
        """Whether several processes hold the denoiser together."""
        return (self.fsdp or 1) > 1

    def compile(self, denoiser: Any, *, backend: str = "inductor") -> None:
        """Have a network compiled when it is first asked, in its place, so that its weights keep their names: block by block where
        diffusers says which ones repeat, for equal blocks share their code; else whole."""
        if self.torch_compile:
            compiled = denoiser.compile_repeated_blocks if denoiser._repeated_blocks else denoiser.compile
            compiled(backend=backend)

    def drawing(self) -> AbstractContextManager[Any]:
        """A block that computes as if nothing had been compiled: pictures have many shapes, each of which would be compiled for itself."""
        return torch.compiler.set_stance("force_eager") if self.torch_compile else nullcontext()
