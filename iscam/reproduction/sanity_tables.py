"""Tables of the sanity checks: randomised networks, shifted inputs, and the bound for positive weights.

Tables of likeness have the columns model, method, image, metric, value, against ("randomised", "another image" or the
name of a shift) and layers (the number of re-initialised layers).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import iscam
from iscam.maps import active
from iscam.metrics import sanity
from iscam.model import Network
from iscam.record import forward_record
from iscam.reproduction.names import method_title
from iscam.reproduction.tables import sort_key, sort_rows
from iscam.study.statistics import summary

Maps = Mapping[str, Tensor]

#: Titles of the two stages of the cascade, and the aggregation that selects their depth.
STAGES = {"After the logits' layer alone": "min", "After all layers": "max"}


# --------------------------------------------------------------------------------------------------------- running


def depths(net: Network, stages: int) -> list[int]:
    """Return the number of layers that each stage of the cascade re-initialises, evenly spaced from 1 to all."""
    return sorted({round(x) for x in torch.linspace(1, len(sanity.cascade(net)), stages).tolist()})


def layers_above(net: Network) -> int:
    """Return the number of layers with parameters between the logits and the explained layer."""
    layers = sanity.cascade(net)
    return next((i for i, name in enumerate(layers) if f"{name}.".startswith(f"{net.layer}.")), len(layers))


def cascade_maps(
    net: Network,
    images: Tensor,
    targets: Tensor,
    methods: Mapping[str, Mapping[str, Any]],
    depths: Sequence[int],
    seed: int,
) -> dict[int, Maps]:
    """Return a mapping from each depth (the number of re-initialised layers) to the maps of each method.

    The warning about all-zero maps is suppressed, because such maps are expected here and `outcome_table` counts them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is all zeros")
        return {n: sanity.explained_randomised(net, images, targets, methods, n, seed) for n in depths}


def cascade_likeness(trained: Maps, randomised: Mapping[int, Maps]) -> pd.DataFrame:
    """Compute the similarity of the trained network's maps to those of randomised networks and of another image."""
    parts = [sanity.likeness(trained, maps).assign(against="randomised", layers=n) for n, maps in randomised.items()]
    others = {method: maps.roll(-1, 0) for method, maps in trained.items()}
    parts.append(sanity.likeness(trained, others).assign(against="another image", layers=0))
    return pd.concat(parts, ignore_index=True)


def shift_likeness(
    net: Network, images: Tensor, targets: Tensor, methods: Mapping[str, Mapping[str, Any]], trained: Maps
) -> pd.DataFrame:
    """Compute the similarity of the maps to those of the shifted network, for each of `sanity.SHIFTS`."""
    parts = []
    for name, shift in sanity.SHIFTS.items():
        moved = images + shift.to(images)[:, None, None]
        maps = sanity.explained(iscam.shifted(net, shift), moved, targets, methods)
        parts.append(sanity.likeness(trained, maps).assign(against=name, layers=0))
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------------------------------------------------- tables


