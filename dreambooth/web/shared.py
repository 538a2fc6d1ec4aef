"""What many open pages ask for at once, made once for all of them."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Shared(Generic[Value]):
    """Values by key, each for some seconds: a key has to hold everything that may not be shown late."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.values: dict[Hashable, tuple[float, Value]] = {}
        self.lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made where there is none that is young enough; who asks meanwhile waits for it."""
        with self.lock:
            now = time.monotonic()
            self.values = {name: one for name, one in self.values.items() if now - one[0] < self.seconds}
            if key not in self.values:
                value = make()
                self.values[key] = time.monotonic(), value
            return self.values[key][1]
