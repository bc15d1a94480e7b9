"""The layout of the package: which module may import which, where hooks are allowed, how long a module may be."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from helpers.repository import ROOT

PACKAGE = ROOT / "iscam"

#: The layers of the package. A module imports only from its own entry and from the entries before it.
#: A package is one entry, except for a script in it that stands later; `__init__` has the public names.
LAYERS = (
    "errors",
    "validation",
    "rng",
    "maps",
    "layouts",
    "outputs",
    "caches",
    "capture",
    "probe",
    "transforms",
    "model",
    "record",
    "download",
    "menagerie",
    "weights",
    "zoo",
    "engine",
    "methods",
    "plots",
    "explanation",
    "image_files",
    "ilsvrc",
    "data",
    "metrics",
    "interop",
    "study",
    "cli",
    "__init__",
    "__main__",
    "reproduction",
    "menagerie.train",
)

#: The largest number of lines of a module. Drawings are lists of coordinates, which a limit would only scatter.
MOST_LINES = 320
DRAWINGS = ("dogs", "fourlegged", "monkeys")


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of the package that a module imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = names & MODULES.keys()
            found |= modules
            found |= {node.module} if names - modules else set()
    return frozenset((found & MODULES.keys()) - {module})


def layer(module: str) -> int:
    """The place of a module in `LAYERS`. Raises ValueError if it has none."""
    inside = module.removeprefix("iscam").removeprefix(".") or "__init__"
    return LAYERS.index(inside if inside in LAYERS else inside.split(".")[0])


def cycles(graph: dict[str, frozenset[str]]) -> set[str]:
    """The modules on a cycle or above one: those left after modules without imports are removed repeatedly."""
    left = dict(graph)
    while removed := {module for module, imports in left.items() if not imports & left.keys()}:
        left = {module: imports for module, imports in left.items() if module not in removed}
    return set(left)


def test_imports_have_no_cycle():
    assert cycles({module: imported(module) for module in MODULES}) == set()


def test_cycles_finds_a_cycle():
    ring = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")}
    assert cycles(ring) == {"a", "b", "c"}
    assert cycles({"a": frozenset("b"), "b": frozenset()}) == set()


@pytest.mark.parametrize("module", MODULES)
def test_module_is_in_a_layer(module):
    assert 0 <= layer(module) < len(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_earlier_layers(module):
    wrong = {other for other in imported(module) if layer(other) > layer(module)}
    assert not wrong


@pytest.mark.parametrize("module", MODULES)
def test_library_does_not_import_the_reproduction(module):
    inside = module.startswith("iscam.reproduction")
    assert inside or not {name for name in imported(module) if name.startswith("iscam.reproduction")}


@pytest.mark.parametrize("module", MODULES)
def test_hooks_are_registered_in_capture_only(module):
    names = {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    hooks = {name for name in names if name.startswith("register_") and name.endswith("hook")}
    assert module == "iscam.capture" or not hooks


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module):
    file = MODULES[module]
    drawing = file.parent.name == "menagerie" and file.stem in DRAWINGS
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert drawing or lines <= MOST_LINES


def test_wheel_lists_every_package():
    """The list cannot be found automatically, because `iscam._data` is the folder `data` of the checkout."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == {name_of(file) for file in PACKAGE.rglob("__init__.py")} | {"iscam._data"}


def test_contributing_lists_every_module_in_order() -> None:
    table = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Find your way")[2].partition("\n## ")[0]
    )
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = [re.sub(r"\.py$|/$", "", name) for cell in cells for name in re.findall(r"`(.+?)`", cell)]
    assert listed == [name for name in LAYERS if not name.startswith("__") and "." not in name]
