"""Stable Diffusion 3 and 3.5: a rectified flow in a transformer that reads two CLIPs and T5 (Esser et al. 2024)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from dreambooth.families.flow import Flow, recipes
from dreambooth.families.recipes import Recipe


class SD3(Flow):
    """SD3 medium, SD3.5 medium and large."""

    name = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline",)
    denoiser_class = "SD3Transformer2DModel"
    encoder_names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "joint_attention_dim": ("text_encoder_3",), "pooled_projection_dim": ("text_encoder", "text_encoder_2"),
    }  # fmt: skip
    reads_alone: ClassVar[Mapping[str, str]] = {"text_encoder_3": "t5"}
    most_tokens = 256
    packing = 2
    guidance_scale = 7.0
    takes_new_words = False
    text_trainable = ("text_encoder", "text_encoder_2")
    lora_targets = (
        "attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out",
    )  # fmt: skip
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4, weighting_scheme="logit_normal")
    """LoRA: rate and rank of SimpleTuner, times and steps of diffusers' script, whose rate (4e-4) is for rank 4. The others' are FLUX.1's,
    and untested here."""

    @property
    def largest_side(self) -> int:
        """The table of positions holds so many patches a side, of which a picture takes the middle."""
        config = self.denoiser.config
        return config.pos_embed_max_size * config.patch_size * self.vae_factor

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        clips = [self.encoders[place](tokens[name], output_hidden_states=True) for place, name in enumerate(("input_ids", "input_ids_2"))]
        return {
            "clip": torch.cat([out.hidden_states[-2] for out in clips], dim=-1),
            "pooled": torch.cat([out[0] for out in clips], dim=-1),
            "t5": tokens["t5"] if "t5" in tokens else self.encoders[2](tokens["input_ids_3"])[0],
        }

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        clip, t5 = condition["clip"], condition["t5"]
        text = torch.cat([pad(clip, (0, t5.shape[-1] - clip.shape[-1])), t5], dim=1)
        return self.denoiser(x_t, text, condition["pooled"], time, return_dict=False)[0]
