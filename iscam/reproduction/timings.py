"""The growth of IS-CAM's time with steps, channels, images and pixels, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
from torch import Tensor
from torch.nn.functional import interpolate

import iscam
from iscam.maps import active
from iscam.model import Network
from iscam.record import forward_record

#: Number of steps N in measurements that do not vary N.
STEPS = 2

#: Number of repeats of a measurement. The fastest repeat counts.
REPEATS = 2


def seconds_of(net: Network, images: Tensor, steps: int = STEPS) -> float:
    """Measure the time of one uncompiled call of IS-CAM, in seconds."""
    runs = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        iscam.explain(net, images, method="is_cam", steps=steps, compile=False).cpu()
        runs.append(time.perf_counter() - started)
    return min(runs)


def growth_table(
    net: Network,
    images: Tensor,
    step_counts: Sequence[int],
    layers: Sequence[str],
    image_counts: Sequence[int],
    sizes: Sequence[int],
) -> pd.DataFrame:
    """Measure the seconds of one call while one quantity varies. Returns the columns grows, value and seconds.

    All other quantities are fixed: `STEPS` steps, the network's layer, and the first image at its original size.
    """
    one = images[:1]
    rows = [("steps N", n, seconds_of(net, one, n)) for n in step_counts]
    for layer in layers:
        chosen = Network(net.model, layer)
        channels = int(active(forward_record(chosen, one[0]).activations).sum())
        rows.append(("channels K", channels, seconds_of(chosen, one)))
    rows += [("images", count, seconds_of(net, images[:count])) for count in image_counts]
    rows += [("pixels", size**2, seconds_of(net, interpolate(one, (size, size)))) for size in sizes]
    return pd.DataFrame(rows, columns=["grows", "value", "seconds"])
