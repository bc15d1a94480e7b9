"""`Caches`, the cached data of one network. The network holds them; no cache is global."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, field
from typing import Any

from iscam.layouts import Layout


@dataclass(eq=False)
class Caches:
    """The cached data of one network.

    `iscam.engine` stores compiled copies of the model, measured batch sizes and split copies. The object also holds the
    layouts of ambiguous layers and the warnings that have been issued.
    """

    compiled: dict[Any, Any] = field(default_factory=dict)
    batch_sizes: dict[Any, Any] = field(default_factory=dict)
    split_models: dict[Any, Any] = field(default_factory=dict)
    layouts: dict[Any, Layout] = field(default_factory=dict)  # layouts of layers whose output fits several layouts
    warned: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Clear all caches. The record of issued warnings is kept."""
        with self.lock:
            for cache in (self.compiled, self.batch_sizes, self.split_models, self.layouts):
                cache.clear()

    def first_time(self, what: str) -> bool:
        """Return True if this is the first call with this text."""
        with self.lock:
            seen = what in self.warned
            self.warned.add(what)
            return not seen

    def warn_once(self, message: str) -> None:
        """Issue a warning if this message has not been issued yet."""
        if self.first_time(message):
            warnings.warn(message, stacklevel=3)

    def __reduce__(self) -> tuple[type[Caches], tuple[()]]:
        return Caches, ()  # copies and pickles of a network start with empty caches
