"""A network that metrics compute with: what it is called, where it is found when nobody says, and the embeddings that it gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreambooth.files.cache import cache_root
from dreambooth.photos.load import PhotoFile

NONE = "none"
"""What a setting says that leaves a network out."""


@dataclass
class Network(ABC):
    """A loaded network. The class tells how it is asked for, and loads it."""

    model: Any
    """In eval mode."""
    label: str
    """What it is and how it sees, for tables."""

    name: ClassVar[str]
    """Its setting is --NAME_encoder, its key in protocols NAME."""
    title: ClassVar[str]
    """What pages call it."""
    help: ClassVar[str]
    """The help of that setting."""
    beside: ClassVar[str]
    """Its folder among the encoders that lie beside a base model, as the toybox's do."""
    published: ClassVar[str]
    """The paper's network, taken where nothing else is said; `none` where there is none."""
    on_request: ClassVar[bool] = False
    """Whether it is used only where its setting names it: its score stands beside the paper's, whose tables stay as they are."""

    @classmethod
    @abstractmethod
    def load(cls, where: str) -> "Network":
        """From a folder or Hub id; raises SettingError, which names the setting, where it cannot be had."""

    @classmethod
    def default(cls) -> str:
        """What is taken where nothing else is said: a folder here that `dreambooth encoders get` has made, else the paper's network."""
        if cls.on_request:
            return NONE
        own = made_here(cls.name)
        return str(own) if own.is_dir() else cls.published

    @classmethod
    def command(cls, where: str) -> str:
        """The command that brings it here, where it is the published one; else nothing."""
        return f"dreambooth encoders get {cls.name}" if where == cls.published else ""

    @classmethod
    def setting(cls) -> str:
        """The name of its setting."""
        return f"{cls.name}_encoder"

    @abstractmethod
    def embed(self, images: Sequence[Image.Image | PhotoFile], device: torch.device) -> Float[Tensor, "n d"]:
        """Embeddings of a batch that fits the memory, on that device."""


def made_here(name: str) -> Path:
    """Where the folder of an encoder lies that was made on this machine from published files."""
    return cache_root() / "encoders" / name


def shown(where: str) -> str:
    """A Hub id as it is; of a folder on somebody's disk the last two parts, marked as such."""
    path = Path(where).expanduser()
    return f"…/{path.parent.name}/{path.name}" if path.is_dir() else where


def folder_of(where: str) -> Path:
    """Where a network's files lie: its own folder, or its place in the Hub's cache."""
    path = Path(where).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(where, "config.json")
    return Path(found).parent if isinstance(found, str) else path
