"""Modules that can be called: `dreambooth.bench("table3")` beside `from dreambooth.bench.tables import write_tables`.

A verb of the Python interface may have the name of the package that does it. Whichever of the two is imported first, both work: the package
is given a class of its own, which is what Python offers for modules with more than attributes.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A module whose call is that of a function, which is imported when it is first called."""

    _function: str

    def __call__(self, *given: Any, **settings: Any) -> Any:
        module, _, name = self._function.partition(":")
        return getattr(import_module(module), name)(*given, **settings)


def make_callable(module: str, function: str) -> None:
    """Let `module`, by its full name, be called as `function`, given as module:name."""
    found = sys.modules[module]
    found.__class__ = _Verb
    found.__dict__["_function"] = function
