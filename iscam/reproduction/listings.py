"""Listings of the package's code for pages that show code beside equations."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def listing(function: Callable[..., Any]) -> str:
    """Return the source of a function or method without the docstring.

    >>> print(listing(iscam.maps.to_float64))
    def to_float64(x: Tensor) -> Tensor:
    ...
    """
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    (definition,) = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.FunctionDef)
    first = definition.body[0]
    if ast.get_docstring(definition) and first.end_lineno:
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)
