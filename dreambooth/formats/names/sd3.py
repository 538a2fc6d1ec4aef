"""Stable Diffusion 3's layers as Stability named them: a joint block is one of the picture (x) and one of the text (context)."""

from dreambooth.formats.names.base import Names, Row, table

BLOCK = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn.proj": "attn.to_out.0", "context_block.attn.proj": "attn.to_add_out",
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"), "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj", "x_block.mlp.fc2": "ff.net.2",
    "context_block.mlp.fc1": "ff_context.net.0.proj", "context_block.mlp.fc2": "ff_context.net.2",
    "x_block.adaLN_modulation.1": "norm1.linear",
}  # fmt: skip
ENDS = {
    "x_embedder.proj": "pos_embed.proj", "context_embedder": "context_embedder", "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": ("norm_out.linear[1/2]", "norm_out.linear[0/2]"),
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1", "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
}  # fmt: skip
MODULATION = Row(
    "joint_blocks.{0}.context_block.adaLN_modulation.1", ("transformer_blocks.{0}.norm1_context.linear",),
    beside="transformer_blocks.{0}.ff_context.net.2",
)  # fmt: skip
"""Not of the last block, whose text goes on to nothing but its attention: its halves stand in another order in diffusers."""

NAMES = Names(
    rows=(*table("joint_blocks.{0}.", "transformer_blocks.{0}.", BLOCK), MODULATION, *table("", "", ENDS)),
    comfy="transformer.",
    comfy_lycoris="lycoris_",
    kohya={"transformer": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2", "text_encoder_3": "lora_te3"},
    clip={"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"},
)
