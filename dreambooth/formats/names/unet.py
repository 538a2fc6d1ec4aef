"""A Stable Diffusion UNet's layers as its first release named them: input blocks, middle block and output blocks, counted through.

Ends of every level's last block: on the way down a downsampler is a block of its own, on the way up an upsampler is the last entry of its
level's last block.
"""

from collections.abc import Iterable, Mapping

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def native_block(block: str, kind: str, level: int, number: int, per_level: int, has_attention: bool) -> str:
    """`input_blocks.4.1` for down_blocks.1.attentions.0; `kind` is resnets, attentions, downsamplers or upsamplers."""
    if block == "mid_block":
        return f"middle_block.{1 if kind == 'attentions' else 2 * number}"
    if block == "down_blocks":
        place = (per_level + 1) * level + number + 1
        return f"input_blocks.{(per_level + 1) * (level + 1)}.0" if kind == "downsamplers" else f"input_blocks.{place}.{_inside(kind)}"
    place = (per_level + 1) * level + number
    if kind == "upsamplers":
        return f"output_blocks.{(per_level + 1) * level + per_level}.{2 if has_attention else 1}"
    return f"output_blocks.{place}.{_inside(kind)}"


def _inside(kind: str) -> int:
    return 1 if kind == "attentions" else 0


def natives(names: Iterable[str], per_level: int) -> dict[str, str]:
    """The first release's names by diffusers', of layers or weights of a UNet with so many ResNets a level; others are left out."""
    known = list(names)
    attentive = {tuple(name.split(".")[:2]) for name in known if ".attentions." in name}
    found = dict[str, str]()
    for name in known:
        native = _native(name, per_level, attentive)
        if native:
            found[name] = native
    return found


def _native(name: str, per_level: int, attentive: set[tuple[str, ...]]) -> str | None:
    for own, native in ENDS.items():
        if name == own or name.startswith(f"{own}."):
            return native + name.removeprefix(own)
    block, *rest = name.split(".")
    if block == "mid_block":
        rest = ["0", *rest]
    if block not in ("down_blocks", "mid_block", "up_blocks") or len(rest) < 4:
        return None
    level, kind, number, *inner = rest
    place = native_block(block, kind, int(level), int(number), per_level, (block, level) in attentive)
    if kind == "resnets":
        return ".".join([place, _renamed(inner, RESNET)])
    if kind == "downsamplers":
        return ".".join([place, _renamed(inner, {"conv": "op"})])
    return ".".join([place, *inner])


def _renamed(inner: list[str], words: Mapping[str, str]) -> str:
    return ".".join([words.get(inner[0], inner[0]), *inner[1:]])
