"""Metrics for which lower is better, from the registry."""

from __future__ import annotations

from iscam.metrics.registry import METRICS

LOW_IS_GOOD = {name for name, metric in METRICS.items() if metric.better == "lower"}
