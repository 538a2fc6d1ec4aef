"""Z-Image's layers as Alibaba named them: queries, keys and values are one layer, all others are called as in diffusers."""

from dreambooth.formats.names.base import Names, Row, table

FUSED = {"attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"), "attention.out": "attention.to_out.0"}

NAMES = Names(
    rows=(
        *(row for block in ("layers", "noise_refiner", "context_refiner") for row in table(f"{block}.{{0}}.", f"{block}.{{0}}.", FUSED)),
        Row("final_layer.linear", ("all_final_layer.2-1.linear",)),
        Row("final_layer.adaLN_modulation.1", ("all_final_layer.2-1.adaLN_modulation.1",)),
        Row("x_embedder", ("all_x_embedder.2-1",)),
    ),
    comfy="transformer.",
    comfy_lycoris="lycoris_",
)
