"""The encoders behind the metrics: DINO, CLIP and a perceptual distance, by folder or Hub id, each with its published preprocessing.

They are loaded once, work in batches, and remember what they have seen by the pixels' hash. Numbers of different encoders are not
comparable (CLIP-T moves by 0.05 between ViT-B/32 and L/14), so every table prints which ones were used.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field, create_model
from torch import Tensor

from dreambooth.core.errors import SettingError
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.metrics.base import EncoderName, Encoders, Undefined
from dreambooth.metrics.networks import NETWORKS, Clip, Network
from dreambooth.metrics.networks.base import NONE, shown
from dreambooth.metrics.perceptual import all_distances
from dreambooth.photos.load import PhotoFile
from dreambooth.schema import Setting

__all__ = ["NONE", "EncoderName", "EncoderSettings", "LoadedEncoders", "encoders_beside", "picture_hash", "shown"]

_FIELDS: Any = {network.setting(): (str | None, Field(None, description=network.help)) for network in NETWORKS.values()}
_Declared: Any = create_model("_Declared", __base__=Setting, **_FIELDS)


class EncoderSettings(_Declared):
    """The encoders of the metrics"""

    def beside(self, base: str) -> "EncoderSettings":
        """What was left out filled in: the encoders that lie beside the base model, as the toybox's do, else the paper's."""
        own = encoders_beside(base)
        chosen: dict[str, str | None] = {}
        for name, network in NETWORKS.items():
            there = own and (own / network.beside).is_dir()
            chosen[network.setting()] = self.where(name) or (str(own / network.beside) if own and there else network.default())
        return EncoderSettings(**chosen)

    def where(self, name: EncoderName) -> str | None:
        """The folder or Hub id of an encoder; None or `none` where there is none."""
        return getattr(self, NETWORKS[name].setting())

    def given(self) -> dict[str, str]:
        """The encoders that are there to be loaded: setting and folder or Hub id."""
        found = {network.setting(): self.where(name) for name, network in NETWORKS.items()}
        return {setting: where for setting, where in found.items() if where and where != NONE}

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
    """Encoders that are loaded when first needed. One that was left out raises Undefined, one that cannot be had SettingError."""

    def __init__(self, setting: EncoderSettings, *, device: torch.device, batch_size: int):
        self.setting, self.device, self.batch_size = setting, device, batch_size
        self.models: dict[EncoderName, Network] = {}
        self.seen: dict[tuple[str, str], Tensor] = {}

    def to(self, device: torch.device) -> None:
        """Send the encoders that are loaded, and those to come, to a device."""
        self.device = device
        for network in self.models.values():
            network.model.to(device)

    def ready(self, wanted: Iterable[EncoderName] = tuple(NETWORKS)) -> dict[str, str]:
        """Load encoders before any long work starts; what each is and how it sees, for tables."""
        for name in wanted:
            if self.offers(name):
                self._network(name)
        return {name: network.label for name, network in self.models.items()}

    def offers(self, name: EncoderName) -> bool:
        return self.setting.where(name) not in (None, NONE)

    def missing(self) -> list[EncoderName]:
        """The encoders that nothing was said of and that are not to be had by themselves: their scores will have no value."""
        return [name for name, network in NETWORKS.items() if not (network.on_request or self.offers(name))]

    def embed(self, name: EncoderName, images: Sequence[Image.Image | PhotoFile]) -> Tensor:
        """Embeddings [n, d] by the encoder of that name; of equal pictures one is computed."""
        keys = [(name, picture_hash(image)) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.seen}
        with torch.no_grad():
            for some in _batches(list(new.items()), self.batch_size):
                rows = self._network(name).embed([image for _, image in some], self.device).float().cpu()
                self.seen |= {key: row for (key, _), row in zip(some, rows, strict=True)}
        return torch.stack([self.seen[key] for key in keys])

    def words(self, texts: Sequence[str]) -> Tensor:
        """Projected text embeddings [n, d], one row per text; equal texts are read once."""
        clip = self._network("clip")
        assert isinstance(clip, Clip)
        new = [text for text in dict.fromkeys(texts) if ("words", text) not in self.seen]
        with torch.no_grad():
            for some in _batches(new, self.batch_size):
                rows = clip.embed_words(some, self.device).float().cpu()
                self.seen |= {("words", text): row for text, row in zip(some, rows, strict=True)}
        return torch.stack([self.seen["words", text] for text in texts])

    def distances(self, images: Sequence[Image.Image]) -> Tensor:
        """Perceptual distances [n, n]."""
        network = self._network("lpips")
        with torch.no_grad():
            parts = [network.embed(some, self.device) for some in _batches(images, self.batch_size)]
        return all_distances(torch.cat(parts))

    def _network(self, name: EncoderName) -> Network:
        if name not in self.models:
            where = self.setting.where(name)
            if where in (None, NONE):
                raise Undefined(f"no {name} encoder was given (--{NETWORKS[name].setting()} FOLDER).")
            self.models[name] = NETWORKS[name].load(where)
            self.models[name].model.to(self.device)
        return self.models[name]


def picture_hash(image: Image.Image | PhotoFile) -> str:
    """A digest of the pixels, whatever file they came from; of a photo on the disk, of its file."""
    if isinstance(image, PhotoFile):
        return f"file {image.digest()}"
    image = image.convert("RGB")
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
