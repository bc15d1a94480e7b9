"""Tables of the recorded benchmarks: speed, growth of the cost, and errors of rules with fewer passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from iscam.reproduction.archive import is_recorded, recorded
from iscam.reproduction.published import data_folder

Run = Mapping[str, Any]

IS_CAM = "iscam IS-CAM"
IS_CAM_15 = "iscam IS-CAM of 15 steps"

#: The measurements ("lines") of benchmarks/speed.py without and with each change.
CHANGES = {
    "freed memory kept": (f"{IS_CAM}, compiled, freed memory given back", f"{IS_CAM}, compiled"),
    "compiled code": (f"{IS_CAM}, eager", f"{IS_CAM}, compiled"),
    "the first layer once": (f"{IS_CAM}, compiled", f"{IS_CAM}, compiled, first layer once"),
    "bfloat16": (f"{IS_CAM}, compiled, first layer once", f"{IS_CAM}, bf16, first layer once"),
    "four midpoints for 15 steps": (IS_CAM_15, f"{IS_CAM_15}, by 4 midpoints"),
}

#: The measurement of benchmarks/speed.py for each comparison with torch-cam on the same task.
AGAINST_TORCH_CAM = {
    "all float32 changes, compared with torch-cam": f"{IS_CAM}, compiled, first layer once",
    "and four midpoints for 15 steps": f"{IS_CAM_15}, by 4 midpoints",
}

#: Recorded runs of benchmarks/nodes.py.
NODES_RUNS = ("nodes_squeezenet1_0", "nodes_squeezenet1_0_all", "nodes_squeezenet1_0_four", "nodes_squeezenet")

RULE_KEYS = ["of", "rule", "passes a channel"]
RULE_ERRORS = ["weight error", "map error", "confidence error"]


# ------------------------------------------------------------------------------------------------------------ speed


def benchmarks() -> dict[str, dict[str, Any]]:
    """Return the recorded runs of benchmarks/speed.py. The keys name the network and the machine."""
    files = sorted((data_folder() / "results").glob("benchmarks-*.json"))
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {f"{run['parameters']['model']}, {run['device']}": run for run in runs}


def recorded_rates() -> pd.DataFrame:
    """Return the recorded passes per second of each machine, network and precision.

    Files in `data/results` store them as `{"device": ..., "rates": {model: {precision: passes per second}}}`.
    """
    rows = []
    for file in sorted((data_folder() / "results").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for model, rates in record.get("rates", {}).items():
            rows += [(record["device"], model, precision, rate) for precision, rate in rates.items()]
    return pd.DataFrame(rows, columns=["machine", "model", "precision", "passes/s"])


def benchmark_table(run: Run) -> pd.DataFrame:
    """Return a table with one row per measurement of a speed benchmark.

    It contains the median seconds, the speed relative to torch-cam, and the share of the floor. "spread (%)" is the
    additional time of the slowest repeat, relative to the fastest. "times torch-cam" is the speed relative to torch-cam
    on the same task, with torch-cam's fastest batch size.
    """
    median = {row["line"]: float(np.median(row["seconds"])) for row in run["lines"]}
    rows = []
    for row in run["lines"]:
        peers = [peer["line"] for peer in run["lines"] if peer["task"] == row["task"]]
        fastest_peer = min((median[name] for name in peers if name.startswith("torch-cam")), default=np.nan)
        seconds = median[row["line"]]
        rate = row["passes"] / seconds
        rows.append(
            {
                "line": row["line"],
                "passes": str(row["passes"]),
                "seconds": seconds,
                "spread (%)": f"{100 * (max(row['seconds']) / min(row['seconds']) - 1):.0f}",
                "passes/s": rate,
                "times torch-cam": fastest_peer / seconds,
                "% of floor": 100 * rate / run["floors"][row["precision"]],
                "MB above": f"{row['megabytes']:.0f}",
                "largest difference": "–" if row["map_difference"] is None else f"{row['map_difference']:.1e}",
            }
        )
    return pd.DataFrame(rows)


def speedups() -> pd.DataFrame:
    """Return the speedup of IS-CAM with each change, and relative to torch-cam, with one column per recorded run.

    The value is NaN if a run does not contain the measurements.
    """
    table = pd.DataFrame({"line": [*CHANGES, *AGAINST_TORCH_CAM]})
    for name, run in benchmarks().items():
        rows = benchmark_table(run).set_index("line")
        seconds, times = rows["seconds"], rows["times torch-cam"]
        ratios = [seconds.get(without, np.nan) / seconds.get(with_it, np.nan) for without, with_it in CHANGES.values()]
        table[name] = [*ratios, *(times.get(line, np.nan) for line in AGAINST_TORCH_CAM.values())]
    return table


def describe_benchmark(run: Run) -> str:
    """Describe a benchmark run: date, machine, packages, floors, and the command that repeats the run."""
    packages = ("torch", "torchcam", "grad-cam")  # old records do not contain the versions of the peers
    floors = ", ".join(f"{rate:.1f} passes per second in {precision}" for precision, rate in run["floors"].items())
    versions = [f"{package} {run['versions'][package]}" for package in packages if package in run["versions"]]
    place = ", ".join([run["device"], *versions])
    return f"{run['date'][:10]}, {place}, commit {run['commit']}. Floor: {floors}. Repeat it with `{run['command']}`."


def live_channels(run: Run) -> int:
    """Return the number of channels that are not constant for the image of the benchmark."""
    return next(row["passes"] for row in run["lines"] if row["line"] == "iscam Score-CAM")


def noise_share(run: Run) -> str:
    """Describe the share of SS-CAM's time that the noise takes. IS-CAM runs as many passes without noise."""
    seconds = benchmark_table(run).set_index("line")["seconds"]
    noisy, quiet = seconds["iscam SS-CAM"], seconds[f"{IS_CAM}, compiled"]
    return (
        f"Noise takes {100 * (1 - quiet / noisy):.0f} % of SS-CAM's {noisy:.1f} s; the same number of passes without "
        f"noise, in IS-CAM, took {quiet:.1f} s."
    )


