"""dreambooth: a text-to-image model that knows *your* dog, mug, shoe or painting style, from 3-5 photos.

`train`, `watch`, `generate` and `Run` are here; everything heavy is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreambooth import stream
    from dreambooth.api import Run, check_photos, generate, open_run, train, watch
    from dreambooth.core.errors import DreamboothError, Interrupted, RunError, SettingError
    from dreambooth.reporting.notebook import Live

__version__ = "0.1.0"
__all__ = [
    "DreamboothError", "Interrupted", "Live", "Run", "RunError", "SettingError", "__version__", "check_photos", "generate", "open_run",
    "stream", "train", "watch",
]  # fmt: skip

_ERRORS = ("DreamboothError", "Interrupted", "RunError", "SettingError")


if not TYPE_CHECKING:  # type checkers know the names above, and would take any other for granted here

    def __getattr__(name: str) -> Any:
        if name == "stream":
            return import_module("dreambooth.stream")
        if name == "Live":
            return import_module("dreambooth.reporting.notebook").Live
        if name in __all__:
            return getattr(import_module("dreambooth.core.errors" if name in _ERRORS else "dreambooth.api"), name)
        raise AttributeError(f"module 'dreambooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
