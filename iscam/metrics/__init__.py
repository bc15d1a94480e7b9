"""The metrics. `METRICS` lists them, `parse_metric` reads a name with its argument, and `MetricInputs` is their input.

The metric functions are defined in the submodules. `iscam.metrics.confidence` and `iscam.metrics.adcc` are modules, not
the functions of the same names.
"""

from iscam.metrics.curves import Curves
from iscam.metrics.inputs import ImageBatch, MetricInputs
from iscam.metrics.registry import METRICS, Metric, MetricCall, Need, parse_metric

__all__ = ["METRICS", "Curves", "ImageBatch", "Metric", "MetricCall", "MetricInputs", "Need", "parse_metric"]
