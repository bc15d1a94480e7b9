"""The cost of a study in forward passes, and the decision whether compiling the networks pays off."""

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
from iscam.metrics.registry import HALF
from iscam.model import Network
from iscam.study.spec import MethodEntry, Study

#: Minimum number of forward passes per network and process for which compiling pays off. Compiling takes up to a
#: minute. It saves 5 to 20 % of the time on two CPU cores, which compute 100 to 200 passes per second, and a quarter to
#: a half of the time on an H200, which computes 5,000 to 20,000 (data/results/benchmarks-*.json and gpu_h200.parquet:
#: ResNet-18, SqueezeNet 1.0 and VGG-16). With these numbers of passes, a compiled and an uncompiled run take about the
#: same time.
COMPILE_FROM = {"cpu": 100_000, "cuda": 2_000_000}

#: Number of pixels that is assumed for the passes of a curve.
PIXELS = 224 * 224

#: Commands of C++ compilers. `torch.compile` needs one of them.
COMPILERS = ("c++", "g++", "clang++", "cl")


def passes(study: Study, channels: int, positions: int = 49) -> pd.DataFrame:
    """Count the forward passes that one image takes.

    Returns a frame with one row per method of the study and the columns method, map, metrics and total. `channels` is
    K, and `positions` is h w, which matters only for Recipro-CAM. The numbers are upper bounds, because constant
    channels need no pass. A gradient counts as two additional passes. Two or three passes per image that all methods
    share are not counted.
    """
    calls = study.metric_calls
    metrics = [call.metric for call in calls]
    maps = 1 + any(Need.MAPS_AGAIN in metric.needs for metric in metrics)
    masks = {call.argument == HALF for call in calls if Need.CONFIDENCE in call.metric.needs}
    points = 1 + math.ceil(PIXELS / study.pixels_per_step)
    of_metrics = len(masks) + sum(points if metric.curve else metric.passes for metric in metrics)
    rows = [
        {"method": name, "map": maps * map_passes(entry, channels, positions), "metrics": of_metrics}
        for name, entry in study.method_entries.items()
    ]
    frame = pd.DataFrame(rows)
    frame["total"] = frame["map"] + frame["metrics"]
    return frame


def map_passes(entry: MethodEntry, channels: int, positions: int) -> int:
    """Return the number of forward passes of one map."""
    if entry.drawn_control:
        return 1
    return {**METHODS, **CONTROLS}[entry.method].cost(channels, positions, entry.options)


def passes_per_network(study: Study, channels: Mapping[str, int], images: int) -> int:
    """Return the largest number of passes of any network for `images` images. `channels` maps each model to K."""
    return max(images * int(passes(study, k)["total"].sum()) for k in channels.values())


def should_compile(passes_of_network: int, workers: int, device: str) -> bool:
    """Return True if compiling pays off for the passes of each worker and a C++ compiler is installed.

    `device` is "cpu" or "cuda".
    """
    threshold = COMPILE_FROM.get(device, math.inf)
    return passes_of_network / workers >= threshold and has_compiler()


def has_compiler() -> bool:
    commands = [os.environ.get("CXX", ""), *COMPILERS]
    return any(command and shutil.which(command) for command in commands)


def passes_per_second(net: Network, count: int = 4, side: int = 224) -> float:
    """Measure the forward passes per second on the network's device, after one warm-up run."""
    images = torch.rand(count, 3, side, side, device=net.device)

    def score() -> torch.Tensor:
        return masked_scores(net, lambda span: (images[span.start : span.stop],), count, 0)

    score()
    started = time.perf_counter()
    score().tolist()  # waits for the GPU
    return count / (time.perf_counter() - started)
