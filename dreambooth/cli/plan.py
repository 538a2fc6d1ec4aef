"""`dreambooth plan`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.help import Page, help_text, help_topic
from dreambooth.cli.parse import named_method, read_flags
from dreambooth.cli.train import RECIPES
from dreambooth.core.device import parse_memory, pick_device
from dreambooth.core.trees import merged
from dreambooth.core.wording import size
from dreambooth.families import family_of
from dreambooth.families.names import known_model
from dreambooth.memory.estimate import estimate, free_bytes, rehearse, with_configurations
from dreambooth.memory.fitting import fitting, least_estimate
from dreambooth.run.plan import needed_bytes
from dreambooth.schema import is_set
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.given import config_type, from_file
from dreambooth.setup.model import silence_libraries

USAGE = "dreambooth plan MODEL [--method lora] [--resolution 512] [--memory 12GB] [--json] [any setting of `dreambooth train`]"
INTRO = """What a training would need: the peak memory of each phase and what it is made of, learned by running the step on tensors without numbers. Only the model's configurations are read; nothing is loaded, and of the Hub only they are downloaded.

All settings of `dreambooth train` count as they do there; without photos, a subject with class images is assumed (--no-with_prior_preservation plans without)."""  # noqa: E501
OTHERS = {
    "memory 12GB": "Plan for a card of this size, of which the driver has its part; automatic: this machine.",
    "json": "Print it for programs.",
    "config FILE": "Read settings from YAML first.",
}
EXAMPLES = (
    "dreambooth plan sdxl --method lora --memory 12GB",
    "dreambooth plan flux-dev --method lora --resolution 768 --memory 24GB --json",
)
PHOTOS = 5
"""As many as a subject has, where none are given."""


def main(argv: Sequence[str]) -> int:
    """Plan the memory of a training."""
    tree = config_type(named_method(argv))
    if (topic := help_topic(argv)) is not None:
        print(help_text(tree, Page(USAGE, INTRO, EXAMPLES, OTHERS, RECIPES), topic))
        return 0
    words = [word for word in argv if word != "--json"]
    if words and not words[0].startswith("-"):
        words.insert(0, "--pretrained_model_name_or_path")
    values, others, _ = read_flags(words, tree, aliases=ALIASES, extra=("config", "memory"))
    if "config" in others:
        tree, said = from_file(Path(others["config"]).expanduser(), {}, named_method(argv))
        values = merged(said, values)
    config = tree.parse(values)
    size_of_fit = config.loop.fit if config.loop.fit != "device" else None
    memory = others.get("memory") or size_of_fit
    print(_plan(config, parse_memory(memory) if memory else None, as_json="--json" in argv))
    return 0


def _plan(config: TrainConfig, limit: int | None, *, as_json: bool) -> str:
    """The plan in words, or as JSON. A card that is asked for need not be here."""
    device = torch.device("cuda") if limit and not config.loop.device else pick_device(config.loop.device)
    if not (config.photos.class_noun or is_set(config, ("prior", "with_prior_preservation"))):
        config = config.updated({("photos", "class_noun"): "dog"})
    name = config.model.pretrained_model_name_or_path
    config = with_configurations(config)
    silence_libraries()
    kind = family_of(config.model)
    config, limit = resolve(config, kind), limit or free_bytes(device)
    fit = config.loop.fit and fitting(config, device, limit=limit, plain=least_estimate(config, device, limit=limit))
    asked, config = config, config.updated(fit.changes if fit else {})
    rehearsal = rehearse(config, device)
    found = estimate(rehearsal, device, limit=limit)
    config, loop = rehearsal.config, config.loop
    disk = needed_bytes(config, rehearsal.trainable, rehearsal.family, loop.steps(PHOTOS, loop.train_batch_size))
    if as_json:
        facts: dict[str, Any] = {"model": name, "family": kind.name, "method": config.method.kind, "resolution": config.cropping.resolution}
        facts |= {"trainable": rehearsal.trainable, **found.as_json(), "fit": fit.flags if fit else None}
        return json.dumps({**facts, "disk_gib": round(disk / 2**30, 3)}, indent=1)
    batch = f"{loop.train_batch_size} photos" + (" and as many class images" if config.has_prior else "")
    how = (
        f"{config.method.kind}, {config.cropping.resolution} px, {batch} at a time, {'with' if loop.gradient_checkpointing else 'without'}"
    )
    known = known_model(name)
    precision = {"no": "float32"}.get(loop.mixed_precision, loop.mixed_precision)
    lines = [
        ("model", f"{name} ({kind.name})"),
        *([("licence", known.licensed)] if known else []),
        ("settings", f"{how} gradient checkpointing, {precision}; {rehearsal.trainable:,} weights learn"),
        *found.lines(), ("disk", size(disk)),
        *([("fit", fit.explained(asked) or "nothing has to be changed")] if fit else []),
    ]  # fmt: skip
    width = max(len(what) for what, _ in lines)
    return "\n".join(f"  {what:<{width}}  {how}" for what, how in lines)
