"""Tables of the embedded benchmark: pairs of parts, and how well its metrics tell the methods apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from iscam.methods import CONTROLS
from iscam.metrics.ground_truth import DRAWN_CONTROLS, pair_importance, part_importance
from iscam.model import Network
from iscam.reproduction.claims import LEVEL
from iscam.reproduction.findings import METRICS
from iscam.reproduction.names import lower_is_better, method_title
from iscam.reproduction.tables import Estimate, estimates
from iscam.study.statistics import differences, holm, paired, sign_flip_test


def strongest_pairs(net: Network, species: Sequence[str], seed: int) -> pd.DataFrame:
    """Return the pair of parts with the highest importance in one drawing of each species.

    The columns are the species, the pair, the importance of the pair, and the sum of the importances of its parts.
    """
    rows = []
    for name in species:
        single, pairs = part_importance(net, name, seed), pair_importance(net, name, seed)
        one, other = pairs.idxmax()
        rows.append((name, f"{one} and {other}", pairs.max(), single[one] + single[other]))
    return pd.DataFrame(rows, columns=["species", "pair", "both left out", "sum of the two alone"])


def beats_controls(frame: pd.DataFrame, method: str = "score_cam") -> pd.DataFrame:
    """Return how much better a method is than each control, for each network and each of the papers' metrics.

    The last column is "yes" if the paired 95 % intervals show that the method is better than all controls. The identity
    control hides nothing, so its average drop is 0 by definition, and it does not count for this metric.
    """
    known = frame[frame["metric"].isin(METRICS)]
    gaps = {control: better_by(known, method, control) for control in CONTROLS}
    table = pd.concat(gaps, names=["control"]).unstack("control")
    counted = {(metric, control) for metric in METRICS for control in CONTROLS} - {("average_drop", "identity")}
    shown = table.rename(columns=method_title)
    shown["better than both"] = [
        "yes" if all(row[control].low > 0 for control in CONTROLS if (key[1], control) in counted) else "no"
        for key, row in table.iterrows()
    ]
    return shown.rename_axis(columns=None).reset_index()


def better_by(frame: pd.DataFrame, method: str, other: str) -> pd.Series:
    """Return by how many points a method is better than another: an `Estimate` per network and metric."""
    rows = paired(frame, method, other)
    cells = [
        Estimate(-cell.mean, -cell.high, -cell.low) if lower_is_better(metric) else cell
        for metric, cell in zip(rows["metric"], estimates(rows), strict=True)
    ]
    return pd.Series(cells, index=pd.MultiIndex.from_frame(rows[["model", "metric"]]))


def separated(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Count the pairs of methods that differ significantly in each metric, and name the most different pair.

    All pairs of methods are tested, without the controls. The p-values of sign-flip tests are corrected with Holm's
    method for the pairs of one network and metric. A pair differs if p < 5 %.

    Returns one row per metric and network: metric, network, pairs (tested), different, best, worst, and the difference
    of best and worst (in points).
    """
    methods = frame[~frame["method"].isin([*CONTROLS, *DRAWN_CONTROLS])]
    groups = {metric: methods[methods["metric"] == metric].groupby("model", sort=False) for metric in metrics}
    return pd.DataFrame([separated_methods(rows) for metric in metrics for _, rows in groups[metric]])


def separated_methods(rows: pd.DataFrame) -> dict[str, object]:
    """Return the row of one network and metric in `separated`."""
    metric = rows["metric"].iloc[0]
    means = rows.groupby("method")["value"].mean().dropna().sort_values(ascending=lower_is_better(metric))
    pairs = list(combinations(means.index, 2))  # the better method first
    p = [sign_flip_test(differences(rows, *pair)["value"].to_numpy()) for pair in pairs]
    best, worst = means.index[0], means.index[-1]
    return {
        "metric": metric,
        "network": rows["model"].iloc[0],
        "pairs": len(pairs),
        "different": int((holm(np.array(p)) < LEVEL).sum()),
        "best": best,
        "worst": worst,
        "difference (points)": estimates(paired(rows, best, worst))[0],
    }
