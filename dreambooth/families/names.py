"""Models by the short names that people use: where they lie, under which terms, how large they are; the facts stand in names.yaml."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from dreambooth.files.yaml_file import read_yaml_file

log = logging.getLogger(__name__)

FILE = Path(__file__).with_name("names.yaml")
UNKNOWN = "see the model's page"
"""What is printed for a fact that no source says itself."""


class Fact(BaseModel):
    """Something that somebody says of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str = Field(validation_alias="is")
    source: str
    confirmed: bool = True
    """Whether the source says it, and nobody has concluded or remembered it."""

    @property
    def known(self) -> str | None:
        """The value, where it is a fact."""
        return self.value if self.confirmed else None

    def __str__(self) -> str:
        return UNKNOWN if self.known is None else self.known


class KnownModel(BaseModel):
    """A model of the Hub that has a short name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    id: Fact
    pipeline: str
    """Its pipeline's class in diffusers."""
    train: Fact | None = None
    """Of a distilled model: the name of the one to train on, and who has seen that it must be."""
    draw: str | None = None
    """The name of its distilled twin, which draws with its LoRA in few steps."""
    licence: Fact
    commercial: Fact
    gated: Fact
    billions: Fact
    """Weights of the denoiser."""
    text_gib: Fact
    """Of its text encoders in bfloat16."""

    @property
    def page(self) -> str:
        """Where its terms stand."""
        return f"https://huggingface.co/{self.id.value}"

    @property
    def licensed(self) -> str:
        """Its licence in half a sentence."""
        return f"{self.licence}; commercial use: {self.commercial}"

    def terms(self) -> str:
        """What a person should know before it is downloaded, in a sentence or two."""
        gate = f" It is gated: accept its terms at {self.page}, then `hf auth login`." if self.gated.known == "yes" else ""
        return f"{self.id.value} is to be downloaded. Licence: {self.licensed}.{gate}"

    def advice(self) -> str | None:
        """What speaks against training it; None where nothing does."""
        if self.train is None:
            return None
        base = known_models()[self.train.value]
        other = "" if base.licence.value == self.licence.value else f" Its licence is another: {base.licence}."
        if not self.train.confirmed:
            return f"{self.id.value} is distilled to draw in few steps, from a model like {base.name} ({base.id.value}).{other}"
        instead = f"train {base.name} ({base.id.value}), draw with either."
        return f"{self.id.value} is distilled and forgets by training how to draw in few steps: {instead}{other}"


@cache
def known_models() -> Mapping[str, KnownModel]:
    """All of names.yaml by short name."""
    entries = read_yaml_file(FILE, FILE.name)
    return {name: KnownModel.model_validate({"name": name, **entry}) for name, entry in entries.items()}


def hub_id(name: str) -> str:
    """The Hub id that a short name stands for; any other name as it is, and that of something that lies on this disk."""
    if "/" in name or name not in known_models() or _is_here(name):
        return name
    return known_models()[name].id.value


def known_model(hub_id: str) -> KnownModel | None:
    """What is known of a model of the Hub."""
    return next((model for model in known_models().values() if model.id.value == hub_id), None)


@cache
def say_what_is_taken(name: str) -> None:
    """Say, once, that a folder is taken whose name is a short name, too."""
    if "/" not in name and name in known_models() and _is_here(name):
        log.warning("%s is taken from the folder of that name here, and not from the Hub (%s).", name, known_models()[name].id.value)


def _is_here(name: str) -> bool:
    return Path(name).exists()
