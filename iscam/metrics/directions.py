"""Which direction of a metric is better."""

from __future__ import annotations

#: Metrics of which a low value is good.
LOW_IS_GOOD = {"deletion", "average_drop", "complexity"}
