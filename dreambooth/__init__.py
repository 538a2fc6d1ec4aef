"""dreambooth: a text-to-image model that knows *your* dog, mug, shoe or painting style, from 3-5 photos.

`train`, `watch`, `generate` and `Run` are here; everything heavy is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_VERBS = ("train", "watch", "generate", "open_run", "Run")
__all__ = ["Run", "__version__", "generate", "open_run", "stream", "train", "watch"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module("dreambooth.api"), name)
    if name == "stream":
        return import_module("dreambooth.stream")
    raise AttributeError(f"module 'dreambooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
