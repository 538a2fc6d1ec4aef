"""Qwen-Image: a rectified flow in a transformer with two streams, on the last states of Qwen2.5-VL (Alibaba 2025)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import recipes
from dreambooth.families.recipes import Recipe
from dreambooth.families.video_latents import VideoLatents


class QwenImage(VideoLatents):
    """Qwen-Image and Qwen-Image-2512. (Qwen-Image 2.1 has another pipeline and another VAE.)"""

    name = "Qwen-Image"
    pipelines = ("QwenImagePipeline",)
    denoiser_class = "QwenImageTransformer2DModel"
    fixed_attention = False
    masked_attention = True
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"joint_attention_dim": ("text_encoder",)}
    most_tokens = 1024
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"padding_side": "right"}
    guidance_scale = 4.0
    default_negative_prompt = " "
    takes_new_words = False
    text_trainable = ()
    lora_targets = ("to_k", "to_q", "to_v", "to_out.0")
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4)
    """LoRA: steps, batch and layers of diffusers' README, a rate between its 2e-4 and musubi's 5e-5, SimpleTuner's. The others' are
    FLUX.1's, and untested here."""

    @property
    def dropped_tokens(self) -> int:
        return self.pipe.prompt_template_encode_start_idx

    def format_prompt(self, prompt: str, number: int) -> str:
        return self.pipe.prompt_template_encode.format(prompt)

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """What its pipeline calls guidance_scale is for networks that take it as an input, of which there is none."""
        return {"true_cfg_scale": guidance_scale, "negative_prompt": negative_prompts}

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """States up to the longest prompt's length."""
        mask = tokens["attention_mask"].bool()
        states = self.encoders[0](tokens["input_ids"], attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
        seen = slice(self.dropped_tokens, int(mask.sum(dim=1).max()))
        return {"text": states[-1][:, seen], "mask": mask[:, seen]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        b, c, h, w = x_t.shape
        factor = self.vae_factor
        out = self.denoiser(
            hidden_states=self.pipe._pack_latents(x_t, b, c, h, w), timestep=time / 1000, encoder_hidden_states=condition["text"],
            encoder_hidden_states_mask=condition["mask"], img_shapes=[[(1, h // 2, w // 2)]] * b, return_dict=False,
        )[0]  # fmt: skip
        return self.pipe._unpack_latents(out, h * factor, w * factor, factor).squeeze(2)
