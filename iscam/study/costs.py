"""Cost of a study in forward passes, and whether compiling its networks pays off."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping

import pandas as pd
import torch

from iscam.engine.scoring import masked_scores
from iscam.methods import CONTROLS, METHODS
from iscam.metrics import Need
from iscam.model import Network
from iscam.study.spec import MethodEntry, Study

#: Forward passes per network and process from which compiling pays off. Compiling takes up to a minute. It saves 5 to
#: 20 % of the 100 to 200 passes per second of two CPU cores, and a quarter to a half of the 5,000 to 20,000 per second
#: of an H200 (data/results/benchmarks-*.json and gpu_h200.parquet: ResNet-18, SqueezeNet 1.0 and VGG-16). Both numbers
#: are the passes at which a compiled and an uncompiled run take about the same time.
COMPILE_FROM = {"cpu": 100_000, "cuda": 2_000_000}

#: Commands of C++ compilers, which `torch.compile` needs.
COMPILERS = ("c++", "g++", "clang++", "cl")


def passes(study: Study, channels: int) -> pd.DataFrame:
    """Forward passes that one image takes: the columns method, map, metrics and total, a row per method of the study.

    `channels` is K. It is an upper bound: constant channels cost no pass. A gradient counts as two more passes. Two or
    three passes per image that all methods share are left out.
    """
    metrics = [call.metric for call in study.metric_calls]
    maps = 1 + any(Need.MAPS_AGAIN in metric.needs for metric in metrics)
    confidences = any(Need.CONFIDENCE in metric.needs for metric in metrics)
    of_metrics = confidences + sum(metric.passes for metric in metrics)
    rows = [
        {"method": name, "map": maps * map_passes(entry, channels), "metrics": of_metrics}
        for name, entry in study.method_entries.items()
    ]
    frame = pd.DataFrame(rows)
    frame["total"] = frame["map"] + frame["metrics"]
    return frame


def map_passes(entry: MethodEntry, channels: int) -> int:
    """Forward passes of one map."""
    if entry.drawn_control:
        return 1
    return {**METHODS, **CONTROLS}[entry.method].passes(channels, entry.options)


def passes_per_network(study: Study, channels: Mapping[str, int], images: int) -> int:
    """The largest number of passes of any network for this number of images; `channels`: model -> K."""
    return max(images * int(passes(study, k)["total"].sum()) for k in channels.values())


def should_compile(passes_of_network: int, workers: int, device: str) -> bool:
    """Return True if the passes of each worker take longer than compiling, and a C++ compiler is installed.

    `device`: "cpu" or "cuda".
    """
    threshold = COMPILE_FROM.get(device, math.inf)
    return passes_of_network / workers >= threshold and has_compiler()


def has_compiler() -> bool:
    commands = [os.environ.get("CXX", ""), *COMPILERS]
    return any(command and shutil.which(command) for command in commands)


def passes_per_second(net: Network, count: int = 4, side: int = 224) -> float:
    """Measured forward passes per second on the network's device, after one run to warm up."""
    images = torch.rand(count, 3, side, side, device=net.device)

    def score() -> torch.Tensor:
        return masked_scores(net, lambda span: (images[span.start : span.stop],), count, 0)

    score()
    started = time.perf_counter()
    score().tolist()  # waits for the GPU
    return count / (time.perf_counter() - started)