def excess_at(frame: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Compute the mean excess rank correlation per network and method at the first ("min") or last ("max") stage."""
    excess = sanity.excess(frame).query("metric == 'rank_correlation'")
    rows = summary(excess[excess["layers"] == excess.groupby("model")["layers"].transform(stage)])
    return rows.assign(outcome=[sanity.outcome(row.low, row.high) for row in rows.itertuples()])


def outcome_table(frame: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Return the outcome and the mean excess, with one row per method and one column per network."""
    rows = excess_at(frame, stage)
    rows["cell"] = [
        f"{row.outcome}, {row.mean:.2f} ({row.low:.2f} to {row.high:.2f})"
        + (f", {row.failed:.0f} undefined" if row.failed else "")
        for row in rows.itertuples()
    ]
    table = rows.pivot(index="method", columns="model", values="cell").rename_axis(columns=None)
    return table.loc[sorted(table.index, key=sort_key)].reset_index()


def outcome_summary(frame: pd.DataFrame) -> str:
    """Return a Markdown list of the methods with each outcome at each stage, and the number of networks."""
    lines = []
    for title, stage in STAGES.items():
        rows = excess_at(frame[frame["method"] != "random"], stage)
        counts = rows.groupby("outcome", sort=False)["method"].value_counts()
        parts = [
            f"**{outcome}**: {', '.join(f'{method_title(name)} ({count})' for (_, name), count in group.items())}"
            for outcome, group in counts.groupby(level="outcome", sort=False)
        ]
        lines.append(f"- {title}: {'; '.join(parts)}.")
    return "\n".join(lines)


def likeness_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean rank correlation and SSIM with randomised networks (first and last stage) and another image."""
    last = frame.groupby("model")["layers"].transform("max")
    first = frame["layers"].where(frame["layers"] > 0).groupby(frame["model"]).transform("min")
    stage = pd.Series("", frame.index).mask(frame["layers"] == first, "logits").mask(frame["layers"] == last, "all")
    rows = frame.assign(maps=stage.mask(frame["against"] == "another image", "other image"))
    rows = rows[(rows["maps"] != "") & rows["metric"].isin(["rank_correlation", "ssim"])]
    table = rows.pivot_table(index=["model", "method"], columns=["metric", "maps"], values="value")
    table = table[[(m, s) for m in ("rank_correlation", "ssim") for s in ("logits", "all", "other image")]]
    table.columns = [f"{'SSIM' if m == 'ssim' else 'rank corr.'}, {s}" for m, s in table]
    return sort_rows(table.reset_index())


def shift_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the largest change of the map and the mean rank correlation for each shift, with one row per method."""
    rows = frame[frame["against"].isin(sanity.SHIFTS) & (frame["method"] != "random")]
    values = rows.groupby(["method", "against", "metric"])["value"].agg(["mean", "max"]).unstack("metric")
    table = pd.DataFrame(index=sorted(rows["method"].unique(), key=sort_key))
    for shift in sanity.SHIFTS:
        of_shift = values.xs(shift, level="against")
        table[f"{shift}: largest change"] = of_shift["max", "largest"]
        table[f"{shift}: mean rank correlation"] = of_shift["mean", "rank_correlation"]
    return table.rename_axis("method").reset_index()


# ----------------------------------------------------------------------------------------------------------- bound


def cosine_bounds(
    net: Network, image: Tensor, target: int, methods: Mapping[str, Mapping[str, Any]], seed: int
) -> pd.DataFrame:
    """Compare maps before min-max scaling with the plain sum of the activations, after the last layer is randomised.

    The measure is the cosine. If all weights lie between m > 0 and M and A ≥ 0, it is at least 2 √(m M) / (m + M).
    """
    new_head = iscam.randomised(net, layers=1, seed=seed)
    rows = []
    for method, options in methods.items():
        ratio, bound, cosine = cosine_with_sum(new_head, image, target, method, options)
        _, _, trained = cosine_with_sum(net, image, target, method, options)
        row = {"method": method, "M / m, new head": ratio, "bound on the cosine": bound, "cosine, new head": cosine}
        rows.append(row | {"cosine, trained": trained})
    return pd.DataFrame(rows)


def cosine_with_sum(
    net: Network, image: Tensor, target: int, method: str, options: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Return M / m, the bound and the measured cosine.

    The first two are NaN unless all weights are positive and no activation is negative.
    """
    record = forward_record(net, image, target)
    activations = record.activations.detach()
    kept = active(activations)
    weights, activations = iscam.METHODS[method](record, **options)[kept], activations[kept]
    weighted = torch.einsum("k,khw->hw", weights, activations).relu().flatten()
    cosine = torch.cosine_similarity(weighted, activations.sum(0).flatten(), 0).item()
    low, high = weights.min().item(), weights.max().item()
    if activations.min() < 0 or low <= 0:
        return float("nan"), float("nan"), cosine
    return high / low, 2 * (low * high) ** 0.5 / (low + high), cosine


def describe_sanity_run(frame: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Return a list item that describes a recorded run of the sanity checks."""
    parameters = run["parameters"]
    return (
        f"- {parameters['models'][0]}: {frame['image'].nunique()} images of {parameters['data']}, "
        f"N = {parameters['steps']}; {run['date'][:10]}, {run['device']}, {run['seconds']:.0f} s, "
        f"commit {run['commit']}. Repeat it with `{run['command']}`."
    )
