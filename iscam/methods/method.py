"""`Method`: the description of a saliency method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from iscam.errors import InputError
from iscam.methods.options import NoOptions
from iscam.record import ForwardRecord
from iscam.validation import unknown_choice


@dataclass(frozen=True)
class Method:
    """A saliency method: a function with its options and its description for readers.

    - `function` takes a `ForwardRecord` and an instance of `options`. It returns weights, (K,) per channel or (K, h, w)
      per channel and position. With `kind="map"` it returns the map itself, (height, width) in [0, 1]. `explain`
      applies no ReLU and no scaling to it, so the method decides whether evidence against the class counts.
    - `title` is the method's name for readers. `summary` is one line on the origin of the weights or the map.
    - `options` is a frozen dataclass. Its fields are the valid options, and its constructor checks their values.
    - `passes` returns the number of forward passes of one map, given the number of channels K and the options. A
      backward pass counts as two forward passes, and a pass through a part of the network counts as one.
    - With `cost_of="position"`, `passes` takes the number of positions h w of the layer in place of K.
    - `in_batches`: True if the function needs only the record and its gradient. `explain` then runs whole batches.

    A method that is called with keyword options is applied to a record: `METHODS["is_cam"](record, steps=10)`.
    """

    function: Callable[[ForwardRecord, Any], Tensor]
    title: str
    summary: str
    passes: Callable[[int, Any], int]
    options: type = NoOptions
    kind: Literal["weights", "map"] = "weights"
    cost_of: Literal["channel", "position"] = "channel"
    in_batches: bool = False

    @property
    def option_names(self) -> list[str]:
        """Names of the valid options."""
        return [field.name for field in dataclasses.fields(self.options)]

    def parse(self, options: Mapping[str, Any], name: str = "") -> Any:
        """Return an instance of `self.options`. `name` is the method's name in error messages.

        Raises `InputError` for an invalid value or an unknown option. For an unknown option, the message lists the
        valid options.
        """
        for option in options:
            if option not in self.option_names:
                raise unknown_choice(f"option of {name or self.title}", option, self.option_names or ["none"])
        return self.options(**options)

    def cost(self, channels: int, positions: int, options: Any) -> int:
        """Return the number of forward passes of one map of a layer with K `channels` and h w `positions`."""
        return self.passes(channels if self.cost_of == "channel" else positions, options)

    def __call__(self, record: ForwardRecord, **options: Any) -> Tensor:
        return self.function(record, self.parse(options))


def own_method(function: Callable[..., Tensor]) -> Method:
    """Wrap a user's function `ForwardRecord -> weights` as a method without options."""
    name = getattr(function, "__name__", type(function).__name__)
    return Method(lambda record, _: function(record), name, f"weights of {name}", passes=lambda channels, _: 1)


def find_method(name: object, methods: Mapping[str, Method]) -> Method:
    """Return the method of that name, or a user's function wrapped as a method.

    Raises an `InputError` that lists the valid names.
    """
    if isinstance(name, Method):
        return name
    if callable(name):
        return own_method(name)
    if not isinstance(name, str):
        raise InputError(
            f"method must be a name or a function ForwardRecord -> weights, not {type(name).__name__}; valid names: "
            f"{', '.join(methods)}"
        )
    if name not in methods:
        raise unknown_choice("method", name, methods)
    if not isinstance(methods[name], Method):
        raise InputError(f"METHODS[{name!r}] must be an iscam.Method, not {type(methods[name]).__name__}")
    return methods[name]
