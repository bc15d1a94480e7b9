"""Weight files: reading them without running code, and strict loading into a model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from iscam.errors import InputError

#: Types that a file may store for a floating point weight.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: Prefixes that wrappers put in front of the keys of a state_dict.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.")


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Read a `.safetensors` or `.pth` file in the layout of `model.state_dict()` into the model.

    Raises InputError, and leaves the model unchanged, if the file is missing, corrupt, or holds other weights. `name`
    is the model's name in the message.
    """
    state = read_state(path)
    expected = model.state_dict()
    # torchvision's ResNet files have no counts of batches.
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
    """The dictionary in a weights file. Raises InputError if there is none."""
    if not path.is_file():
        raise InputError(f"no weights file {path}; give a .safetensors or .pth file, or None for random weights")
    try:
        state = safetensors.torch.load_file(path) if is_safetensors(path) else read_pth(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"cannot read the weights file {path}: it is corrupt, or holds a whole model, which is not read because "
            f"that runs code; save model.state_dict()"
        ) from error
    except Exception as error:  # each format has its own errors for a corrupt file
        raise InputError(f"cannot read the weights file {path}: {first_line(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        kind = type(state).__name__ + (" with keys that are not names" if isinstance(state, Mapping) else "")
        raise InputError(f"{path} holds a {kind}, not weights; save model.state_dict()")
    return dict(state)


def is_safetensors(path: Path) -> bool:
    """Return True for the format of safetensors: the length of a JSON header in 8 bytes, then the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_pth(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def shape_of(value: Any) -> Any:
    """The shape of a tensor, or the type of anything else."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def hint(state: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Where the weights may be instead: in an entry of a checkpoint, or under keys with a prefix."""
    if entries := sorted(key for key in state.keys() - expected.keys() if isinstance(state[key], dict)):
        return f"; if they are inside its entry {' or '.join(entries)}, save that alone"
    for prefix in WRAPPERS:
        if {key.removeprefix(prefix) for key in state if key.startswith(prefix)} & expected.keys():
            return f"; remove the prefix {prefix!r} from the file's keys"
        if {prefix + key for key in state} & expected.keys():
            return f"; add the prefix {prefix!r} to the file's keys"
    return ""


def check_tensor(path: Path, key: str, value: Tensor, expected: Tensor) -> None:
    """Raise InputError unless the tensor stores values that the model's tensor can take."""
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
