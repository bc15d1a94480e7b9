"""Settings of the test run, and fixtures: devices, networks, and a separate cache for every test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import hypothesis
import matplotlib as mpl
import pytest
import torch

pytest.register_assert_rewrite("helpers")

from helpers import networks  # noqa: E402

mpl.use("Agg")
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")
torch.set_num_threads(1)  # the networks are small: several threads only wait for each other

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)


@pytest.fixture
def strict_float32(monkeypatch):
    """Use full float32 convolutions on a GPU. TensorFloat-32 is too coarse to agree with the reference."""
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", False)


@pytest.fixture(params=["cpu", CUDA])
def device(request, strict_float32):
    return request.param


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Give every test an empty cache and no network."""
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path_factory.mktemp("cache")))

    def refuse(url, *args, **kwargs):
        raise ConnectionError(f"a test asked for {url}")

    monkeypatch.setattr("pooch.retrieve", refuse)


@pytest.fixture(name="bias_free_case")
def _bias_free_case() -> networks.Case:
    return networks.bias_free_case()


@pytest.fixture(name="pooled_case")
def _pooled_case() -> networks.Case:
    return networks.pooled_case()


@pytest.fixture
def peak_memory() -> Callable[..., float]:
    """A function that runs a Python script with arguments and returns its peak memory in MB.

    On Linux, `ru_maxrss` includes the memory of the process that started the script, so the kernel's file is read.
    """
    pytest.importorskip("resource")
    last = """
import pathlib, re, resource
status = pathlib.Path("/proc/self/status")
peak = re.search(r"VmHWM:\\s*(\\d+)", status.read_text()) if status.exists() else None
print(peak[1] if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(script: str, *arguments: object) -> float:
        command = [sys.executable, "-c", f"{script}\n{last}", *map(str, arguments)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(found.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 2**20

    return peak
