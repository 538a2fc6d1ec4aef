"""PixArt-Sigma: a diffusion transformer with cross-attention to T5, which also predicts a variance (Chen et al. 2024)."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.flow import recipes
from dreambooth.families.recipes import Recipe
from dreambooth.files.names import DIFFUSERS_FILE


class PixArtSigma(Family):
    """PixArt-Sigma of 512, 1024 and 2048 px."""

    name = "PixArt-Sigma"
    pipelines = ("PixArtSigmaPipeline",)
    denoiser_name = "transformer"
    denoiser_class = "PixArtTransformer2DModel"
    published_class = "Transformer2DModel"
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"caption_channels": ("text_encoder",)}
    learned_variance = True
    most_tokens = 300
    reads_lower_case = True
    packing = 2
    default_latents = 128
    guidance_scale = 4.5
    takes_new_words = False
    text_trainable = ()
    lora_targets = ("to_k", "to_q", "to_v", "to_out.0")
    lora_snippet = (
        "from diffusers.loaders import PeftAdapterMixin\n"
        "kind = type(pipe.transformer)\n"
        "pipe.transformer.__class__ = type(kind.__name__, (kind, PeftAdapterMixin), {})\n"
        f'pipe.transformer.load_lora_adapter(".", weight_name="{DIFFUSERS_FILE}")'
    )
    recipe: ClassVar[Recipe] = recipes(gradient_accumulation_steps=4)
    """LoRA: rank and batch of OneTrainer's preset, and Stable Diffusion's rate (the preset's is 1e-5). All untested here."""

    def __init__(self, pipe: Any):
        """diffusers' pipeline and transformer are the only ones here that were not made to take adapters; their code can."""
        from diffusers.loaders.lora_pipeline import SanaLoraLoaderMixin
        from diffusers.loaders.peft import PeftAdapterMixin

        pipe.__class__ = _with(type(pipe), SanaLoraLoaderMixin)
        pipe.transformer.__class__ = _with(type(pipe.transformer), PeftAdapterMixin)
        super().__init__(pipe)

    def make_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.pipe.scheduler.config)

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """Its pipeline would draw in a size of its table, scale that to the one asked for, and tidy prompts where it finds packages to."""
        return super().pipeline_kwargs(guidance_scale, negative_prompts) | {"use_resolution_binning": False, "clean_caption": False}

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = tokens["attention_mask"].bool()
        return {"text": self.encoders[0](tokens["input_ids"], attention_mask=mask)[0], "mask": mask}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The noise; the other half of the channels is the variance, which samplers without one need not know."""
        out = self.denoiser(
            x_t, condition["text"], time, {"resolution": None, "aspect_ratio": None}, encoder_attention_mask=condition["mask"],
            return_dict=False,
        )[0]  # fmt: skip
        return out.chunk(2, dim=1)[0]


@cache
def _with(kind: type, mixin: type) -> type:
    """A class with what it lacks, under its own name, by which folders know it."""
    return kind if issubclass(kind, mixin) else type(kind.__name__, (kind, mixin), {"__module__": kind.__module__})
