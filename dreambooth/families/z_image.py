"""Z-Image: a rectified flow in a transformer over text and picture in one sequence, whose time runs backwards (Alibaba 2025)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import Flow, recipes
from dreambooth.families.recipes import Recipe
from dreambooth.families.source import ModelSource
from dreambooth.families.text import chat


class ZImage(Flow):
    """Z-Image, the base; Z-Image-Turbo is distilled from it, and draws with its LoRA."""

    name = "Z-Image"
    pipelines = ("ZImagePipeline",)
    denoiser_class = "ZImageTransformer2DModel"
    fixed_attention = False
    masked_attention = True
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"cap_feat_dim": ("text_encoder",)}
    packing = 2
    guidance_scale = 6.0
    takes_new_words = False
    text_trainable = ()
    lora_targets = ("to_k", "to_q", "to_v", "to_out.0")
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4)
    """LoRA's values are those of diffusers' README for Z-Image. The other methods' are FLUX.1's, and untested here."""

    @classmethod
    def advice(cls, source: ModelSource) -> str | None:
        """Nothing in a folder tells Turbo from the base but its name."""
        if "turbo" not in Path(source.pretrained_model_name_or_path).name.casefold():
            return None
        return "Z-Image-Turbo is distilled and forgets by training how to draw in few steps: train Z-Image, draw with either."

    def format_prompt(self, prompt: str, number: int) -> str:
        return chat(self.pipe.tokenizer, prompt, enable_thinking=True)

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """Its pipeline counts guidance from 0: what is added to the answer, and not what it is multiplied by."""
        return super().pipeline_kwargs(guidance_scale - 1, negative_prompts)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = tokens["attention_mask"].bool()
        out = self.encoders[0](tokens["input_ids"], attention_mask=mask, output_hidden_states=True, use_cache=False)
        return {"text": out.hidden_states[-2], "mask": mask}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The network takes rows of any length in lists, 1 for a clean picture, and answers x - eps."""
        text = [row[mask] for row, mask in zip(condition["text"], condition["mask"], strict=True)]
        pictures = list(x_t.unsqueeze(2).unbind(0))
        out = self.denoiser(pictures, (1000 - time) / 1000, text, return_dict=False)[0]
        return -torch.stack(out).squeeze(2)
