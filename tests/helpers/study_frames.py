"""Tables like those that a study returns, with values chosen by the test."""

from __future__ import annotations

import pandas as pd


def study_rows(values: dict[str, list[float]], metric: str = "average_drop", model: str = "net") -> pd.DataFrame:
    """The table of one metric and network: method -> one value per image."""
    return pd.concat(
        pd.DataFrame({"model": model, "image": range(len(v)), "method": method, "metric": metric, "value": v})
        for method, v in values.items()
    )
