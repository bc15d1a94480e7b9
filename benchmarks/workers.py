"""Run the measurements of a benchmark in separate processes, and return their seconds, memory and results.

A measurement is called a line, because it is one line of the table of results. Each process keeps its lines and runs
them on request. The first run of a line is not timed: it compiles the code that the line needs, and its memory is
measured. A process that has waited is slow at first, so it is woken by a run that is not counted.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from tqdm import tqdm

#: A line: the function that runs it, its number of passes, its task and precision, and more values for its record.
Line = dict[str, Any]

#: A function that makes the lines of a process from a setting.
Make = Callable[[Any], dict[str, Line]]

#: The lines of this process, if it is a worker.
LINES: dict[str, Line] = {}


def line(run: Callable[[], Tensor], passes: int, task: str, precision: str = "fp32", **more: Any) -> Line:
    return {"run": run, "passes": passes, "task": task, "precision": precision} | more


def worker(make: Make, setting: Any) -> ProcessPoolExecutor:
    """A process that holds the lines of `make(setting)`."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=prepare, initargs=(make, setting))


def prepare(make: Make, setting: Any) -> None:
    torch._dynamo.config.recompile_limit = 64  # one per batch size; beyond the limit, torch runs uncompiled
    LINES.update(make(setting))


def descriptions() -> dict[str, Line]:
    """The lines of this worker, without the functions that run them."""
    return {name: {key: value for key, value in entry.items() if key != "run"} for name, entry in LINES.items()}


def first_run(name: str) -> float:
    """Run a line for the first time. Returns the megabytes that it took in addition to those that the process held."""
    gc.collect()
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # memory kept from earlier lines would hide the memory of this line
    with Peak() as peak:
        LINES[name]["run"]()
    return peak.megabytes


def timed_run(name: str) -> tuple[float, np.ndarray]:
    """Run a line and return its seconds and its result."""
    gc.collect()
    synchronise()
    started = time.perf_counter()
    found = LINES[name]["run"]()
    synchronise()
    return time.perf_counter() - started, found.float().cpu().numpy()


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Peak:
    """The largest memory during a `with` block, in megabytes above the memory in use before."""

    def __init__(self) -> None:
        self.cuda = torch.cuda.is_available()
        self.megabytes = 0.0

    def used(self) -> float:
        return float(torch.cuda.memory_allocated() if self.cuda else psutil.Process().memory_info().rss)

    def __enter__(self) -> Peak:
        self.before, self.most, self.over = self.used(), 0.0, threading.Event()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def watch(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, self.used())

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.watcher.join()
        most = torch.cuda.max_memory_allocated() if self.cuda else self.most
        self.megabytes = max(0.0, most - self.before) / 1e6


def run_in_turns(pools: Mapping[str, ProcessPoolExecutor], repeats: int) -> dict[str, Line]:
    """Run the lines of all workers in turns. Returns their descriptions with seconds, megabytes and result."""
    lines = {
        name: entry | {"pool": pool, "seconds": []}
        for pool in pools.values()
        for name, entry in pool.submit(descriptions).result().items()
    }
    bar = tqdm(total=len(lines) * (1 + repeats), desc="runs", disable=None)
    for name, entry in lines.items():
        entry["megabytes"] = entry["pool"].submit(first_run, name).result()
        bar.update()
    awake = None
    for _ in range(repeats):
        for name, entry in lines.items():
            if entry["pool"] is not awake:
                awake = entry["pool"]
                awake.submit(timed_run, name).result()
            seconds, result = entry["pool"].submit(timed_run, name).result()
            entry["seconds"].append(seconds)
            entry["result"] = torch.from_numpy(result)
            bar.update()
    return {name: {key: value for key, value in entry.items() if key != "pool"} for name, entry in lines.items()}
