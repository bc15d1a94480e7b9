"""Checks of arguments: each returns the valid value or raises `InputError` with one line."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real

import torch
from torch import Tensor

from iscam.errors import InputError


def unknown_choice(what: str, given: object, valid: Iterable[object]) -> InputError:
    """The error for a name that is not among the valid ones, which it lists."""
    return InputError(f"unknown {what} {given!r}; the valid ones are: {', '.join(map(str, valid))}")


def check_int(name: str, value: object, minimum: int = 1) -> int:
    """`value` as a whole number of at least `minimum`, else `InputError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, not {value!r}")
    return int(value)


def check_non_negative(name: str, value: object) -> float:
    """`value` as a finite number of at least 0, else `InputError`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
        raise InputError(f"{name} must be a number of at least 0, not {value!r}")
    return float(value)


def check_targets(targets: Tensor, images: int) -> list[int]:
    """One class an image, else `InputError`."""
    try:
        targets = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"targets must be {images} whole numbers, one an image, or None; got {targets!r}") from error
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != (images,):
        raise InputError(
            f"targets must be {images} whole numbers, one an image, or None; "
            f"got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    return [int(target) for target in targets]


def check_probabilities(*probabilities: Tensor) -> None:
    """Nothing where these are probabilities of the same images, in [0, 1] but for rounding, else `InputError`."""
    if not all(isinstance(each, Tensor) for each in probabilities) or len({each.shape for each in probabilities}) > 1:
        found = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in probabilities)
        raise InputError(f"class probabilities must be tensors (batch,) of the same images; got {found}")
    if not all(((each >= 0) & (each < 1.001)).all() for each in probabilities):  # false for NaN, too
        raise InputError("class probabilities must be from 0 to 1: they are what confidence returns, not logits")


def check_maps(images: Tensor, maps: Tensor) -> Tensor:
    """Maps (batch, height, width) that fit the images, else `InputError`."""
    expected = (len(images), *images.shape[2:])
    if not isinstance(maps, Tensor) or maps.shape != expected:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"maps must be (batch, height, width) = {expected} like the images; got {found}")
    if not maps.isfinite().all():
        raise InputError("the maps hold NaN or infinite values")
    return maps.to(images)
