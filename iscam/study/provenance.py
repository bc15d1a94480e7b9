"""Provenance: what made a result, where and when."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def provenance(parameters: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What made a result: parameters, commit, versions, device, seconds, date."""
    packages = ("iscam", "torch", "torchvision", "numpy", "pandas")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "parameters": dict(parameters),
        "commit": commit(),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": device_name(),
        "seconds": round(seconds, 1),
    }


def device_name() -> str:
    """The machine's GPU, or its processor, what it has for bfloat16, and the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    name = known.get("cpu_name", platform.machine())
    half = next((f" with {kind}" for kind in ("amx_bf16", "avx512_bf16") if known.get(kind)), "")
    return f"{name} CPU{half}, threads: {torch.get_num_threads()}"


def commit() -> str | None:
    """The checkout's commit, None in an installed package."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
