"""A fingerprint of a model's state, which changes if a weight, an attribute, a hook or the structure changes."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Number of values that are hashed at once, so that the temporary tensors stay small.
CHUNK = 1 << 22

#: Attributes of modules that do not affect the output in evaluation mode.
IGNORED = {"training"}

#: Objects that are added by identity.
BY_IDENTITY = (nn.Module, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def fingerprint(model: nn.Module, values: bool = True) -> str:
    """Return a digest of the model's modules with their attributes, hooks and tensors.

    The digest includes the values of the tensors. With `values=False` it includes only their identity, which is cheaper
    but misses in-place changes.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, module in model.named_modules():
        digest.update(f"{name} {type(module).__qualname__} {id(type(module))}".encode())
        attributes = {key: value for key, value in vars(module).items() if key not in IGNORED}
        add(digest, attributes, values, {id(module)})
    return digest.hexdigest()


def add(digest: Any, value: object, values: bool, seen: set[int]) -> None:
    """Add any object to the digest.

    Containers and objects, also callable ones, are added by their contents. Functions, classes and callables of torch
    are added by identity, and so are modules, because `fingerprint` visits each module by its name.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    elif isinstance(value, Tensor):
        digest.update(f"{id(value)} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update((hash_values(value) if values else str(value.data_ptr())).encode())
    elif isinstance(value, BY_IDENTITY) or (callable(value) and type(value).__module__.startswith("torch.")):
        digest.update(f"{id(value)};".encode())
    elif id(value) in seen:
        return
    elif isinstance(value, Mapping):
        seen.add(id(value))
        for key, item in value.items():
            digest.update(f"{key!r}:".encode())
            add(digest, item, values, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        seen.add(id(value))
        digest.update(f"{type(value).__name__} {len(value)}".encode())
        for item in value:
            add(digest, item, values, seen)
    else:
        seen.add(id(value))
        digest.update(f"{type(value).__qualname__} {id(value)}".encode())
        add(digest, getattr(value, "__dict__", {}), values, seen)
        for name in slots(type(value)):
            add(digest, getattr(value, name, None), values, seen)


def slots(kind: type) -> list[str]:
    """Return the names of the attributes in `__slots__`, which are not in `__dict__`.

    They include the function, the arguments and the object of `functools.partial` and of bound methods.
    """
    return [
        name
        for base in kind.__mro__
        for name, item in vars(base).items()
        if isinstance(item, types.MemberDescriptorType)
    ]


def state_digest(model: nn.Module) -> str:
    """Return a digest of the values of the model's parameters and buffers. It is the same in every process."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        values = hash_values(tensor.detach().cpu().to_dense())
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {values}".encode())
    return digest.hexdigest()


def hash_values(tensor: Tensor) -> str:
    """Return a digest of the tensor's bits."""
    flat = tensor.detach().contiguous().flatten()
    if flat.numel() == 0 or flat.is_meta:
        return ""
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten()
    if flat.device.type == "cpu":
        return hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).hexdigest()
    return hash_on_device(flat)


def hash_on_device(flat: Tensor) -> str:
    """Return a position-dependent hash of a tensor's bits, computed on its device, because copies to the CPU are slow.

    Each 32-bit word is multiplied by an odd weight, which is a hash of the word's position. The products are summed
    modulo 2^64. The sum changes if one value changes or if two unequal values are exchanged.
    """
    words = flat.view(torch.uint8) if flat.element_size() % 4 else flat.view(torch.int32)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, len(words), CHUNK):
        part = words[start : start + CHUNK].to(torch.int64)
        position = torch.arange(start, start + len(part), device=part.device)
        mixed = (position + 1) * -7046029254386353131
        weight = (mixed ^ (mixed >> 29)) * -4658895280553007687 | 1
        total += (part * weight).sum()
    return f"{int(total) % (1 << 64):x}"
