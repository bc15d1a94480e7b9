"""Tables of the recorded speed benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from iscam.reproduction.published import data_folder


def recorded_rates() -> pd.DataFrame:
    """Passes per second as recorded elsewhere: rows machine, model, precision, passes/s, one for each network.

    They stand in files of `data/results` as `{"device": ..., "rates": {model: {precision: passes a second}}}`.
    """
    rows = []
    for file in sorted((data_folder() / "results").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for model, rates in record.get("rates", {}).items():
            rows += [(record["device"], model, precision, rate) for precision, rate in rates.items()]
    return pd.DataFrame(rows, columns=["machine", "model", "precision", "passes/s"])


def benchmarks() -> dict[str, dict[str, Any]]:
    """The recorded runs of benchmarks/speed.py, by network and machine."""
    files = sorted((data_folder() / "results").glob("benchmarks-*.json"))
    runs = [json.loads(file.read_text()) for file in files]
    return {f"{run['parameters']['model']}, {run['device']}": run for run in runs}


def benchmark_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """One row a line of a benchmark: medians, how many times torch-cam's speed at the same task, share of the floor.

    The spread is how much longer the slowest repeat took than the fastest. Of torch-cam's batch sizes the best counts.
    """
    median = {row["line"]: float(np.median(row["seconds"])) for row in run["lines"]}
    rows = []
    for row in run["lines"]:
        same = [peer["line"] for peer in run["lines"] if peer["task"] == row["task"]]
        peer = min((median[name] for name in same if name.startswith("torch-cam")), default=np.nan)
        seconds = median[row["line"]]
        rate = row["passes"] / seconds
        rows.append(
            {
                "line": row["line"],
                "passes": str(row["passes"]),
                "seconds": seconds,
                "spread (%)": f"{100 * (max(row['seconds']) / min(row['seconds']) - 1):.0f}",
                "passes/s": rate,
                "times torch-cam": peer / seconds,
                "% of floor": 100 * rate / run["floors"][row["precision"]],
                "MB above": f"{row['megabytes']:.0f}",
                "largest difference": "–" if row["map_difference"] is None else f"{row['map_difference']:.1e}",
            }
        )
    return pd.DataFrame(rows)


def floor_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """Passes a second of a benchmark's bare network: a row a batch size and precision, uncompiled and compiled."""
    bare = pd.DataFrame(run["bare"]).query("task == 'floor'").astype({"batch": int})
    bare["passes/s"] = bare["passes"] / bare["seconds"].map(np.median)
    modes = bare["compiled"].map({False: "uncompiled", True: "compiled"})
    table = bare.pivot_table("passes/s", ["precision", "batch"], modes, sort=False).reset_index()
    return table.rename(columns={"batch": "passes in a batch"}).rename_axis(columns=None)


def peak_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """Floating point operations a second, in 10^12: of a matrix product, the bare network and our compiled IS-CAM."""
    rows = []
    for row in run["bare"]:
        if row["task"] == "matrix product":
            flop = next(pass_["flop"] for pass_ in run["bare"] if pass_["task"] == "floor")
            peak = row["flop"] * row["passes"] / float(np.median(row["seconds"]))
            rates = {"bare network": run["floors"], "IS-CAM": next(iter(run["rates"].values()))}
            found = {name: flop * rate[row["precision"]] for name, rate in rates.items()}
            shares = {f"{name} (% of it)": 100 * value / peak for name, value in found.items()}
            rows.append({"precision": row["precision"], "matrix product": peak / 1e12} | shares)
    return pd.DataFrame(rows)
