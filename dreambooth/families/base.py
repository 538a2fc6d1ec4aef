"""A family: one kind of text-to-image model, as the training step sees it.

A family's file says how prompts condition it, what it predicts and by which process. Loading, encoding, drawing from the VAE's
posterior, keeping parts on the right device and saving stand here, once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreambooth.core.device import is_out_of_memory
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.core.noise import NoiseSchedule
from dreambooth.families.complete import Part
from dreambooth.families.fitting import AUTOENCODERS, refuse_half_loaded, refuse_incomplete, refuse_unfit
from dreambooth.families.source import FLAG, UNUSED, ModelSource
from dreambooth.files.disk import failing
from dreambooth.files.places import readable_name

Recipe = Mapping[str, Mapping[str, Any]]

INVERSION = {
    "learning_rate": 5e-4, "scale_lr": True, "train_batch_size": 1, "gradient_accumulation_steps": 4, "max_train_steps": 3000,
    "lr_warmup_steps": 0,
}  # fmt: skip
"""A family's recipe for Textual Inversion, that of diffusers' README. The original's is base rate 5e-3, 2 photos, 6,100 steps."""

CUSTOM = {
    "learning_rate": 2e-5, "scale_lr": True, "train_batch_size": 2, "max_train_steps": 500, "num_class_images": 200, "random_flip": True,
    "lr_warmup_steps": 0,
}  # fmt: skip
"""A family's recipe for Custom Diffusion, its authors' on one GPU (without their enlarged and shrunk photos): their 1e-5, which their
script doubles where class images are shown."""

LONGEST_TEXT = 512
"""Tokens per prompt where neither tokenizer nor encoder sets a bound, as with T5: what FLUX.1 was trained with."""


