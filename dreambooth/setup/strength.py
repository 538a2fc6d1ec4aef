"""How strongly a LoRA counts: its update times a factor, without touching what it has learned."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dreambooth.families import Family
from dreambooth.formats.loras import ADAPTER

SCALED = ("lora", "loha", "lokr")
"""Methods whose update is added to the weights, and can count more or less."""


@contextmanager
def lora_strength(family: Family, factor: float, *, of_file: bool) -> Iterator[None]:
    """A block in which the LoRA of a file (`of_file`), or else the run's own, counts `factor` times: 0 is the model without it, 1 as it is.

    DoRA's learned lengths stay at 0, too.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [module for part in family.parts.values() for module in part.modules() if isinstance(module, BaseTunerLayer)]
    before = [(layer, dict(layer.scaling)) for layer in layers if isinstance(getattr(layer, "scaling", None), dict)]
    try:
        for layer, scaling in before:
            layer.scaling = {name: value * factor if (name == ADAPTER) == of_file else value for name, value in scaling.items()}
        yield
    finally:
        for layer, scaling in before:
            layer.scaling = scaling
