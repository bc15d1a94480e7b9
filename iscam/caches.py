"""`Caches`: cached data of one network, in an object that the user owns."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, field
from typing import Any

from iscam.layouts import Layout


@dataclass(eq=False)
class Caches:
    """Compiled copies of a model, its measured batch sizes and split copies, which `iscam.engine` fills.

    Also the layouts of ambiguous layers, and the warnings that were issued.
    """

    compiled: dict[Any, Any] = field(default_factory=dict)
    batch_sizes: dict[Any, Any] = field(default_factory=dict)
    split_models: dict[Any, Any] = field(default_factory=dict)
    layouts: dict[Any, Layout] = field(default_factory=dict)  # of layers whose output allows several readings
    warned: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Forget everything but the warnings."""
        with self.lock:
            for cache in (self.compiled, self.batch_sizes, self.split_models, self.layouts):
                cache.clear()

    def first_time(self, what: str) -> bool:
        """Return True at the first call with this text."""
        with self.lock:
            seen = what in self.warned
            self.warned.add(what)
            return not seen

    def warn_once(self, message: str) -> None:
        """Warn, if this message has not been issued yet."""
        if self.first_time(message):
            warnings.warn(message, stacklevel=3)

    def __reduce__(self) -> tuple[type[Caches], tuple[()]]:
        return Caches, ()  # copies and pickles of a network start with empty caches