class Family(ABC):
    """A loaded pipeline. `pipe` is diffusers' own, so sampling and saving are diffusers' too."""

    name: ClassVar[str]
    """What people call it."""
    pipelines: ClassVar[tuple[str, ...]]
    """The `_class_name`s in model_index.json that are this family."""
    denoiser_name: ClassVar[str] = "unet"
    """The pipeline's name for the network that learns."""
    denoiser_class: ClassVar[str] = "UNet2DConditionModel"
    """diffusers' class of that network."""
    encoder_names: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """Its text encoders, in the order of their tokenizers."""
    text_widths: ClassVar[Mapping[str, tuple[str, ...]]] = {"cross_attention_dim": ("text_encoder",)}
    """Fields of the denoiser's configuration that hold the width of the text it reads, and the encoders whose widths add up to it."""
    added_embeddings: ClassVar[tuple[str | None, ...]] = (None, "text")
    """What the denoiser's `addition_embed_type` may be: its conditions beside text and time."""
    packing: ClassVar[int] = 1
    """Latents along a side that the denoiser takes as one token."""
    default_latents: ClassVar[int] = 64
    """Latents along a side of its pictures, where the denoiser's configuration does not say it."""
    lora_targets: ClassVar[tuple[str, ...]] = ("to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
    """Layers of the denoiser that LoRA and its kin change, as diffusers' scripts choose them."""
    text_lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj")
    text_trainable: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """Encoders that --train_text_encoder trains."""
    reads_alone: ClassVar[Mapping[str, str]] = {}
    """Encoders whose answer no other has a part in, by what `embed` calls it: asked once where they do not learn and another does."""
    embedding_names: ClassVar[tuple[str, ...]] = ()
    """What the files of new words call the encoders, in their order; nothing where there is one, whose file names the word."""
    kohya_prefixes: ClassVar[Mapping[str, str]] = {}
    """How layers' names begin in kohya's LoRA files, by part, where ComfyUI and A1111 read the network in those names alone."""
    guidance_scale: ClassVar[float] = 7.5
    """What its pipeline draws with when nothing is said."""
    masks_padding: ClassVar[bool] = False
    """Whether its pipeline can mask padding in the text encoder."""
    recipe: ClassVar[Recipe] = {}
    """Settings for values left out, by method: {"full": {"learning_rate": ...}, "lora": {...}}."""

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.process = self.make_schedule()
        self.device = torch.device("cpu")
        self.embedded_guidance = 3.5
        for part in self.parts.values():
            part.requires_grad_(False).eval()

    @classmethod
    def load(cls, source: ModelSource, *, replaced: Mapping[str, Any] | None = None) -> "Family":
        """The pipeline in float32 throughout (libraries disagree on the default); `replaced` parts are used instead of its own.

        Raises SettingError for a folder that cannot be loaded whole.
        """
        import diffusers
        from transformers import AutoTokenizer

        index, own = source.index(), dict(replaced or {})
        given = {"vae": source.pretrained_vae_name_or_path, "tokenizer": source.tokenizer_name}
        refuse_incomplete(cls, source, own | {name: None for name, value in given.items() if value})
        weights = {"dtype": torch.float32, "use_safetensors": None if source.allow_pickle else True}
        if source.pretrained_vae_name_or_path:
            name, kind = source.pretrained_vae_name_or_path, getattr(diffusers, (index.get("vae") or [None, None])[1] or AUTOENCODERS[0])
            own["vae"] = _part(kind, name, source, flag="--pretrained_vae_name_or_path", folder="vae", **weights)
        if source.tokenizer_name:
            options = {"flag": "--tokenizer_name", "folder": "tokenizer", "trust_remote_code": False}
            own["tokenizer"] = _part(AutoTokenizer, source.tokenizer_name, source, **options)
        refuse_unfit(cls, source, own)
        optional: dict[str, Any] = {name: None for name in UNUSED if name in index}
        if "safety_checker" in optional:
            optional["requires_safety_checker"] = False
        source.check(replaced=own)
        kind = getattr(diffusers, index["_class_name"])
        try:
            with readable_name(source.folder()) as folder:
                pipe = kind.from_pretrained(folder, variant=source.variant, local_files_only=True, **weights, **optional, **own)
        except Exception as error:  # of somebody's damaged files the libraries raise anything, plain Exception and RecursionError too
            if is_out_of_memory(error):
                raise RunError(f"Out of memory while loading {source.folder()}. A smaller model needs less.") from error
            where = f"{source.folder()} cannot be loaded: {first_line(error)}."
            fix = "The folder is damaged or half written; save it again."
            raise failing(error, source.folder()) or SettingError(FLAG, where, fix=fix) from error
        pipe.set_progress_bar_config(disable=True)
        family = cls(pipe)
        refuse_half_loaded(family, source)
        return family

    @property
    def parts(self) -> dict[str, Any]:
        """All networks of the pipeline by diffusers' names."""
        return {name: part for name, part in self.pipe.components.items() if isinstance(part, nn.Module)}

    @property
    def denoiser(self) -> Any:
        """The network that predicts: a UNet or a transformer."""
        return self.parts[self.denoiser_name]

    @property
    def encoders(self) -> list[Any]:
        """The text encoders, in order."""
        return [self.parts[name] for name in self.encoder_names]

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers, in the encoders' order."""
        return [getattr(self.pipe, name.replace("text_encoder", "tokenizer")) for name in self.encoder_names]

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along a side."""
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    @property
    def pixel_step(self) -> int:
        """A picture's sides are multiples of this many pixels: the VAE's factor, times the latents that a token packs."""
        return self.vae_factor * self.packing

    @property
    def native_resolution(self) -> int:
        """The side in pixels at which the base model was trained."""
        return int(getattr(self.denoiser.config, "sample_size", None) or self.default_latents) * self.vae_factor

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

    @abstractmethod
    def geometry(self, original: tuple[int, int], corner: tuple[int, int], target: tuple[int, int]) -> dict[str, Tensor]:
        """The network's conditions of a picture's size and crop (height, width; top, left; height, width), each [1, ...]."""

    def answer(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """`predict`, with token ids embedded first when the text encoder learns."""
        if "input_ids" in condition:
            condition = {**condition, **self.embed(condition)}
        return self.predict(x_t, time, condition)

    def tokenize(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Ids of every tokenizer, padded to its full length, long [b, L]: `input_ids`, `input_ids_2` ..., and their masks.

        A new word of several vectors is one word in a prompt, and spelt out here as diffusers' pipelines do.
        """
        tokens: dict[str, Tensor] = {}
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            length = self.text_length(number)
            words = self.pipe.maybe_convert_prompt(list(prompts), tokenizer) if tokenizer.added_tokens_encoder else list(prompts)
            out = tokenizer(words, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            suffix = "" if number == 1 else f"_{number}"
            tokens[f"input_ids{suffix}"] = out.input_ids
            tokens[f"attention_mask{suffix}"] = out.attention_mask
        return tokens

    def text_length(self, number: int) -> int:
        """Tokens per prompt for tokenizer `number` (from 1): its own length, which --tokenizer_max_length shortens.

        A tokenizer that states no length (saved without its configuration) gets as many as its encoder has places for.
        """
        own = self.tokenizers[number - 1].model_max_length
        places = getattr(self.encoders[number - 1].config, "max_position_embeddings", None) or LONGEST_TEXT
        return min(own, places)

    @property
    def longest_text(self) -> int:
        """Tokens per prompt for the tokenizer that takes most."""
        return max(map(self.text_length, range(1, len(self.tokenizers) + 1)))

    def as_read(self, prompt: str) -> tuple[str, str]:
        """What is read of a prompt, new words spelt out, and the end that is cut off by every tokenizer; empty for one that is read whole.

        FLUX's CLIP takes fewer tokens than its T5: what T5 reads is read.
        """
        found: list[tuple[str, str]] = []
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            words = self.pipe.maybe_convert_prompt(prompt, tokenizer) if tokenizer.added_tokens_encoder else prompt
            out = tokenizer(words, max_length=self.text_length(number), truncation=True, return_offsets_mapping=True)
            is_full = len(out.input_ids) == self.text_length(number)
            end = max(stop for _, stop in out.offset_mapping) if is_full else len(words)
            found.append((words[:end], words[end:].strip()))
        return max(found, key=lambda parts: len(parts[0]))

    def configure_tokenizers(self, *, max_length: int | None, use_attention_mask: bool = False) -> None:
        """Have tokenizers and encoders read prompts so, where diffusers' own pipeline looks for it: pictures then see what training saw.

        Raises SettingError for a mask where the pipeline has no use for one.
        """
        for number, tokenizer in enumerate(self.tokenizers, start=1):
            if max_length is None:
                break
            tokenizer.model_max_length = min(self.text_length(number), max_length)
            if number == 1 and hasattr(self.pipe, "tokenizer_max_length"):
                self.pipe.tokenizer_max_length = tokenizer.model_max_length
        if use_attention_mask:
            self.refuse_masked_padding()
            for encoder in self.encoders:
                encoder.config.use_attention_mask = True

    @classmethod
    def refuse_masked_padding(cls) -> None:
        """Raise SettingError where the pipeline has no use for a mask over padding."""
        if not cls.masks_padding:
            reason = f"{cls.name}'s text encoders read padding, as they were trained to."
            raise SettingError("--text_encoder_use_attention_mask", reason, fix="Leave it out.")

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b moments h w"]:
        """Mean and standard deviation of the VAE's posterior, [b, 2c, h, w], of pictures in [-1, 1], [b, 3, H, W]."""
        posterior = self.pipe.vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    def draw(self, moments: Float[Tensor, "b moments h w"], noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents x [b, c, h, w] from the posterior, shifted and scaled as the denoiser knows them."""
        mean, std = moments.chunk(2, dim=1)
        config = self.pipe.vae.config
        return (mean + std * noise - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    def decode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pictures in about [-1, 1], [b, 3, H, W], from latents."""
        config = self.pipe.vae.config
        return self.pipe.vae.decode(x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)).sample

    def to(self, device: torch.device, *, parts: Iterable[str] | None = None) -> None:
        """Move the parts (all when none are named) to a device; the others stay where they are."""
        names = self.parts if parts is None else parts
        for name in names:
            self.parts[name].to(device)
        self.device = device

    def save(self, folder: Path) -> None:
        """The whole pipeline as diffusers saves it, in safetensors."""
        with readable_name(folder) as place:
            self.pipe.save_pretrained(place, safe_serialization=True)


def _part(kind: Any, name: str, source: ModelSource, *, flag: str, folder: str, **options: Any) -> Any:
    """A part from its own folder or Hub id; a folder of a whole pipeline, which has it in `folder`, will do, too."""
    nested = {"subfolder": folder} if (Path(name) / folder).is_dir() else {}
    if Path(name).is_dir():
        library = "transformers" if folder == "tokenizer" else "diffusers"
        Part(Path(name), folder, library, kind.__name__, flag, None, source.allow_pickle, alone=not nested).check()
    try:
        with readable_name(name) as place:
            return kind.from_pretrained(place, cache_dir=source.cache_dir, **nested, **options)
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise RunError(f"Out of memory while loading {name}.") from error
        wrong = SettingError(flag, f"{name} cannot be loaded ({first_line(error)}).", fix="Give a folder or a Hub id.")
        raise failing(error, Path(name)) or wrong from None
