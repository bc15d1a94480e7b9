"""The metrics. `METRICS` lists them; `parse_metric` reads a name with its argument."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from iscam.metrics import adcc as _adcc
from iscam.metrics import confidence as _confidence
from iscam.metrics import ground_truth as _truth
from iscam.metrics.curves import Curves, deletion, insertion
from iscam.metrics.inputs import ImageBatch as ImageBatch
from iscam.metrics.inputs import MetricInputs as MetricInputs
from iscam.metrics.localisation import energy
from iscam.metrics.registry import METRICS as METRICS
from iscam.metrics.registry import Metric as Metric
from iscam.metrics.registry import MetricCall as MetricCall
from iscam.metrics.registry import Need as Need
from iscam.metrics.registry import parse_metric as parse_metric

# Old access by parameter names, until the study uses `METRICS`.


def _mask_energy(maps: Any, drawings: Any) -> Any:
    import torch

    return energy(maps, torch.stack([torch.from_numpy(drawing.mask) for drawing in drawings]))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "insertion": insertion,
    "deletion": deletion,
    "average_drop": _confidence.average_drop,
    "average_increase": _confidence.average_increase,
    "average_gain": _confidence.average_gain,
    "explained_confidence": _confidence.explained_confidence,
    "win": _confidence.win,
    "complexity": _adcc.complexity,
    "coherency": _adcc.coherency,
    "adcc": _adcc.adcc,
    "energy": energy,
    "part_correlation": _truth.part_correlation,
    "decisive_part": _truth.decisive_part,
    "mask_energy": _mask_energy,
}
UNDEFINED = {name: metric.undefined for name, metric in METRICS.items()}


def needs(metric: str) -> list[str]:
    return list(inspect.signature(FUNCTIONS[metric.partition(":")[0]]).parameters)


def measured(metric: str, given: Mapping[str, Any]) -> Any:
    name, _, argument = metric.partition(":")
    wanted = needs(name)
    arguments = {key: value for key, value in given.items() if key in wanted}
    if argument and "start" in wanted:
        arguments["start"] = argument
    found = FUNCTIONS[name](**arguments)
    return found.auc if isinstance(found, Curves) else found
