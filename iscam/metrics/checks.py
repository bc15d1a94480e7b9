"""Checks of maps, shared by the metrics."""

from __future__ import annotations

from torch import Tensor

from iscam.errors import InputError

#: Largest value of a map in [0, 1], rounding included.
LARGEST = 1.001


def check_map_batch(maps: object, name: str = "maps") -> Tensor:
    """Return finite maps (batch, height, width).

    Raises `InputError` for anything else.
    """
    if not isinstance(maps, Tensor):
        hint = "; convert it with torch.from_numpy" if type(maps).__name__ == "ndarray" else ""
        raise InputError(f"{name} must be a tensor (batch, height, width); got {type(maps).__name__}{hint}")
    if maps.ndim != 3 or 0 in maps.shape:
        raise InputError(f"{name} must be (batch, height, width); got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise InputError(f"{name} contain NaN or infinite values")
    return maps


def check_unit_range(maps: Tensor, name: str = "maps") -> Tensor:
    """Return maps with values in [0, 1].

    Raises `InputError` for larger or smaller values.
    """
    low, high = float(maps.min()), float(maps.max())
    if low < 0 or high > LARGEST:
        raise InputError(f"{name} must lie in [0, 1]; got values from {low:.3g} to {high:.3g}")
    return maps
