"""Settings that make a training need less memory: what each acts on and what it costs, the cheapest first.

A new one is its line in `LEVERS`: the plan counts what it saves by running the step with it, so that nothing else has to be known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dreambooth.schema import flags
from dreambooth.setup.base_weights import FORMATS, BaseWeights
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.fused import obstacles

Changes = Mapping[tuple[str, ...], Any]
"""Settings by their place in the tree."""


@dataclass(frozen=True)
class Lever:
    """A way to need less memory."""

    acts_on: tuple[str, ...]
    """Of what a peak is made of, the parts that it makes smaller."""
    cost: str
    """What it costs, for people."""
    changes: Callable[[TrainConfig], Changes]
    """What it sets, beside the settings at hand; nothing where it has nothing to do, or cannot be."""
    of_gpus: bool = False
    """Whether only a device with memory of its own can have it."""
    of_one: bool = False
    """Whether only a process can have it that trains alone."""


def _fused(config: TrainConfig) -> Changes:
    """Only where nothing is clipped: to give that up would be another training."""
    can = not config.execution.fused_backward_pass and not config.execution.is_divided and not any(obstacles(config))
    return {("execution", "fused_backward_pass"): True} if can else {}


def _checkpointing(config: TrainConfig) -> Changes:
    return {("loop", "gradient_checkpointing"): True} if not config.loop.gradient_checkpointing else {}


def _eight_bit(config: TrainConfig) -> Changes:
    optimizer = config.optimization.chosen.eight_bit
    can = optimizer and optimizer.package and find_spec(optimizer.package[0]) and not _divides_what_learns(config)
    return {("optimization", "use_8bit_adam"): True} if can else {}


def _bf16(config: TrainConfig) -> Changes:
    if config.loop.mixed_precision != "no":
        return {}
    return {("loop", "mixed_precision"): "bf16", **(_checkpointing(config) if _divides_what_learns(config) else {})}


def _divides_what_learns(config: TrainConfig) -> bool:
    return config.execution.is_divided and config.method.trains_whole_parts


def _eight_bit_base(config: TrainConfig) -> Changes:
    return {("loop", "base_weights"): "int8"} if _can_pack(config, "bf16", None) else {}


def _four_bit_base(config: TrainConfig) -> Changes:
    package = FORMATS["nf4"].package
    can = _can_pack(config, "bf16", "fp8", "int8", None) and package and find_spec(package)
    return {("loop", "base_weights"): "nf4"} if can else {}


def _can_pack(config: TrainConfig, *now: BaseWeights | None) -> bool:
    """Whether frozen weights are kept in one of these ways, and may be kept in a smaller one."""
    can = "base_weights" not in config.method.excludes() and not config.execution.torch_compile
    return can and config.loop.base_weights in now


def _offload(config: TrainConfig) -> Changes:
    execution = config.execution
    can = "group_offload" not in config.method.excludes() and not execution.torch_compile
    can = can and not execution.group_offload and not execution.is_divided
    return {("execution", "group_offload"): True, **_checkpointing(config)} if can else {}


def _pieces(config: TrainConfig) -> Changes:
    loop = config.loop
    pieces = {
        ("loop", "train_batch_size"): 1,
        ("loop", "gradient_accumulation_steps"): loop.gradient_accumulation_steps * loop.train_batch_size,
    } | ({("execution", "fused_backward_pass"): False} if config.execution.fused_backward_pass else {})
    return pieces if loop.train_batch_size > 1 else {}


LEVERS = (
    Lever(("gradients",), "the optimizer steps tensor by tensor", _fused, of_one=True),
    Lever(("activations",), "about a quarter slower", _checkpointing),
    Lever(("optimizer",), "rounds the optimizer's state to 8 bits", _eight_bit),
    Lever(("weights", "text encoders", "activations"), "rounds the arithmetic to bfloat16", _bf16),
    Lever(("weights", "text encoders"), "rounds the frozen weights to 8 bits, and unpacks them to compute", _eight_bit_base),
    Lever(("weights", "text encoders"), "rounds the frozen weights to 4 bits, and unpacks them to compute", _four_bit_base),
    Lever(("weights", "text encoders"), "frozen weights cross from RAM, so slower; not run on a GPU yet", _offload, of_gpus=True),
    Lever(("activations",), "the same update in more pieces, so slower", _pieces),
)  # fmt: skip


def words(changes: Changes) -> str:
    """The flags that set this: `--gradient_checkpointing --train_batch_size 1`."""
    names = {flag.path: flag.name for flag in flags(TrainConfig).values()}
    switches = {True: "--", False: "--no-"}
    return " ".join(
        f"{switches[value]}{names[path]}" if isinstance(value, bool) else f"--{names[path]} {value}" for path, value in changes.items()
    )


PATHS = (
    ("loop", "gradient_checkpointing"), ("loop", "mixed_precision"), ("loop", "train_batch_size"), ("loop", "gradient_accumulation_steps"),
    ("loop", "base_weights"), ("optimization", "use_8bit_adam"), ("execution", "fused_backward_pass"), ("execution", "group_offload"),
)  # fmt: skip
"""All settings that levers set."""
