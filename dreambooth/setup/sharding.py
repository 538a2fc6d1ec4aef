"""When processes can hold a denoiser together (FSDP2), and how it is divided then."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from dreambooth.core.errors import SettingError
from dreambooth.families import Family
from dreambooth.families.sampling import Sampling, draw
from dreambooth.families.shards import Shards
from dreambooth.setup.base_weights.layers import as_parameters
from dreambooth.setup.config import TrainConfig
from dreambooth.training.ranks import PATIENCE, Ranks

SETTING = "--fsdp"
TRANSFORMER = "transformer"
"""diffusers' name for denoisers whose blocks are all alike."""


def refuse_sharding(config: TrainConfig) -> None:
    """Raise SettingError where the settings cannot be had of a divided denoiser."""
    if config.execution.is_divided:
        for setting, reason, fix in obstacles(config):
            raise SettingError(setting, reason, fix=fix)


def refuse_other_count(config: TrainConfig, processes: Ranks) -> None:
    """Raise SettingError where the processes that are to hold the denoiser are not those that there are."""
    wanted = config.execution.fsdp
    if wanted and config.execution.is_divided and wanted != processes.count:
        launch = f"torchrun --nproc_per_node {wanted} -m dreambooth train ..."
        others = f"Launch so many ({launch}), or add --fsdp {processes.count}."
        is_alone = processes.count == 1
        reason = f"{wanted} processes are to hold the model, and there {'is one' if is_alone else f'are {processes.count}'}."
        raise SettingError(SETTING, reason, fix=f"Launch so many ({launch}), or leave it out." if is_alone else others)


def refuse_undividable(config: TrainConfig, kind: type[Family]) -> None:
    """Raise SettingError for a denoiser that is not divided here."""
    if config.execution.is_divided and kind.denoiser_name != TRANSFORMER:
        reason = f"{kind.name} has a UNet, which one card holds; only transformers are divided."
        raise SettingError(SETTING, reason, fix="Launch with --multi_gpu alone (torchrun: leave --fsdp out): each process has it whole.")


def obstacles(config: TrainConfig) -> Iterator[tuple[str, str, str]]:
    """What cannot be done with a divided denoiser: the setting, the reason and the fix."""
    execution, loop, optimization = config.execution, config.loop, config.optimization
    either = "Leave one of the two out."
    if execution.group_offload:
        yield "--group_offload", "shares of weights stay on their devices (--fsdp).", either
    if execution.fused_backward_pass:
        yield "--fused_backward_pass", "processes add up their gradients after the backward pass (--fsdp).", either
    if execution.torch_compile:
        yield "--torch_compile", "a divided model (--fsdp) has not been compiled yet.", either
    if not config.method.trains_whole_parts:
        return
    if loop.mixed_precision == "fp16":
        yield "--mixed_precision", "each process would find a scale of its own for its share of the gradients (--fsdp).", "Use bf16."
    if loop.mixed_precision != "no" and not loop.gradient_checkpointing:
        reason = "without it every weight's rounded copy stays until the backward pass, in each process (--fsdp)."
        yield "--gradient_checkpointing", reason, "Add it, or use --mixed_precision no."
    if loop.use_ema:
        yield "--use_ema", "no average is kept of shares of weights yet (--fsdp).", "Leave one of the two out, or use --method lora."
    if optimization.use_8bit_adam:
        reason = "its blocks of 256 numbers would be cut by shares, and no other number of processes could go on (--fsdp)."
        yield "--use_8bit_adam", reason, "Leave it out: each process keeps its share of the state."
    if not optimization.chosen.steps_alone:
        yield (
            "--optimizer",
            f"{optimization.optimizer} finds one rate by all weights, of which each process has a share (--fsdp).",
            "Use adamw.",
        )


def shard(config: TrainConfig, family: Family, device: torch.device) -> None:
    """Divide the denoiser among the processes, with what learns in it where that is all of it."""
    if config.execution.is_divided:
        as_parameters(family.denoiser)
        family.shards = Shards(family.denoiser, device, learns=config.method.trains_whole_parts, patience=PATIENCE)
        family.shards.answers["draw"] = partial(_draw_beside, family)


def _draw_beside(
    family: Family, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, negative_prompt: str | None, precision: str
) -> None:  # fmt: skip
    """Draw what the first process draws, and let it go."""
    assert family.shards
    family.to(family.shards.device)
    how: dict[str, Any] = {"sampling": sampling, "negative_prompt": negative_prompt, "precision": precision}
    for _ in draw(family, prompts, seeds, batch_size=len(prompts), **how):
        pass