# ---------------------------------------------------------------------------------------------------------- floors


def floor_table(run: Run) -> pd.DataFrame:
    """Return the passes per second of the bare network, uncompiled and compiled, per precision and batch size."""
    bare = pd.DataFrame(run["bare"]).query("task == 'floor'").astype({"batch": int})
    bare["passes/s"] = bare["passes"] / bare["seconds"].map(np.median)
    modes = bare["compiled"].map({False: "uncompiled", True: "compiled"})
    table = bare.pivot_table("passes/s", ["precision", "batch"], modes, sort=False).reset_index()
    return table.rename(columns={"batch": "passes in a batch"}).rename_axis(columns=None)


def eager_shares(run: Run) -> str:
    """Return the speeds of our uncompiled measurements as shares of the fastest uncompiled bare passes."""
    bare = floor_table(run).query("precision == 'fp32'")["uncompiled"].max()
    rates = benchmark_table(run).set_index("line")["passes/s"].filter(like="eager")
    return "; ".join(f"{line.removeprefix('iscam ')}: {100 * rate / bare:.0f} %" for line, rate in rates.items())


def peak_table(run: Run) -> pd.DataFrame:
    """Return the speed of a matrix product, and the shares of this speed that the bare network and IS-CAM reach.

    The unit is 10^12 floating point operations per second.
    """
    rows = []
    for row in run["bare"]:
        if row["task"] == "matrix product":
            flop = next(floor["flop"] for floor in run["bare"] if floor["task"] == "floor")
            peak = row["flop"] * row["passes"] / float(np.median(row["seconds"]))
            rates = {"bare network": run["floors"], "IS-CAM": next(iter(run["rates"].values()))}
            shares = {f"{name} (% of it)": 100 * flop * rate[row["precision"]] / peak for name, rate in rates.items()}
            rows.append({"precision": row["precision"], "matrix product": peak / 1e12} | shares)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------- GPU


