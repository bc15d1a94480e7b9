"""Argument checks. Each check returns the valid value or raises an `InputError` with a one-line message."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iscam.errors import InputError


def printable(path: str | Path) -> str:
    """Return a path for a one-line message.

    Control characters are escaped, and the middle of a very long path is left out.
    """
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(path))
    return text if len(text) <= 300 else f"{text[:100]}...{text[-100:]}"


def file_exists(path: Path) -> bool:
    """Return True if the path is a file.

    Raises `InputError` if the path cannot be read, for example without permission.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror or error}") from error


def unknown_choice(what: str, given: object, valid: Iterable[object]) -> InputError:
    """Return the error for a value that is not among the valid values. The plural of `what` must end in s.

    >>> unknown_choice("method", "score", ["cam", "grad_cam"])
    InputError("unknown method 'score'; valid methods: cam, grad_cam")
    """
    what = what.rstrip(":")
    plural = what.replace(" of ", "s of ", 1) if " of " in what else f"{what}s"
    return InputError(f"unknown {what} {given!r}; valid {plural}: {', '.join(map(str, valid))}")


def check_choice(what: str, value: Any, valid: Iterable[object]) -> Any:
    """Return `value` if it is one of `valid`. The types must also match: True is not accepted for 1.

    Raises `InputError` for any other value.
    """
    choices = list(valid)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InputError(f"{what} must be one of {', '.join(map(str, choices))}, not {value!r}")
    return value


def check_int(name: str, value: object, minimum: int = 1, maximum: float = math.inf) -> int:
    """Return `value` as an int from `minimum` to `maximum`.

    Raises `InputError` for any other value.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not minimum <= int(value) <= maximum:
        valid = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum:,}"
        raise InputError(f"{name} must be an integer {valid}, not {value!r}")
    return int(value)


def check_non_negative(name: str, value: object) -> float:
    """Return `value` as a finite float of at least 0.

    Raises `InputError` for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise InputError(f"{name} must be a number of at least 0, not {value!r}")
    return float(value)


def check_share(name: str, value: object) -> float:
    """Return `value` as a float in (0, 1].

    Raises `InputError` for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= 1:
        raise InputError(f"{name} must be a number above 0 and at most 1, not {value!r}")
    return float(value)


def check_targets(targets: Any, count: int) -> list[int]:
    """Return one class per image. An int is the class of all images.

    Raises `InputError` for any other value.
    """
    expected = f"targets must be None, an int, or {count} integers, one per image"
    if isinstance(targets, bool):
        raise InputError(f"{expected}; got {targets!r}")
    if isinstance(targets, int):
        return [targets] * count
    try:
        values = targets if isinstance(targets, Tensor) else torch.as_tensor(targets, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{expected}; got {str(targets)[:100]}") from error
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool or values.shape != (count,):
        raise InputError(f"{expected}; got {values.dtype} of shape {tuple(values.shape)}")
    return [int(value) for value in values]


def check_probabilities(*probabilities: Tensor) -> None:
    """Raise `InputError` unless all tensors have the same shape and values in [0, 1]."""
    if not all(isinstance(each, Tensor) for each in probabilities) or len({each.shape for each in probabilities}) > 1:
        found = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in probabilities)
        raise InputError(f"class probabilities must be tensors (batch,) of the same images; got {found}")
    if not all(((each >= 0) & (each < 1.001)).all() for each in probabilities):  # also rejects NaN
        raise InputError("class probabilities must lie in [0, 1]; pass the output of iscam.confidence, not logits")


def check_maps(images: Tensor, maps: Any) -> Tensor:
    """Return the maps in the dtype and on the device of the images.

    Raises `InputError` unless they are finite and have the shape (batch, height, width) of the images.
    """
    expected = (len(images), *images.shape[2:])
    if not isinstance(maps, Tensor) or maps.shape != expected:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"maps must be (batch, height, width) = {expected} like the images; got {found}")
    if not maps.isfinite().all():
        raise InputError("the maps contain NaN or infinite values")
    return maps.to(images)
