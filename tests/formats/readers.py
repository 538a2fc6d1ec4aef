"""The layers' names that programs know, by the rules in their sources, written anew: for a network of any size, from its own layers."""

from torch import nn

BLOCK = {f"attn{i}.{name}" for i in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")} | {"ff.net.0.proj", "ff.net.2"}
"""ComfyUI's TRANSFORMER_BLOCKS, without norms."""
CLIP = ("mlp_fc1", "mlp_fc2", "self_attn_k_proj", "self_attn_q_proj", "self_attn_v_proj", "self_attn_out_proj")


def comfy_unet(unet: nn.Module) -> set[str]:
    """ComfyUI (`model_lora_keys_unet`): diffusers' names of its table, dots as underscores, below lora_unet_ and lycoris_."""
    known = set()
    for name, _ in unet.named_modules():
        inner = name.partition(".transformer_blocks.")[2].partition(".")[2]
        if inner in BLOCK or name.endswith((".proj_in", ".proj_out")) or name in ("conv_in", "conv_out") or ".resnets." in name:
            known |= {f"{start}_{name.replace('.', '_')}" for start in ("lora_unet", "lycoris")}
    return known


def comfy_clip(encoders: int, layers: int = 32) -> set[str]:
    """ComfyUI (`model_lora_keys_clip`): lora_te_ and lora_te1_ are CLIP-L, lora_te2_ CLIP-G where both are there; 32 layers are asked for.

    diffusers' names, dots kept, are known for the same two.
    """
    starts = ["lora_te", "lora_te1", *(["lora_te2"] if encoders > 1 else [])]
    dotted = ["text_encoder", *(["text_encoder_2"] if encoders > 1 else [])]
    known = {f"{start}_text_model_encoder_layers_{layer}_{name}" for start in starts for layer in range(layers) for name in CLIP}
    ends = [name.replace("attn_", "attn.").replace("mlp_", "mlp.") for name in CLIP]
    return known | {f"{start}.text_model.encoder.layers.{layer}.{name}" for start in dotted for layer in range(layers) for name in ends}


def comfy_transformer(transformer: nn.Module, prefixes: tuple[str, ...]) -> set[str]:
    """ComfyUI for FLUX, SD3, FLUX.2, Z-Image and their kin: diffusers' names of all layers below these."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return {f"{prefix}{name if prefix.endswith('.') else name.replace('.', '_')}" for prefix in prefixes for name in names}


def a1111_unet(unet: nn.Module, blocks: int = 2) -> set[str]:
    """A1111 (`extensions-builtin/Lora/networks.py`): `convert_diffusers_name_to_compvis` by regular expressions over these names, whose
    result must be one of the first release's layers: attentions, ResNets, down- and upsamplers, the middle."""
    known = set()
    for name, module in unet.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and (".attentions." in name or ".resnets." in name):
            known.add(f"lora_unet_{name.replace('.', '_')}")
    return known


def kohya_flux(double: int, single: int) -> set[str]:
    """sd-scripts (`networks/lora_flux.py`): every linear layer of DoubleStreamBlock and SingleStreamBlock, Black Forest Labs' names."""
    inside = {f"{side}_{layer}" for side in ("img", "txt") for layer in ("attn_qkv", "attn_proj", "mlp_0", "mlp_2", "mod_lin")}
    names = {f"double_blocks_{block}_{layer}" for block in range(double) for layer in inside}
    names |= {f"single_blocks_{block}_{layer}" for block in range(single) for layer in ("linear1", "linear2", "modulation_lin")}
    return {f"lora_unet_{name}" for name in names}


def kohya_sd3(blocks: int) -> set[str]:
    """sd-scripts (`networks/lora_sd3.py`): every linear layer of SingleDiTBlock; the last context block ends with its attention."""
    ends = ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2", "adaLN_modulation_1", "attn2_qkv", "attn2_proj")
    return {f"lora_unet_joint_blocks_{block}_{side}_block_{end}" for block in range(blocks) for side in ("x", "context") for end in ends}
