"""The encoders behind the metrics: DINO, CLIP and a perceptual distance, by folder or Hub id, each with its published preprocessing.

They are loaded once, work in batches, and remember what they have seen by the pixels' hash. Numbers of different encoders are not
comparable (CLIP-T moves by 0.05 between ViT-B/32 and L/14), so every table prints which ones were used.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.files.digests import file_digest
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.files.pretrained import check_tokenizer, from_pretrained
from dreambooth.metrics.base import EncoderName, Encoders, Undefined
from dreambooth.metrics.perceptual import Perceptual, all_distances, load_perceptual
from dreambooth.metrics.preprocessing import Preprocessing, for_clip, for_dino
from dreambooth.photos.load import PhotoFile
from dreambooth.schema import Setting

DINO, CLIP = "facebook/dino-vits16", "openai/clip-vit-base-patch32"
NONE = "none"


class EncoderSettings(Setting):
    """The encoders of the metrics"""

    dino_encoder: str | None = None
    """DINO: a transformers ViT (or ResNet) folder or Hub id; left out, the toybox's for a toybox run, else facebook/dino-vits16. `none` leaves DINO and PRES out."""  # noqa: E501
    clip_encoder: str | None = None
    """CLIP: a transformers CLIP folder or Hub id; left out, the toybox's, else openai/clip-vit-base-patch32. `none` leaves CLIP-I and CLIP-T out."""  # noqa: E501
    lpips_encoder: str | None = None
    """Perceptual distance for DIV: an LPIPS folder (docs/metrics.md tells how to make one); left out, the toybox's, else none."""

    def beside(self, base: str) -> "EncoderSettings":
        """What was left out filled in: the encoders that lie beside the base model, as the toybox's do, else the paper's."""
        own = encoders_beside(base)
        paper: dict[str, str | None] = {"dino": DINO, "clip": CLIP, "lpips": NONE}
        chosen: dict[str, str | None] = {}
        for name, folder in {"dino": "instance", "clip": "clip", "lpips": "perceptual"}.items():
            given = getattr(self, f"{name}_encoder")
            chosen[f"{name}_encoder"] = given or (str(own / folder) if own and (own / folder).is_dir() else paper[name])
        return EncoderSettings(**chosen)  # type: ignore[arg-type]

    def load(self, *, device: torch.device, batch_size: int = 16) -> "LoadedEncoders":
        """The encoders, each loaded when it is first used."""
        return LoadedEncoders(self, device=device, batch_size=batch_size)


def encoders_beside(base: str) -> Path | None:
    """The folder `encoders` that lies beside a base model's own folder, where there is one."""
    try:
        place = toybox() if base == TOYBOX else Path(base).expanduser()
    except SettingError:
        return None
    folder = place.resolve().parent / "encoders"
    return folder if place.is_dir() and (folder / "clip").is_dir() and (folder / "instance").is_dir() else None


