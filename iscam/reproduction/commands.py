"""Command lines that reproduce a result and that readers can copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def papermill_command(notebook: str, **parameters: Any) -> str:
    """Return the command that runs a notebook with these parameters. Empty strings, which are defaults, are left out.

    >>> papermill_command("confidence", models=["vgg16"], count=2)
    "papermill notebooks/confidence.ipynb confidence.ipynb -y '{models: [vgg16], count: 2}'"
    """
    shown = {name: value for name, value in parameters.items() if value != ""}
    values = yaml.safe_dump(shown, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return shlex.join(["papermill", f"notebooks/{notebook}.ipynb", f"{notebook}.ipynb", "-y", values])


def script_command(script: str, options: Mapping[str, Any]) -> str:
    """Return the command that runs a script with these options, without local paths and without default values.

    >>> script_command("benchmarks/speed.py", {"model": "resnet18", "weights": "none", "data": "menagerie"})
    'python benchmarks/speed.py --model resnet18 --weights none'
    >>> script_command("benchmarks/nodes.py", {"weights": "/home/me/w.safetensors", "data": "/home/me/ilsvrc"})
    'python benchmarks/nodes.py --weights w.safetensors --data ILSVRC_FOLDER'
    """
    shown = {key: value for key, value in options.items() if value not in (None, "default", "menagerie")}
    if "data" in shown:
        shown["data"] = "ILSVRC_FOLDER"
    if "weights" in shown:
        shown["weights"] = Path(shown["weights"]).name
    return shlex.join(["python", script, *(word for key, value in shown.items() for word in (f"--{key}", str(value)))])


def argv_of(run: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a recorded run. Old records contain only the command line."""
    return list(run["argv"]) if "argv" in run else shlex.split(run["command"])


def is_study(run: Mapping[str, Any]) -> bool:
    """Return True if `iscam study` wrote the record."""
    return "images_computed" in run


def study_command(run: Mapping[str, Any]) -> str:
    """Return the command that repeats a recorded study on this machine, without its engine and entry point."""
    return shlex.join(["iscam", *without_options(argv_of(run)[1:], ["--engine", "--address"])])


def without_options(argv: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the arguments without the named options and the values of these options.

    >>> without_options(["study", "a.yaml", "--count", "3", "--seed=1"], ["--count", "--seed"])
    ['study', 'a.yaml']
    """
    names = set(names)
    kept: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument in names:
            next(arguments, None)
        elif argument.partition("=")[0] not in names:
            kept.append(argument)
    return kept
