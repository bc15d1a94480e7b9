"""The provenance of a result: the command, code, versions, device and time of the run that computed it."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("iscam", "torch", "torchvision", "numpy", "pandas")


def provenance(parameters: Mapping[str, Any], seconds: float, command: str = "") -> dict[str, Any]:
    """Describe a run as a dictionary that can be written as JSON.

    `command` repeats the run. The default is the command of the current process.
    """
    argv = shlex.split(command) or [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": argv,
        "command": shown_command(argv),
        "parameters": dict(parameters),
        "commit": commit(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": device_name(),
        "seconds": round(seconds, 1),
    }


def shown_command(argv: Sequence[str]) -> str:
    """Return the command line for display, with quotes around arguments for which a shell needs them.

    >>> shown_command(["iscam", "study", "my study.yaml"])
    "iscam study 'my study.yaml'"
    """
    return shlex.join(argv)


def device_name() -> str:
    """Return the name of the GPU, or the name of the CPU with its bfloat16 instructions and the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch
    name = capabilities.get("cpu_name", platform.machine())
    half = next((f" with {kind}" for kind in ("amx_bf16", "avx512_bf16") if capabilities.get(kind)), "")
    return f"{name} CPU{half}, threads: {torch.get_num_threads()}"


def commit() -> str | None:
    """Return the commit of the checkout, with "-dirty" if files have changed, or None for an installed package."""
    file = Path(__file__)
    try:
        git(file.parent, "ls-files", "--error-unmatch", file.name)  # the checkout may belong to another project
        return git(file.parent, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
