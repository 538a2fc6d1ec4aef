"""How the programs that draw name the layers of one network: a table for each, from the layers' names in diffusers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A layer, or several whose outputs are one layer's in the network's first release, in their order there."""

    native: str
    """Its name there, `{0}` for the number of the block."""
    own: tuple[str, ...]
    """diffusers' names, `{0}` for the same number; `name[1/2]` is the second half of a layer's outputs."""
    beside: str = ""
    """A layer that the block has to have, where a block without it means something else by the same name."""


@dataclass(frozen=True)
class Slice:
    """The outputs of a layer of diffusers' that are part of a native layer: part `number` of `of` equal ones."""

    layer: str
    number: int = 0
    of: int = 1

    def rows(self, count: int) -> slice:
        """Of a layer with so many outputs."""
        size = count // self.of
        return slice(self.number * size, (self.number + 1) * size)


@dataclass(frozen=True)
class Names:
    """The names of one network."""

    rows: tuple[Row, ...] = ()
    """What its first release calls its layers; nothing where those are diffusers' names."""
    comfy: str | None = None
    """What stands before diffusers' names where ComfyUI reads them, dots kept; None where it does not."""
    comfy_lycoris: str | None = None
    """The same for LoHa and LoKr, dots as underscores."""
    kohya: Mapping[str, str] = field(default_factory=dict)
    """What stands before kohya's names, by part; nothing where its tools do not know the network."""
    in_forge: bool = False
    """Whether A1111 or Forge draws with the network, and reads its LoRAs in kohya's names."""
    diffusers: str = "pipe.load_lora_weights"
    """How diffusers loads the file that ComfyUI reads; nothing where its pipeline cannot."""
    clip: Mapping[str, str] = field(default_factory=dict)
    """What ComfyUI calls the text encoders."""

    def natives(self, layers: Iterable[str]) -> dict[str, tuple[Slice, ...]]:
        """The native layers of a network that has these of diffusers', each with the layers that it consists of."""
        known, found = set(layers), dict[str, tuple[Slice, ...]]()
        numbers = sorted({int(number) for layer in known for number in re.findall(r"\.(\d+)\.", f".{layer}")})
        for row in self.rows:
            for number in numbers if "{0}" in row.native else (0,):
                slices = tuple(_slice(name.format(number)) for name in row.own)
                if all(one.layer in known for one in slices) and (not row.beside or row.beside.format(number) in known):
                    found[row.native.format(number)] = slices
        return found


def _slice(text: str) -> Slice:
    name, _, part = text.partition("[")
    if not part:
        return Slice(name)
    number, of = part.rstrip("]").split("/")
    return Slice(name, int(number), int(of))


def table(block: str, own: str, pairs: Mapping[str, Sequence[str] | str]) -> tuple[Row, ...]:
    """Rows of one kind of block: native names below `block`, diffusers' below `own`."""
    return tuple(
        Row(f"{block}{native}", tuple(f"{own}{name}" for name in ((names,) if isinstance(names, str) else names)))
        for native, names in pairs.items()
    )
