"""Krea 2: a rectified flow in a transformer that weighs twelve layers of a language model for every token (Krea 2026)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.families.flow import recipes
from dreambooth.families.recipes import Recipe
from dreambooth.families.source import ModelSource
from dreambooth.families.video_latents import VideoLatents


class Krea2(VideoLatents):
    """Krea 2 Raw, the base; Turbo is distilled from it, and draws with its LoRA in 8 steps."""

    name = "Krea 2"
    pipelines = ("Krea2Pipeline",)
    denoiser_class = "Krea2Transformer2DModel"
    fixed_attention = False
    masked_attention = True
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"text_hidden_dim": ("text_encoder",)}
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"padding_side": "right"}
    guidance_scale = 5.5
    takes_new_words = False
    text_trainable = ()
    lora_targets = (
        "img_in", "final_layer.linear", "to_k", "to_q", "to_v", "to_out.0", "to_gate", "ff.up", "ff.down", "text_fusion.projector",
        "txt_in.linear_1", "txt_in.linear_2", "time_embed.linear_1", "time_embed.linear_2", "time_mod_proj",
    )  # fmt: skip
    deep_inputs = ("text_fusion.projector",)
    recipe: ClassVar[Recipe] = recipes(lora={"learning_rate": 3e-4, "rank": 32}, max_train_steps=1000)
    """LoRA's values are the makers', in diffusers' README for Krea 2. The other methods' are FLUX.1's, and untested here."""
    terms = (
        'The Krea 2 Community License asks that the name of what is passed on begins with "Krea", and that it comes with the agreement, '
        "its NOTICE, and word of having been changed."
    )
    """Sections 3.1 and 3.2 of docs/KREA-2-COMMUNITY-LICENSE in krea-ai/krea-2. diffusers' script writes apache-2.0, which it is not."""

    @classmethod
    def advice(cls, source: ModelSource) -> str | None:
        if not source.index().get("is_distilled"):
            return None
        return "Krea 2 Turbo is distilled and forgets by training how to draw in few steps: train Krea 2 Raw, draw with either."

    @property
    def dropped_tokens(self) -> int:
        return self.pipe.prompt_template_encode_start_idx

    def format_prompt(self, prompt: str, number: int) -> str:
        return self.pipe.prompt_template_encode_prefix + prompt

    def prompt_length(self, number: int) -> int:
        """A long prompt is cut before the words that follow it, never these."""
        return super().prompt_length(number) - self.pipe.prompt_template_encode_num_suffix_tokens

    def tokenize(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """With the words that follow right behind each prompt. The pipeline has its padding between the two, where nothing sees it."""
        end = self.tokenizers[0]([self.pipe.prompt_template_encode_suffix] * len(prompts), return_tensors="pt")
        tokens = {name: torch.cat([value, end[name]], dim=1) for name, value in super().tokenize(prompts).items()}
        order = tokens["attention_mask"].argsort(dim=1, descending=True, stable=True)
        return {name: value.gather(1, order) for name, value in tokens.items()}

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """Its pipeline counts guidance from 0: what is added to the answer, and not what it is multiplied by."""
        return super().pipeline_kwargs(guidance_scale - 1, negative_prompts)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The layers of each token, [b, l, layers, width], of the longest prompt's length: 60 kB a token in half precision."""
        mask = tokens["attention_mask"].bool()
        states = self.encoders[0](tokens["input_ids"], attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
        seen = slice(self.dropped_tokens, int(mask.sum(dim=1).max()))
        text = torch.stack([states[layer][:, seen] for layer in self.pipe.text_encoder_select_layers], dim=2)
        return {"text": text, "mask": mask[:, seen]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        b, c, h, w = x_t.shape
        text, factor = condition["text"], self.vae_factor
        out = self.denoiser(
            hidden_states=self.pipe._pack_latents(x_t, b, c, h, w), encoder_hidden_states=text, timestep=time / 1000,
            position_ids=self.pipe.prepare_position_ids(text.shape[1], h // 2, w // 2, x_t.device),
            encoder_attention_mask=condition["mask"], return_dict=False,
        )[0]  # fmt: skip
        return self.pipe._unpack_latents(out, h * factor, w * factor).squeeze(2)
