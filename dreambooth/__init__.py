"""dreambooth: a text-to-image model that knows *your* dog, mug, shoe or painting style, from 3-5 photos.

The verbs are here: `train`, `watch`, `generate`, `bench`, `identifier`, `check_photos`, and `Run`.
Everything heavy is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreambooth import stream
    from dreambooth.api import Run, generate, open_run, train, watch
    from dreambooth.bench.call import run_bench as bench
    from dreambooth.core.errors import DreamboothError, Interrupted, RunError, SettingError
    from dreambooth.identifier.search import search_for as identifier
    from dreambooth.photos.check import check_photos
    from dreambooth.reporting.notebook import Live

__version__ = "0.1.0"
__all__ = [
    "DreamboothError", "Interrupted", "Live", "Run", "RunError", "SettingError", "__version__", "bench", "check_photos", "generate",
    "identifier", "open_run", "stream", "train", "watch",
]  # fmt: skip

_ELSEWHERE = {
    **dict.fromkeys(("DreamboothError", "Interrupted", "RunError", "SettingError"), "dreambooth.core.errors"),
    "Live": "dreambooth.reporting.notebook", "check_photos": "dreambooth.photos.check",
}  # fmt: skip


if not TYPE_CHECKING:  # type checkers know the names above, and would take any other for granted here

    def __getattr__(name: str) -> Any:
        if name in ("bench", "identifier", "stream"):  # packages; the first two can be called
            return import_module(f"dreambooth.{name}")
        if name in __all__:
            return getattr(import_module(_ELSEWHERE.get(name, "dreambooth.api")), name)
        raise AttributeError(f"module 'dreambooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
