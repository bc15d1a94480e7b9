"""The metrics: each gives one value an image, and asks for what it needs by the names of its parameters."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from iscam.metrics.adcc import adcc, coherency, complexity
from iscam.metrics.confidence import average_drop, average_gain, average_increase, explained_confidence, win
from iscam.metrics.curves import Curves, deletion, insertion
from iscam.metrics.ground_truth import decisive_part, part_correlation
from iscam.metrics.localisation import energy, mask_energy

#: The metrics by name; the last three need the menagerie's drawings.
METRICS: dict[str, Callable[..., Any]] = {
    metric.__name__: metric
    for metric in (
        insertion,
        deletion,
        average_drop,
        average_increase,
        average_gain,
        explained_confidence,
        win,
        complexity,
        coherency,
        adcc,
        energy,
        part_correlation,
        decisive_part,
        mask_energy,
    )
}

#: Why a metric has no value for an image, where that can happen.
UNDEFINED = {
    "average_gain": "the class probability of the whole image is 1 already",
    "coherency": "the map of the image, or of what it lets through, is constant",
    "adcc": "the coherency has no value",
    "energy": "the image has no box",
    "part_correlation": "too few parts show, or none matters",
    "decisive_part": "no part leads the next clearly",
}


def needs(metric: str) -> list[str]:
    """What a metric asks for: the names of its parameters."""
    return list(inspect.signature(METRICS[metric.partition(":")[0]]).parameters)


def measured(metric: str, given: Mapping[str, Any]) -> Any:
    """A metric's values, one an image: its function gets those of the given values that its parameters name.

    An argument may follow the metric's name: "insertion:blur".
    """
    name, _, argument = metric.partition(":")
    wanted = needs(name)
    arguments = {key: value for key, value in given.items() if key in wanted}
    if argument and "start" in wanted:
        arguments["start"] = argument
    found = METRICS[name](**arguments)
    return found.auc if isinstance(found, Curves) else found
