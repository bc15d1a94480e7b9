"""Names for readers: titles of methods and headings of metrics."""

from __future__ import annotations

from iscam.errors import InputError
from iscam.methods import CONTROLS, METHODS
from iscam.metrics.ground_truth import DRAWN_CONTROLS
from iscam.metrics.registry import MetricCall, parse_metric

#: Titles of variants that recorded runs have under a name of their own.
VARIANTS = {"is_cam_linear": "IS-CAM, linear"}

#: Headings of columns that are not metrics of the registry, or that need another heading than its.
HEADINGS = {
    "model": "network",
    "win": "IS-CAM wins (%) ↑",
    "tie": "ties (%)",
    "passes a channel": "passes per channel",
    "insertion:blur": "insertion from a blur (%) ↑",
}


def method_title(name: str) -> str:
    """The title of a method, followed by its variant if the name has one.

    >>> method_title("is_cam zero baseline")
    'IS-CAM zero baseline'
    """
    method, space, variant = name.partition(" ")
    entry = METHODS.get(method) or CONTROLS.get(method) or DRAWN_CONTROLS.get(method)
    return (entry.title if entry else VARIANTS.get(method, method)) + space + variant


def method_summary(name: str) -> str:
    """Where the weights of a method come from, in one line."""
    return METHODS[name].summary


def column_heading(name: str) -> str:
    """The heading of a table's column; a name that is not a metric is its own heading.

    >>> column_heading("deletion"), column_heading("win:ss_cam"), column_heading("images")
    ('deletion AUC (%) ↓', 'win over SS-CAM (%) ↑', 'images')
    """
    call = metric_call(name)
    if name in HEADINGS or call is None:
        return HEADINGS.get(name, name)
    return f"win over {method_title(call.argument)} (%) ↑" if call.name == "win" else call.metric.heading


def lower_is_better(metric: str) -> bool:
    """Return True if lower values of the metric are better. The metric may have an argument, as "insertion:blur"."""
    return parse_metric(metric).metric.better == "lower"


def metric_call(name: str) -> MetricCall | None:
    """The metric of that name; None if there is none."""
    try:
        return parse_metric(name)
    except InputError:
        return None
