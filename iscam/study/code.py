"""Digests of the code of functions, classes and networks. They reveal changes of a user's code."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType

from torch import nn

#: Folders of code that is not the user's: Python, the installed packages and this package.
INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
INSTALLED.append(Path(__file__).resolve().parents[1])

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def code_digest(*values: object) -> str:
    """Return a digest of the code and the constants that functions, classes and objects use.

    The digest follows functions and classes into the user's modules that are loaded, but not into installed packages.
    It depends on the code in memory, so an edited file counts only after it has been imported again. It is equal in
    every process of the same version of Python.
    """
    digest = hashlib.sha256()
    for part in code_parts(values, {}):
        digest.update(f"{part}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def code_parts(value: object, seen: dict[int, int]) -> Iterator[str]:
    """Yield the strings that make up the code of a value. `seen` numbers the objects by their id."""
    if isinstance(value, PLAIN):
        yield repr(value)
    elif isinstance(value, frozenset):
        yield repr(sorted(map(repr, value)))
    elif isinstance(value, tuple):
        yield f"tuple {len(value)}"
        for each in value:
            yield from code_parts(each, seen)
    elif isinstance(value, CodeType):
        yield f"{value.co_code.hex()} {value.co_names}"
        yield from code_parts(value.co_consts, seen)
    elif id(value) in seen:
        yield f"object {seen[id(value)]}"
    else:
        seen[id(value)] = len(seen)
        for each in referred(value):
            yield from code_parts(each, seen)


def referred(value: object) -> Iterator[object]:
    """Yield the values that determine what a function, a class or another object computes."""
    if isinstance(value, FunctionType):
        yield from used_by(value)
    elif isinstance(value, type):
        if is_of_the_user(value.__module__):
            yield value.__bases__
            yield from (each for name, each in vars(value).items() if callable(each) or not name.startswith("__"))
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, *value.keywords.values())
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, property):
        yield value.fget
    elif isinstance(value, nn.Module):
        yield from (type(module) for module in value.modules())
    else:
        yield type(value)
        if dataclasses.is_dataclass(value):
            yield from (getattr(value, each.name) for each in dataclasses.fields(value))


def used_by(function: FunctionType) -> Iterator[object]:
    """Yield the variables and the default values of a function, and for a user's function its code and globals."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if is_filled(cell))
    yield function.__defaults__
    yield from (function.__kwdefaults__ or {}).values()
    if is_of_the_user(function.__module__):
        yield function.__code__
        yield from global_values(function)


def global_values(function: FunctionType) -> Iterator[object]:
    """Yield the global variables that a function uses, and those of the user's modules that it uses."""
    names = names_in(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        if not isinstance(value, ModuleType):
            yield value
        elif is_of_the_user(value.__name__):
            yield from (vars(value).get(each) for each in names)


def names_in(code: CodeType) -> list[str]:
    """Return the names of variables and attributes in a function and in the functions that it defines."""
    nested = [names_in(each) for each in code.co_consts if isinstance(each, CodeType)]
    return [*code.co_names, *(name for names in nested for name in names)]


def is_filled(cell: object) -> bool:
    """Return False for a variable of an outer function that has no value yet."""
    return hasattr(cell, "cell_contents")


def is_of_the_user(module: str | None) -> bool:
    """Return True for the name of a module that is neither built in nor in the folder of an installed package."""
    if module in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is None or not any(Path(file).resolve().is_relative_to(folder) for folder in INSTALLED)
