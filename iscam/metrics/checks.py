"""Checks of maps, shared by the metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from iscam.errors import InputError

#: Valid dtypes of maps.
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)

#: Largest accepted value of a map in [0, 1]. It exceeds 1 because of rounding errors.
LARGEST = 1.001


def check_map_batch(maps: object, name: str = "maps") -> Tensor:
    """Return `maps` if they are a finite tensor (batch, height, width).

    Raises `InputError` for any other value.
    """
    tensor = check_dense(maps, name)
    if tensor.ndim != 3 or 0 in tensor.shape:
        raise InputError(f"{name} must be (batch, height, width); got {tuple(tensor.shape)}")
    if not tensor.isfinite().all():
        raise InputError(f"{name} contain NaN or infinite values")
    return tensor


def check_dense(maps: object, name: str = "maps") -> Tensor:
    """Return `maps` if they are a dense tensor of real numbers.

    Raises `InputError` for any other value.
    """
    if not isinstance(maps, Tensor):
        hint = "; convert it with torch.from_numpy" if type(maps).__name__ == "ndarray" else ""
        raise InputError(f"{name} must be a tensor (batch, height, width); got {type(maps).__name__}{hint}")
    if maps.is_nested or maps.layout != torch.strided or maps.is_meta or maps.dtype not in DTYPES:
        kind = "nested" if maps.is_nested else "meta" if maps.is_meta else f"{maps.layout} {maps.dtype}"
        raise InputError(f"{name} must be a dense tensor of integers or floats; got a {kind} tensor")
    return maps


def check_unit_range(maps: Tensor, name: str = "maps") -> Tensor:
    """Return `maps` if their values are in [0, 1].

    Raises `InputError` for larger or smaller values.
    """
    low, high = float(maps.min()), float(maps.max())
    if low < 0 or high > LARGEST:
        raise InputError(f"{name} must lie in [0, 1]; got values from {low:.3g} to {high:.3g}")
    return maps
