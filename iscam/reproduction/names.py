"""Names for readers: the titles of methods and the headings of metrics."""

from __future__ import annotations

from iscam.errors import InputError
from iscam.methods import CONTROLS, METHODS
from iscam.metrics.ground_truth import DRAWN_CONTROLS
from iscam.metrics.registry import METRICS, MetricCall, parse_metric

#: Titles of variants that have a separate name in recorded runs.
VARIANTS = {"is_cam_linear": "IS-CAM, linear"}

#: Headings of columns that are not in the metric registry, or whose heading differs from the registry's.
HEADINGS = {
    "model": "network",
    "win": "IS-CAM wins (%) ↑",
    "tie": "ties (%)",
    "passes a channel": "passes per channel",
    "insertion:blur": "insertion from a blur (%) ↑",
    "average_drop:half": "average drop, half kept (%) ↓",
    "average_increase:half": "average increase, half kept (%) ↑",
    "energy:single": "energy inside a single box (%) ↑",
}


def method_title(name: str) -> str:
    """Return the title of a method, followed by the variant if the name has one.

    >>> method_title("is_cam zero baseline")
    'IS-CAM zero baseline'
    """
    method, space, variant = name.partition(" ")
    entry = METHODS.get(method) or CONTROLS.get(method) or DRAWN_CONTROLS.get(method)
    return (entry.title if entry else VARIANTS.get(method, method)) + space + variant


def name_for_readers(name: str) -> str:
    """Return the title of a method or a metric. Any other text is returned unchanged.

    >>> name_for_readers("average_drop"), name_for_readers("is_cam"), name_for_readers("yes")
    ('average drop', 'IS-CAM', 'yes')
    """
    return METRICS[name].title if name in METRICS else method_title(name)


def method_summary(name: str) -> str:
    """Return one line on the origin of a method's weights or map."""
    return METHODS[name].summary


def column_heading(name: str) -> str:
    """Return the heading of a table column. A name that is not a metric is returned unchanged.

    >>> column_heading("deletion"), column_heading("win:ss_cam"), column_heading("images")
    ('deletion AUC (%) ↓', 'win over SS-CAM (%) ↑', 'images')
    """
    call = metric_call(name)
    if name in HEADINGS or call is None:
        return HEADINGS.get(name, name)
    return f"win over {method_title(call.argument)} (%) ↑" if call.name == "win" else call.metric.heading


def lower_is_better(metric: str) -> bool:
    """Return True if lower values of the metric are better. The metric may have an argument, as in "insertion:blur"."""
    return parse_metric(metric).metric.better == "lower"


def metric_call(name: str) -> MetricCall | None:
    """Return the metric of that name, or None if there is no such metric."""
    try:
        return parse_metric(name)
    except InputError:
        return None