def gpu_table() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the recorded calls on a GPU, each with the fastest batch size, and their provenance."""
    frame, run = recorded("gpu_h200")
    frame["passes/s"] = frame["passes"] / frame["seconds"]
    of_peak = 100 * frame["passes/s"] * frame["model"].map(run["flop"]) / run["matrix product"]
    frame["% of peak"] = of_peak.where(frame["precision"] == "bf16")  # the precision of the matrix product
    fastest = frame.groupby(["model", "what", "precision", "mode"])["passes/s"].idxmax()
    return frame.loc[fastest].reset_index(drop=True), run


def gpu_summary(rows: pd.DataFrame) -> str:
    """Summarise the GPU's table for IS-CAM of 15 steps and for the IS-CAM of torch-cam."""
    best = rows.set_index(["model", "what", "precision", "mode"])
    steps, bare = best.xs("IS-CAM of 15 steps", level="what"), best.xs("bare passes", level="what")
    peer = best.loc["squeezenet1_0", "torch-cam IS-CAM of 15 steps", "fp32", "eager"]
    half, full = (peer["seconds"] / steps.loc["squeezenet1_0", p, "compiled"]["seconds"] for p in ("bf16", "fp32"))
    limit = bare.loc["squeezenet1_0", "bf16", "compiled"]["passes/s"] / peer["passes/s"]
    share = steps.loc["vgg16", "bf16", "compiled"]["% of peak"]
    return (
        f"IS-CAM of VGG-16 in bfloat16 uses {share:.0f} % of the GPU's peak. A map of 15 steps on SqueezeNet1.0 is "
        f"{half:.1f} times as fast in bfloat16, and {full:.1f} times as fast in fp32, as a map of torch-cam in fp32 "
        f"with its fastest batch size (one run of torch-cam, and the fastest of three of our runs). With the same "
        f"number of passes, little more is possible: bare passes in bfloat16 are {limit:.1f} times as fast as those of "
        f"torch-cam. Four midpoints divide the number of passes by 3.75; they were not timed on a GPU."
    )


# ----------------------------------------------------------------------------------------------------- fewer passes


def nodes_runs() -> dict[str, list[tuple[pd.DataFrame, dict[str, Any]]]]:
    """Return the recorded runs of benchmarks/nodes.py. Runs with the same images, network and channels share a key."""
    runs: dict[str, list[tuple[pd.DataFrame, dict[str, Any]]]] = {}
    for name in filter(is_recorded, NODES_RUNS):
        frame, run = recorded(name)
        parameters = run["parameters"]
        kind = "drawings" if parameters["data"] == "menagerie" else "photographs"
        channels = parameters.get("channels") or "all"
        label = f"{frame['image'].nunique()} {kind}, {parameters['models'][0]}, {channels} channels"
        runs.setdefault(label, []).append((frame, run))
    return runs


def worst_errors(runs: list[tuple[pd.DataFrame, dict[str, Any]]]) -> pd.DataFrame:
    """Return the largest errors over the images of some runs, per quantity, rule and number of passes."""
    frames = pd.concat([frame for frame, _ in runs])
    return frames.groupby(RULE_KEYS, sort=False)[RULE_ERRORS].max().reset_index()


def fewest_passes(worst: Mapping[str, pd.DataFrame], tolerances: Mapping[str, float]) -> pd.DataFrame:
    """Return the smallest number of passes per channel with which the map of the worst image is within an error.

    `worst` maps labels to rows of `worst_errors`, and `tolerances` maps each approximated quantity to the error. The
    table has one row per quantity and rule, and one column per label. "–" means that no tested number of passes
    suffices.
    """
    everything = pd.concat(worst.values())
    tried = everything[everything["passes a channel"] == 5]
    asked = [
        (of, rule, error) for of, error in tolerances.items() for rule in tried.loc[tried["of"] == of, "rule"].unique()
    ]
    table = pd.DataFrame(asked, columns=["of", "rule", "error"])
    for label, rows in worst.items():
        table[label] = [fewest(rows, *case) for case in asked]
    return table


def fewest(rows: pd.DataFrame, of: str, rule: str, error: float) -> str:
    rows = rows[(rows["of"] == of) & (rows["rule"] == rule)]
    if rows.empty:
        return "not tried"
    enough = rows.loc[rows["map error"] <= error, "passes a channel"]
    return f"{enough.min():.0f}" if len(enough) else "–"
