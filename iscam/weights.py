"""Weights files: functions that read them without running code and load them strictly into a model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from iscam.errors import InputError
from iscam.validation import file_exists, printable

#: Dtypes in which a file may store a floating point weight.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: Prefixes that wrappers put in front of the keys of a state_dict.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.")


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a `.safetensors` or `.pth` file with the keys of `model.state_dict()` into the model.

    Raises InputError if the file is missing, corrupt, or holds other weights. The model then stays unchanged. `name` is
    the name of the model in the message.
    """
    state = read_state(path)
    expected = model.state_dict()
    # torchvision's ResNet files do not contain `num_batches_tracked`.
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = expected.keys() - state.keys() - optional
    unknown = state.keys() - expected.keys()
    reshaped = {key for key in expected.keys() & state.keys() if shape_of(state[key]) != tuple(expected[key].shape)}
    if wrong := sorted(missing | unknown | reshaped):
        first = wrong[0]
        found = shape_of(state[first]) if first in state else "missing"
        wanted = tuple(expected[first].shape) if first in expected else "unknown"
        raise InputError(
            f"{path} does not hold weights of {name}: of its {len(expected)} tensors {len(missing)} are missing and "
            f"{len(reshaped)} have another shape, and {len(unknown)} keys of the file are unknown; first {first} "
            f"(in the file: {found}, in the model: {wanted}){hint(state, expected)}"
        )
    for key, value in state.items():
        check_tensor(path, key, value, expected[key])
    model.load_state_dict({**expected, **state})


def read_state(path: Path) -> dict[str, Any]:
    """Return the dictionary in a weights file.

    Raises InputError if the file contains no dictionary of weights.
    """
    if not file_exists(path):
        raise InputError(
            f"no weights file {printable(path)}; pass a .safetensors or .pth file, or None for random weights"
        )
    try:
        state = safetensors.torch.load_file(path) if is_safetensors(path) else read_pth(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"cannot read the weights file {path}: it is corrupt, or it holds a whole model, which would run code when "
            f"it is loaded; save model.state_dict()"
        ) from error
    except Exception as error:  # the formats raise different exceptions for a corrupt file
        raise InputError(f"cannot read the weights file {path}: {first_line(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        kind = type(state).__name__ + (" with keys that are not names" if isinstance(state, Mapping) else "")
        raise InputError(f"{path} holds a {kind}, not weights; save model.state_dict()")
    return dict(state)


def is_safetensors(path: Path) -> bool:
    """Return True for a safetensors file. It starts with the length of a JSON header in 8 bytes, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_pth(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def shape_of(value: Any) -> Any:
    """Return the shape of a tensor, or the name of the type of any other value."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def hint(state: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return a hint on where the weights may be: in an entry of a checkpoint, or under keys with a prefix."""
    if entries := sorted(key for key in state.keys() - expected.keys() if isinstance(state[key], dict)):
        return f"; if the weights are in its entry {' or '.join(entries)}, save only that entry"
    for prefix in WRAPPERS:
        if {key.removeprefix(prefix) for key in state if key.startswith(prefix)} & expected.keys():
            return f"; remove the prefix {prefix!r} from the file's keys"
        if {prefix + key for key in state} & expected.keys():
            return f"; add the prefix {prefix!r} to the file's keys"
    return ""


def check_tensor(path: Path, key: str, value: Tensor, expected: Tensor) -> None:
    """Raise InputError unless the values of the tensor can be loaded into the model's tensor `expected`."""
    if value.layout != torch.strided or value.is_meta or value.is_nested:
        kind = "meta" if value.is_meta else "nested" if value.is_nested else value.layout
        raise InputError(f"{path}: {key} is a {kind} tensor; save dense tensors with values")
    floats = expected.is_floating_point()
    same = value.dtype in FLOATS if floats else value.dtype == expected.dtype
    if not same:
        wanted = "a floating point type" if floats else expected.dtype
        raise InputError(f"{path}: {key} has type {value.dtype}, but the model needs {wanted}")
    if floats and not value.isfinite().all():
        raise InputError(f"{path}: {key} has NaN or infinite values")
