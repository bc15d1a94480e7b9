"""The cost of a study in forward passes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch

from iscam.engine.scoring import masked_scores
from iscam.methods import METHODS
from iscam.metrics import needs
from iscam.model import Network
from iscam.study.spec import Study

#: Points of an insertion or deletion curve: 224x224 pixels, 224 a step, both ends.
POINTS = 225


#: Passes that a gradient costs: one forward, and one backward of about twice the work.
GRADIENT = 3


def passes(study: Study, channels: int) -> pd.DataFrame:
    """Forward passes that one image takes: rows method, map, metrics and total, one for each method of the study.

    `channels` is K, at most so many of which are alive. A gradient counts as two more passes. Left out are the two or
    three passes that an image takes whatever the methods.
    """
    curves = sum(metric.partition(":")[0] in ("insertion", "deletion") for metric in study.metrics)
    times = 1 + any("maps_again" in needs(metric) for metric in study.metrics)
    rows = pd.DataFrame(
        {"method": name, "map": times * map_passes(chosen.get("method", name), chosen, channels)}
        for name, chosen in study.methods.items()
    )
    rows["metrics"] = 1 + curves * POINTS  # C(X o L), which drop, increase and win share
    rows["total"] = rows["map"] + rows["metrics"]
    return rows


def map_passes(method: str, chosen: Mapping[str, Any], channels: int) -> int:
    """Passes of one map; the first one records the activations."""
    if method not in METHODS:
        return 1
    own = {key: value for key, value in chosen.items() if key in METHODS[method].option_names}
    return METHODS[method].passes(channels, METHODS[method].parse(own))


def passes_per_second(net: Network, count: int = 4, side: int = 224) -> float:
    """Measured rate of the loop of forward passes, on the network's device, after as many to warm up."""
    images = torch.rand(count, 3, side, side, device=net.device)
    score = partial(masked_scores, net, lambda passes: (images[passes.start : passes.stop],), count, 0)
    score()
    started = time.perf_counter()
    score().tolist()  # waits for the GPU
    return count / (time.perf_counter() - started)
