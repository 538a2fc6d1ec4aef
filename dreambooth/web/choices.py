"""What a person chooses from before any setting: base models as cards, and three ways of learning."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.core.wording import shown, size
from dreambooth.families import family_of, trained_here
from dreambooth.families.complete import WEIGHTS
from dreambooth.families.names import KnownModel, known_model, known_models
from dreambooth.files.packaged import TOYBOX
from dreambooth.files.places import is_inside
from dreambooth.files.reading import Damaged, read_json
from dreambooth.memory.cards import card_of
from dreambooth.schema import flags, is_set
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.runs import folder_size
from dreambooth.web.studio import Studio

MODEL, NOUN, METHOD, STEPS = "pretrained_model_name_or_path", "class_noun", "method", "max_train_steps"
"""Settings that pages ask for by themselves."""
QUICK_SHARE, QUICK_LEAST, USUAL = 4, 20, 400
"""A quick look takes one in so many of the recipe's updates, and at least so many; what a model without a recipe is taken to need."""


@dataclass(frozen=True)
class Goal:
    """What somebody wants, and the settings that it means."""

    name: str
    title: str
    text: str
    settings: Mapping[str, str] = field(default_factory=dict)
    is_quick: bool = False
    """Whether it takes few updates."""


_GOALS = (
    Goal("small", "A small file for ComfyUI", "A LoRA of some megabytes beside the base model. Fits most cards.", {METHOD: "lora"}),
    Goal("likeness", "Best likeness", "Every weight learns, as in the paper. Several gigabytes, and a large card.", {METHOD: "full"}),
    Goal("quick", "A quick look", "A quarter of the usual updates, to see whether photos and model fit.", {METHOD: "lora"}, is_quick=True),
)
GOALS = {goal.name: goal for goal in _GOALS}


@dataclass(frozen=True)
class Model:
    """A base model as a card."""

    name: str
    """What the setting takes."""
    title: str
    family: str
    facts: tuple[str, ...] = ()
    is_here: bool = False
    is_gated: bool = False
    licence: str = ""
    page: str = ""
    advice: str = ""
    card: int | None = None
    """GB of the smallest card that trains a LoRA on it, as predicted for a model that is known by name."""


def models(studio: Studio) -> list[Model]:
    """Every model that can be chosen: the toybox, those that lie in the studio's folders, and those that are known by name."""
    toy = Model(TOYBOX, "Toybox", "A tiny built-in world", ("learns in minutes, everywhere", "for a first try"), is_here=True)
    return [*_own(studio), *_known(), toy]


def quick_steps(config: TrainConfig) -> int:
    """The updates of a quick look: a part of what the recipe takes."""
    resolved = recipe(config)
    usual = resolved.loop.max_train_steps if resolved else None
    return max(QUICK_LEAST, (usual or USUAL) // QUICK_SHARE)


def recipe(config: TrainConfig) -> TrainConfig | None:
    """The configuration with its recipe's values; of a model that is to be downloaded, those of its family; None where nobody knows it."""
    if config.model.is_here:
        return resolve(config, family_of(config.model))
    known, tree = known_model(config.model.pretrained_model_name_or_path), flags(type(config))
    family = trained_here(known.pipeline) if known else None
    if family is None:
        return None
    values = family.recipe.get(config.method.kind, {})
    return config.updated({tree[name].path: value for name, value in values.items() if not is_set(config, tree[name].path)})


def model_named(studio: Studio, name: str) -> Model | None:
    """The card of a model."""
    return next((one for one in models(studio) if one.name == name), None)


def _own(studio: Studio) -> Iterator[Model]:
    """Pipelines and single files in the folders of models."""
    for place in (studio.root / "models", *studio.models):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name.startswith(".") or not is_inside(path, place):
                continue
            if path.is_dir() and (path / "model_index.json").is_file():
                try:
                    kind = str(read_json(path / "model_index.json").get("_class_name"))
                except (FileNotFoundError, Damaged):
                    continue
                family = trained_here(kind)
                if family:
                    yield Model(str(path), shown(path.name), family.name, (size(folder_size(path)),), is_here=True)
            elif path.is_file() and path.suffix in WEIGHTS and path.suffix == ".safetensors":
                yield Model(str(path), shown(path.stem), "single file", (size(path.stat().st_size),), is_here=True)


def _known() -> Iterator[Model]:
    for one in known_models().values():
        family = trained_here(one.pipeline)
        if family:
            yield Model(
                one.id.value, one.name, family.name, tuple(_facts(one)), is_here=_is_downloaded(one.id.value), licence=str(one.licence),
                is_gated=one.gated.known == "yes", page=one.page, advice=one.advice() or "", card=_card(one),
            )  # fmt: skip


def _facts(model: KnownModel) -> Iterator[str]:
    if model.billions.known:
        yield f"{model.billions} billion weights"
    if model.text_gib.known:
        yield f"text encoders {model.text_gib} GiB"


def _card(model: KnownModel) -> int | None:
    """GB of the smallest card, with base weights of 4 bits where they are needed."""
    return next((card for way in ("LoRA", "LoRA, nf4") if (card := card_of(model.name, way))), None)


def _is_downloaded(name: str) -> bool:
    """Whether a model lies in the Hub's cache; only its folder is asked for."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots").is_dir()
