"""DeepFloyd IF, stage I: diffusion over the pixels of small pictures, reading T5 (Saharia et al. 2022, as DeepFloyd built it in 2023)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.core.device import free_memory
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.base import Family
from dreambooth.families.recipes import Recipe

TEXTS: WeakKeyDictionary[Any, dict[tuple[str, int], Tensor]] = WeakKeyDictionary()
"""What each T5 has made of a prompt and its length in tokens, [L, d], on the CPU: two stages that share a T5 ask it once."""
SHARED = {"train_batch_size": 4, "num_class_images": 200, "lr_warmup_steps": 0}


class DeepFloyd(Family):
    """IF-I-M, L and XL. There is no VAE: x is the picture itself."""

    name = "DeepFloyd IF"
    pipelines = ("IFPipeline",)
    vae_classes = ()
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"encoder_hid_dim": ("text_encoder",)}
    learned_variance = True
    picture_range = (-1.0, 1.0)
    most_tokens = 77
    reads_lower_case = True
    masks_padding = True
    """Always: diffusers' flag asks for what is done anyway."""
    packing = 8
    guidance_scale = 7.0
    takes_new_words = False
    text_trainable = ()
    lora_snippet = (
        'pipe.load_lora_weights(".")\npipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, variance_type="fixed_small")'
    )
    recipe: ClassVar[Recipe] = {
        "full": {"learning_rate": 1e-7, "max_train_steps": 150, **SHARED},
        "lora": {"learning_rate": 2e-5, "rank": 4, "max_train_steps": 1200, **SHARED},
        "loha": {"learning_rate": 2e-5, "rank": 4, "max_train_steps": 1200, **SHARED},
        "lokr": {"learning_rate": 2e-5, "rank": 4, "max_train_steps": 1200, **SHARED},
        "oft": {"learning_rate": 1e-5, "max_train_steps": 1200, **SHARED},
    }
    """Of diffusers' README for IF: full 1e-7 (at higher rates pictures spoil), LoRA 5e-6 for each of the 4 photos of an update. LoHa's,
    LoKr's and OFT's are guessed from LoRA's."""

    def __init__(self, pipe: Any):
        """What the network says of the variance is not trained along, so that no sampler is to read it; most cannot."""
        own = pipe.scheduler
        pipe.scheduler = type(own).from_config({**own.config, "variance_type": "fixed_small"})
        super().__init__(pipe)
        self.texts = TEXTS.setdefault(pipe.text_encoder, {})

    @classmethod
    def vae_factor_of(cls, vae: Mapping[str, Any]) -> int | None:
        return 1

    @property
    def vae_factor(self) -> int:
        return 1

    @property
    def pixel_step(self) -> int:
        """The UNet halves a picture at each of its blocks but one."""
        return 2 ** (len(self.denoiser.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return (3, height, width)

    def make_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.pipe.scheduler.config)

    def normalization(self) -> tuple[Any, Any]:
        return 0.0, 1.0

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        """The pictures as they are: they have no deviation."""
        return pixels

    def draw(self, moments: Float[Tensor, "b moments h w"], noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return moments

    def pixels(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return latents

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """Its pipeline would tidy prompts where it finds packages to; negative ones go the way of the prompts."""
        return {"guidance_scale": guidance_scale, "clean_caption": False}

    def prompt_kwargs(self, prompts: Sequence[str], negative_prompts: Sequence[str] | None) -> dict[str, Any]:
        negative = negative_prompts or [""] * len(prompts)
        self._read([*prompts, *negative])
        rows = {"prompt_embeds": prompts, "negative_prompt_embeds": negative}
        length = self.text_length(1)
        return {name: torch.stack([self.texts[text, length] for text in texts]).to(self.device) for name, texts in rows.items()}

    @contextmanager
    def drawing(self, prompts: Iterable[str]) -> Iterator[None]:
        """T5 is asked for all prompts at once, and then is away from the accelerator, where it is larger than all else."""
        self._read([*prompts, ""])
        encoder = self.pipe.text_encoder
        if encoder is None:  # a block within such a block
            yield
            return
        if self.device.type != "cpu":
            self.move(encoder, torch.device("cpu"))
            free_memory(self.device)
        self.pipe.register_modules(text_encoder=None)
        try:
            yield
        finally:
            self.pipe.register_modules(text_encoder=encoder)

    @torch.no_grad()
    def _read(self, prompts: Iterable[str]) -> None:
        length = self.text_length(1)
        for prompt in dict.fromkeys(prompts):
            if (prompt, length) not in self.texts:
                self.move(self.pipe.text_encoder, self.device)
                tokens = {name: ids.to(self.device) for name, ids in self.tokenize([prompt]).items()}
                self.texts[prompt, length] = self.embed(tokens)["text"][0].cpu()

    def text_length(self, number: int) -> int:
        """T5 has no end of places."""
        return min(self.pipe.tokenizer.model_max_length, self.most_tokens)

    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"text": self.encoders[0](tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]}

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The first half of the channels; the other is a variance."""
        return self.denoiser(x_t, time, condition["text"], return_dict=False)[0].chunk(2, dim=1)[0]
