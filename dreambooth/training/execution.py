"""By which means an update is computed. None of them changes what is computed, beyond roundings."""

from typing import Literal

from dreambooth.schema import Setting

AttentionBackend = Literal[
    "native", "_native_math", "_native_efficient", "_native_flash", "_native_cudnn", "flash", "_flash_3", "xformers"
]  # fmt: skip


class Execution(Setting):
    """How updates are computed"""

    attention_backend: AttentionBackend | None = None
    """Kernel of the denoiser's attention, by diffusers' names: torch's of one kind (_native_...), or another package's. Stable
    Diffusion has native alone. Automatic: native, of which torch takes the fastest that the device has."""
    fused_backward_pass: bool = False
    """Full fine-tuning: step each tensor within the backward pass and let its gradient go, so that none are kept (4 bytes a weight). The
    same result; it needs --max_grad_norm 0, as clipping must see all of them, and --gradient_accumulation_steps 1."""
