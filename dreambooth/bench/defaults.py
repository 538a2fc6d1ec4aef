"""The defaults that rows stand on, kept in defaults.json as they were when each setting came to be.

A value equal to its default there is left out of a row's key, so that a setting which is new to the code leaves old rows valid. A default
that changes in the code leaves the file alone: what is left out from then on is another value than the file's, goes into the key, and old
rows do not pass for new ones. `python -m tools.row_defaults` adds the settings that are new, and changes none that is there.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from dreambooth.families.sampling import Sampling
from dreambooth.methods import AnyMethod
from dreambooth.schema import Setting
from dreambooth.setup.config import TrainConfig

NAME = "defaults.json"
UNKEYED = ("output", "encoders")
"""Branches that decide no row, or whose bytes are in the key."""

Defaults = Mapping[str, Mapping[str, Any]]
"""By branch (a method's by its kind: `method.lora`) and setting; `sampling` is that of the examination."""


@cache
def kept() -> Defaults:
    """What defaults.json holds."""
    return json.loads((files("dreambooth.bench") / NAME).read_text(encoding="utf-8"))


def today() -> Defaults:
    """The same of the code as it is."""
    branches = {name: value for name, value in TrainConfig() if isinstance(value, Setting) and name not in (*UNKEYED, "method")}
    methods = {f"method.{kind.model_fields['kind'].default}": kind() for kind in get_args(get_args(AnyMethod)[0])}
    found = {name: value.model_dump(mode="json") for name, value in {**branches, **methods, "sampling": Sampling()}.items()}
    return {name: {leaf: value for leaf, value in values.items() if leaf != "kind"} for name, values in found.items()}


def differing(branch: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a branch, as JSON has them, that are not the defaults of defaults.json; a method from outside has none there."""
    known = kept().get(branch, {})
    return {name: value for name, value in values.items() if not (name in known and known[name] == value)}
