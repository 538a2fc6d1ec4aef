"""`dreambooth models`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.families import Family, trained_here
from dreambooth.families.names import Fact, KnownModel, known_models
from dreambooth.memory.cards import card_of
from dreambooth.schema import Setting

USAGE = "dreambooth models [--json]"
HEAD = ("name", "family", "denoiser", "text encoders", "licence", "commercial use", "gated", "LoRA fits", "recipe of LoRA")
NOTE = """
A name stands for its model on the Hub wherever one is asked for (--pretrained_model_name_or_path klein-4b); a folder of that name comes
first. What no source says itself is left to the model's page, and a licence is read by people. As of 2026-11; --json has the sources."""


class ListModels(Setting):
    """What is listed"""

    as_json: bool = False
    """Everything that is known, with its sources."""


def main(argv: Sequence[str]) -> int:
    """List the models that have a short name and can be trained."""
    settings = settings_from(argv, ListModels, usage=USAGE, aliases={"json": Alias("as_json", True)})
    if settings is None:
        return 0
    models = list(_trainable())
    if settings.as_json:
        print(json.dumps([_plain(*one) for one in models], indent=1, ensure_ascii=False))
        return 0
    table = [HEAD, *(_row(*one) for one in models)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(*("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table), NOTE, sep="\n")
    return 0


def _trainable() -> Iterator[tuple[KnownModel, type[Family]]]:
    for model in known_models().values():
        if family := trained_here(model.pipeline):
            yield model, family


def _row(model: KnownModel, family: type[Family]) -> tuple[str, ...]:
    sizes = (_sized(model.billions, "B"), _sized(model.text_gib, "GiB"))
    terms = map(str, (model.licence, model.commercial, model.gated))
    return (model.name, family.name, *sizes, *terms, _fits(model), _recipe(model, family))


def _fits(model: KnownModel) -> str:
    """The smallest card for a LoRA at 1024 pixels, as predicted: without and with base weights of 4 bits."""
    cards = {way: card_of(model.name, way) for way in ("LoRA", "LoRA, nf4")}
    return ", ".join(f"{card} GB{way.removeprefix('LoRA').replace(', ', ' ')}" for way, card in cards.items() if card) or "dreambooth plan"


def _sized(fact: Fact, unit: str) -> str:
    return f"{fact} {unit}" if fact.known else str(fact)


def _recipe(model: KnownModel, family: type[Family]) -> str:
    """What a LoRA is trained with where nothing is said; of a distilled model, what to train in its place."""
    if model.train:
        return f"distilled; train {model.train.value}" if model.train.confirmed else "distilled"
    recipe = {"rank": 4, "learning_rate": 1e-4, "max_train_steps": 500} | dict(family.recipe["lora"])
    twin = f"; also draws with {model.draw}" if model.draw else ""
    return f"rank {recipe['rank']}, {recipe['learning_rate']:g}, {recipe['max_train_steps']} steps{twin}"


def _plain(model: KnownModel, family: type[Family]) -> dict[str, Any]:
    """Everything, its sources with it; a fact that is not confirmed has no value."""
    facts = model.model_dump()
    for name, fact in facts.items():
        if isinstance(fact, dict) and not fact["confirmed"]:
            facts[name] = {**fact, "value": None}
    return {**facts, "family": family.name, "page": model.page, "recipe": {kind: dict(values) for kind, values in family.recipe.items()}}
