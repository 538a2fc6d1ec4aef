"""FLUX.1's layers as Black Forest Labs named them: queries, keys and values are one layer, and in single blocks the MLP's first, too."""

from dreambooth.formats.names.base import Names, table

DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"), "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": "attn.to_out.0", "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj", "img_mlp.2": "ff.net.2", "txt_mlp.0": "ff_context.net.0.proj", "txt_mlp.2": "ff_context.net.2",
    "img_mod.lin": "norm1.linear", "txt_mod.lin": "norm1_context.linear",
}  # fmt: skip
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), "linear2": "proj_out", "modulation.lin": "norm.linear",
}  # fmt: skip
ENDS = {
    "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": ("norm_out.linear[1/2]", "norm_out.linear[0/2]"),
    **{
        f"{theirs}_in.{layer}": f"time_text_embed.{own}_embedder.linear_{number}"
        for theirs, own in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance"))
        for layer, number in (("in_layer", 1), ("out_layer", 2))
    },
}  # fmt: skip

NAMES = Names(
    rows=(
        *table("double_blocks.{0}.", "transformer_blocks.{0}.", DOUBLE),
        *table("single_blocks.{0}.", "single_transformer_blocks.{0}.", SINGLE),
        *table("", "", ENDS),
    ),
    comfy="transformer.",
    comfy_lycoris="lycoris_",
    in_forge=True,
    kohya={"transformer": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te3"},
    clip={"text_encoder": "clip_l", "text_encoder_2": "t5xxl"},
)
