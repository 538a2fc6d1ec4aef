"""A family: one kind of text-to-image model, as the training step sees it.

A family's file says how prompts condition it, what it predicts and by which process. Encoding, drawing from the VAE's posterior,
keeping parts on the right device and saving stand here, once; reading prompts in `text.py`, loading in `loading.py`.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreambooth.core.errors import SettingError
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.fitting import refuse_half_loaded
from dreambooth.families.loading import load_pipeline
from dreambooth.families.offload import Offload
from dreambooth.families.recipes import Recipe
from dreambooth.families.safety import SafetyChecker
from dreambooth.families.shards import Shards
from dreambooth.families.source import ModelSource
from dreambooth.families.text import Reader
from dreambooth.files.places import readable_name
from dreambooth.formats.loras import merge_lora, read_lora


class Family(Reader):
    """A loaded pipeline. `pipe` is diffusers' own, so sampling and saving are diffusers' too."""

    pipelines: ClassVar[tuple[str, ...]]
    """The `_class_name`s in model_index.json that are this family."""
    denoiser_name: ClassVar[str] = "unet"
    """The pipeline's name for the network that learns."""
    denoiser_class: ClassVar[str] = "UNet2DConditionModel"
    """diffusers' class of that network."""
    published_class: ClassVar[str | None] = None
    """What folders of its makers call that class, where diffusers has named it since."""
    learned_variance: ClassVar[bool] = False
    """Whether the second half of the channels that it answers is a variance, which neither training nor samplers read here."""
    stage: ClassVar[int] = 1
    """Where it stands in a cascade: 1 draws from text, later ones make what the one before has drawn larger."""
    conditioning_channels: ClassVar[int] = 0
    """Channels of a smaller picture that the denoiser sees beside the noisy one, as stages of a cascade do that enlarge pictures."""
    takes_class_labels: ClassVar[bool] = False
    """Whether diffusers' script can train it with --class_labels_conditioning."""
    schedulers: ClassVar[tuple[str, ...]] = ("scheduler",)
    """Schedules of noise that its pipeline has."""
    picture_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """What black and white are in the tensors of pictures that its pipeline gives."""
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"cross_attention_dim": ("text_encoder",)}
    """Fields of the denoiser's configuration that hold the width of the text it reads, and the encoders whose widths add up to it."""
    added_embeddings: ClassVar[tuple[str | None, ...]] = (None, "text")
    """What the denoiser's `addition_embed_type` may be: its conditions beside text and time."""
    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKL", "AsymmetricAutoencoderKL")
    """VAEs with a posterior to draw from, of the right make; small ones (AutoencoderTiny) have none. Empty where x is the picture."""
    packing: ClassVar[int] = 1
    """Latents along a side that the denoiser takes as one token."""
    channel_multiple: ClassVar[int] = 1
    """Channels that the denoiser's configuration counts for each channel of the VAE: more where latents are packed on the way to it."""
    default_latents: ClassVar[int] = 64
    """Latents along a side of its pictures, where the denoiser's configuration does not say it."""
    lora_targets: ClassVar[tuple[str, ...]] = ("to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
    """Layers of the denoiser that LoRA and its kin change, as diffusers' scripts choose them."""
    fixed_attention: ClassVar[bool] = True
    """Whether diffusers has torch choose the kernel of its denoiser's attention, whatever is asked for."""
    masked_attention: ClassVar[bool] = False
    """Whether a mask keeps that attention from padding, for which not every kernel is made."""
    deep_inputs: ClassVar[tuple[str, ...]] = ()
    """Linear layers of the denoiser whose inputs have four dimensions. PEFT's OFT takes such inputs for pictures, and fails."""
    text_lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj")
    lora_snippet: ClassVar[str] = 'pipe.load_lora_weights(".")'
    """Lines of Python that put a LoRA, in the folder they run in, on diffusers' pipeline `pipe`."""
    reads_alone: ClassVar[Mapping[str, str]] = {}
    """Encoders whose answer no other has a part in, by what `embed` calls it: asked once where they do not learn and another does."""
    embedding_names: ClassVar[tuple[str, ...]] = ()
    """What the files of new words call the encoders, in their order; nothing where there is one, whose file names the word."""
    kohya_prefixes: ClassVar[Mapping[str, str]] = {}
    """How layers' names begin in kohya's LoRA files, by part, where ComfyUI and A1111 read the network in those names alone."""
    guidance_scale: ClassVar[float] = 7.5
    """What its pipeline draws with when nothing is said."""
    takes_fp16: ClassVar[bool] = True
    """Whether float16 tells its numbers apart."""
    recipe: ClassVar[Recipe] = {}
    """Settings for values left out, by method: {"full": {"learning_rate": ...}, "lora": {...}}."""
    terms: ClassVar[str] = ""
    """What its licence asks of those who pass a result on, for the card; nothing where the models of a family have several."""

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.process = self.make_schedule()
        self.device = torch.device("cpu")
        self.embedded_guidance = 3.5
        self.checker: SafetyChecker | None = None
        self.offload: Offload | None = None
        self.shards: Shards | None = None
        self._normalized_by = self.normalization()
        for part in self.parts.values():
            part.requires_grad_(False).eval()

    @classmethod
    def load(
        cls, source: ModelSource, *, replaced: Mapping[str, Any] | None = None, dtypes: Mapping[str, torch.dtype] | None = None
    ) -> "Family":  # fmt: skip
        """A folder's family in float32, but for parts that `dtypes` names, with a LoRA in its weights where one is named; `replaced` parts
        are used instead of its own.

        Raises SettingError for one that is not whole.
        """
        family = cls(load_pipeline(cls, source, replaced=replaced, dtypes=dtypes))
        refuse_half_loaded(family, source)
        family.checker = SafetyChecker.of(source)
        if source.lora:
            merge_lora(family, read_lora(source.lora, allow_pickle=source.allow_pickle))
        return family

    @classmethod
    def advice(cls, source: ModelSource) -> str | None:
        """What speaks against training this very model of the family, in a sentence; None where nothing does."""
        return None

    @classmethod
    def refuse_vae(cls) -> None:
        """Raise SettingError where there is no VAE that another could stand in for."""
        if not cls.vae_classes:
            raise SettingError("--pretrained_vae_name_or_path", f"{cls.name} works on pixels and has no VAE.", fix="Leave it out.")

    @classmethod
    def refuse_precision(cls, precision: str | None, setting: str = "--mixed_precision") -> None:
        """Raise SettingError for float16 where that is too little."""
        if precision == "fp16" and not cls.takes_fp16:
            raise SettingError(setting, f"{cls.name} divides by sums that float16 takes for 0.", fix="Use bf16.")

    @property
    def parts(self) -> dict[str, Any]:
        """All networks of the pipeline by diffusers' names."""
        return {name: part for name, part in self.pipe.components.items() if isinstance(part, nn.Module)}

    @property
    def denoiser(self) -> Any:
        """The network that predicts: a UNet or a transformer."""
        return self.parts[self.denoiser_name]

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along a side."""
        factor = self.vae_factor_of(self.pipe.vae.config)
        assert factor, "the VAE of a loaded pipeline says it"
        return factor

    @classmethod
    def vae_factor_of(cls, vae: Mapping[str, Any]) -> int | None:
        """Pixels per latent, along a side, by a VAE's configuration; None where it does not say."""
        channels = vae.get("block_out_channels")
        return 2 ** (len(channels) - 1) if isinstance(channels, list | tuple) else None

    @property
    def pixel_step(self) -> int:
        """A picture's sides are multiples of this many pixels: the VAE's factor, times the latents that a token packs."""
        return self.vae_factor * self.packing

    @property
    def native_resolution(self) -> int:
        """The side in pixels at which the base model was trained."""
        return int(getattr(self.denoiser.config, "sample_size", None) or self.default_latents) * self.vae_factor

    @property
    def largest_side(self) -> int | None:
        """The longest side in pixels that the denoiser has positions for; None where there is no end to them."""
        return None

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture."""
        return (self.pipe.vae.config.latent_channels, height // self.vae_factor, width // self.vae_factor)

    @abstractmethod
    def make_schedule(self) -> NoiseSchedule:
        """Schedule and prediction kind from the pipeline's own scheduler config, whatever sampler is used for pictures."""

    @abstractmethod
    def embed(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the text encoders make of tokens: everything that `predict` reads beside time, each [b, ...].

        An answer of `reads_alone` that is among the tokens already is passed on.
        """

    @abstractmethod
    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The network's answer at `x_t` [b, c, h, w] and `time` [b] (the process's `times`), shaped like x_t."""

    def geometry(self, original: tuple[int, int], corner: tuple[int, int], target: tuple[int, int]) -> dict[str, Tensor]:
        """The network's conditions of a picture's size and crop (height, width; top, left; height, width), each [1, ...]; often none."""
        return {}

    def pipeline_kwargs(self, guidance_scale: float, negative_prompts: list[str] | None) -> dict[str, Any]:
        """What the pipeline's call is given so that it draws with this guidance, of which 1 is none for every family."""
        return {"guidance_scale": guidance_scale} | ({"negative_prompt": negative_prompts} if negative_prompts else {})

    def prompt_kwargs(self, prompts: Sequence[str], negative_prompts: Sequence[str] | None) -> dict[str, Any]:
        """What the pipeline's call is given so that it draws these prompts, beside the negative ones of `pipeline_kwargs`."""
        return {"prompt": list(prompts)}

    @classmethod
    def refuse_no_augmentation(cls) -> None:
        """Raise SettingError where there is no small picture that could get noise."""
        if not cls.conditioning_channels:
            reason = f"{cls.name} sees no smaller picture, which would get that noise."
            raise SettingError("--noise_augmentation", reason, fix="Leave it out.")

    @classmethod
    def refuse_no_class_labels(cls) -> None:
        """Raise SettingError where diffusers' script could give the network no label, or no second noisy picture."""
        if not cls.takes_class_labels:
            raise SettingError("--class_labels_conditioning", f"is for DeepFloyd IF's stage II, not {cls.name}.", fix="Leave it out.")

    @property
    def noise_level(self) -> int | None:
        """The level of noise on a small picture while it is made large; None where there is none."""
        return None

    def small_kwargs(self, small: Float[Tensor, "b 3 h w"]) -> dict[str, Any]:
        """What the pipeline's call is given of small pictures in about [-1, 1], to make them large."""
        raise AssertionError("`refuse_alone` is asked before")

    def drawing(self, prompts: Iterable[str]) -> AbstractContextManager[None]:
        """A block in which pictures of these prompts are drawn."""
        return nullcontext()

    def adapt_sampler(self, scheduler: Any) -> Any:
        """A sampler as diffusers' pipeline has to find it, to draw with this model."""
        return scheduler

    def conditioning(self, moments: Float[Tensor, "b moments h w"], rngs: Iterable[torch.Generator]) -> dict[str, Tensor]:
        """What the network sees beside the noisy picture, each [b, ...], with a generator for each row; often nothing."""
        return {}

    def answer(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """`predict`, with token ids embedded first when the text encoder learns."""
        if "input_ids" in condition:
            condition = {**condition, **self.embed(condition)}
        return self.predict(x_t, time, condition)

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        """Mean and standard deviation of the VAE's posterior, [b, 2c, h, w], of pictures in [-1, 1], [b, 3, H, W]."""
        posterior = self.pipe.vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    def pixels(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pictures in about [-1, 1], [b, 3, H, W], from what `encode` gives the mean of."""
        return self.pipe.vae.decode(latents).sample

    def normalization(self) -> tuple[Any, Any]:
        """Shift and scale, numbers or [1, c, 1, 1], by which the VAE's latents become the denoiser's: (z - shift) * scale."""
        config = self.pipe.vae.config
        return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor

    def draw(self, moments: Float[Tensor, "b moments h w"], noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents x [b, c, h, w] from the posterior, shifted and scaled as the denoiser knows them."""
        mean, std = moments.chunk(2, dim=1)
        shift, scale = self._shift_and_scale(moments.device)
        return (mean + std * noise - shift) * scale

    def decode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pictures in about [-1, 1], [b, 3, H, W], from latents."""
        shift, scale = self._shift_and_scale(x.device)
        return self.pixels(x / scale + shift)

    def _shift_and_scale(self, device: torch.device) -> tuple[Any, Any]:
        """`normalization` where it is computed with: the VAE itself may be elsewhere by then, or gone."""
        shift, scale = (value.to(device) if isinstance(value, Tensor) else value for value in self._normalized_by)
        self._normalized_by = shift, scale
        return shift, scale

    def to(self, device: torch.device, *, parts: Iterable[str] | None = None) -> None:
        """Move the parts (all when none are named) to a device; the others stay where they are, and so do offloaded blocks."""
        names = self.parts if parts is None else parts
        for name in names:
            self.move(self.parts[name], device)
        self.device = device

    def move(self, part: nn.Module, device: torch.device) -> None:
        """Move a part, but for its offloaded blocks, and for what processes hold together."""
        mover.move(part, device) if (mover := self.offload or self.shards) else part.to(device)

    def free(self, parts: Iterable[str]) -> None:
        """Give back the memory of parts that are asked nothing more; what their configurations say stays."""
        for name in parts:
            if self.offload:
                self.offload.forget(self.parts[name])
            self.parts[name].to("meta")

    def save(self, folder: Path) -> None:
        """The whole pipeline as diffusers saves it, in safetensors, with the files of the base model's safety checker as they are."""
        with readable_name(folder) as place:
            self.pipe.save_pretrained(place, safe_serialization=True)
        if self.checker:
            self.checker.copy(folder)
