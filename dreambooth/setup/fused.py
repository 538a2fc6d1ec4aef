"""When an optimizer can step within the backward pass."""

from collections.abc import Iterator

from dreambooth.core.errors import SettingError
from dreambooth.setup.config import TrainConfig

SETTING = "--fused_backward_pass"


def refuse_fused(config: TrainConfig) -> None:
    """Raise SettingError where an update needs all of its gradients at once, or where there are few."""
    if config.execution.fused_backward_pass:
        for reason, fix in obstacles(config):
            raise SettingError(SETTING, reason, fix=fix)


def refuse_fused_by_several(config: TrainConfig, processes: int) -> None:
    """Raise SettingError where other processes' gradients are added after the backward pass."""
    if config.execution.fused_backward_pass and processes > 1:
        raise SettingError(SETTING, "the gradients of several processes are added up after the backward pass.", fix="Leave it out.")


def obstacles(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """What keeps a run from stepping tensor by tensor: the reason and the fix."""
    if not config.method.trains_whole_parts:
        yield f"what {config.method.kind} learns is small, and its gradients with it.", "Leave it out, or use --method full."
    if config.optimization.max_grad_norm:
        longest = config.optimization.max_grad_norm
        yield f"gradients are clipped at {longest:g}, for which all must be there.", "Add --max_grad_norm 0 (no clipping), or leave it out."
    if config.loop.gradient_accumulation_steps > 1:
        parts = config.loop.gradient_accumulation_steps
        yield f"a step is added up from {parts} parts before it is taken.", "Add --gradient_accumulation_steps 1, or leave it out."
    if config.cropping.aspect_ratio_buckets:
        yield "photos of several shapes are added up before a step is taken.", "Leave out --aspect_ratio_buckets, or this."
    if config.loop.mixed_precision == "fp16":
        yield "float16 needs to see all gradients to find its scale.", "Use --mixed_precision bf16, or leave it out."
    if not config.optimization.chosen.steps_alone:
        yield f"{config.optimization.optimizer} looks at all gradients for one learning rate.", "Use --optimizer adamw, or leave it out."