class LoadedEncoders(Encoders):
    """Eyes by networks. Encoders that were left out raise Undefined, those that cannot be had SettingError."""

    def __init__(self, setting: EncoderSettings, *, device: torch.device, batch_size: int):
        self.setting, self.device, self.batch_size = setting, device, batch_size
        self.models: dict[EncoderName, Any] = {}
        self.seen: dict[tuple[str, str], Tensor] = {}
        self.names: dict[str, str] = {}

    def to(self, device: torch.device) -> None:
        """Send the encoders that are loaded, and those to come, to a device."""
        self.device = device
        for loaded in self.models.values():
            (loaded[0] if isinstance(loaded, tuple) else loaded).to(device)

    def ready(self, wanted: Iterable[EncoderName]) -> dict[str, str]:
        """Load encoders before any long work starts; what each is and how it sees, for tables."""
        for name in wanted:
            if getattr(self.setting, f"{name}_encoder") not in (None, NONE):
                self._model(name)
        return dict(self.names)

    def dino(self, images: Sequence[Image.Image | PhotoFile]) -> Tensor:
        """Class tokens [n, d]; of a residual network, which has none, the means of its last feature map."""
        model, preprocess = self._model("dino")

        def embed(batch: Sequence[Image.Image | PhotoFile]) -> Tensor:
            seen: Tensor = model(pixel_values=preprocess(batch).to(self.device)).last_hidden_state
            return seen[:, 0] if seen.ndim == 3 else seen.mean((2, 3))

        return self._embedded("dino", images, embed)

    def clip(self, images: Sequence[Image.Image | PhotoFile]) -> Tensor:
        """Projected image embeddings [n, d]."""
        model, preprocess, _ = self._model("clip")
        return self._embedded("clip", images, lambda b: model.get_image_features(pixel_values=preprocess(b).to(self.device)).pooler_output)

    def words(self, texts: Sequence[str]) -> Tensor:
        """Projected text embeddings [n, d], one row per text; equal texts are read once."""
        model, _, tokenizer = self._model("clip")
        new = [text for text in dict.fromkeys(texts) if ("words", text) not in self.seen]
        longest = model.config.text_config.max_position_embeddings
        with torch.no_grad():
            for start in range(0, len(new), self.batch_size):
                some = new[start : start + self.batch_size]
                tokens = tokenizer(some, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(self.device)
                found = model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
                self.seen |= {("words", text): row for text, row in zip(some, found.float().cpu(), strict=True)}
        return torch.stack([self.seen["words", text] for text in texts])

    def distances(self, images: Sequence[Image.Image]) -> Tensor:
        """Perceptual distances [n, n]."""
        model: Perceptual = self._model("lpips")
        with torch.no_grad():
            parts = [model.embed(model.preprocess(some).to(self.device)) for some in _batches(images, self.batch_size)]
        return all_distances(torch.cat(parts))

    def _embedded(
        self, name: EncoderName, images: Sequence[Image.Image | PhotoFile], embed: Callable[[Sequence[Image.Image | PhotoFile]], Tensor]
    ) -> Tensor:
        keys = [(name, picture_hash(image)) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.seen}
        with torch.no_grad():
            for some in _batches(list(new.items()), self.batch_size):
                rows = embed([image for _, image in some]).float().cpu()
                self.seen |= {key: row for (key, _), row in zip(some, rows, strict=True)}
        return torch.stack([self.seen[key] for key in keys])

    def _model(self, name: EncoderName) -> Any:
        if name not in self.models:
            where = getattr(self.setting, f"{name}_encoder")
            if where in (None, NONE):
                raise Undefined(f"no {name} encoder was given (--{name}_encoder FOLDER).")
            self.models[name] = {"dino": self._load_dino, "clip": self._load_clip, "lpips": self._load_lpips}[name](where)
        return self.models[name]

    def _load_dino(self, where: str) -> tuple[Any, Preprocessing]:
        from transformers import AutoConfig, ResNetModel, ViTModel

        kind = from_pretrained(AutoConfig, where, "--dino_encoder", has_weights=False).model_type
        if kind == "resnet":
            model = from_pretrained(ResNetModel, where, "--dino_encoder")
        else:
            model = from_pretrained(ViTModel, where, "--dino_encoder", add_pooling_layer=False)
        preprocess = for_dino(_folder(where), getattr(model.config, "image_size", None))
        self.names["dino"] = f"{shown(where)} ({preprocess})"
        return model.to(self.device).eval(), preprocess

    def _load_clip(self, where: str) -> tuple[Any, Preprocessing, Any]:
        from transformers import CLIPModel, CLIPTokenizer

        model = from_pretrained(CLIPModel, where, "--clip_encoder")
        tokenizer = from_pretrained(CLIPTokenizer, where, "--clip_encoder", has_weights=False)
        check_tokenizer(tokenizer, f"the tokenizer of {where}", "--clip_encoder")
        preprocess = for_clip(_folder(where), model.config.vision_config.image_size)
        self.names["clip"] = f"{shown(where)} ({preprocess})"
        return model.to(self.device).eval(), preprocess, tokenizer

    def _load_lpips(self, where: str) -> Perceptual:
        model = load_perceptual(Path(where).expanduser(), "--lpips_encoder")
        self.names["lpips"] = model.name
        return model.to(self.device)


def shown(where: str) -> str:
    """A Hub id as it is; of a folder on somebody's disk the last two parts, marked as such."""
    path = Path(where).expanduser()
    return f"…/{path.parent.name}/{path.name}" if path.is_dir() else where


def picture_hash(image: Image.Image | PhotoFile) -> str:
    """A digest of the pixels, whatever file they came from; of a photo on the disk, of its file."""
    if isinstance(image, PhotoFile):
        return f"file {file_digest(image.path)}"
    image = image.convert("RGB")
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _folder(where: str) -> Path:
    """Where an encoder's files lie: its own folder, or its place in the Hub's cache."""
    path = Path(where).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(where, "config.json")
    return Path(found).parent if isinstance(found, str) else path
