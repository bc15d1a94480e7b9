#!/usr/bin/env python3
"""Error of IS-CAM by fewer passes, against the sum of all its steps and against the integral it is compared with.

    python benchmarks/nodes.py [--model squeezenet1_0 --weights FILE --data ILSVRC_FOLDER] [--count 20] --output FILE

Rules for the cumulative sum of N = 15 steps and for the mean over t in [0, 1]: Gauss nodes (option `nodes`), the
trapezoid rule at as many passes, and as controls Score-CAM's one pass, one pass at t = 1/2 and equal weights. The
integral is known from two rules that share no node; their difference is a row, too. The same command again goes on
where it was interrupted.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor
from tqdm import tqdm

import iscam
from iscam.activations import View, observe
from iscam.explain import weighted_map
from iscam.methods.score import channel_weights, path
from iscam.metrics.faithfulness import seen_through
from iscam.results import record, shown_command

STEPS = 15
NODES = (1, 2, 3, 4, 5, 6)
MANY, CHECK = 48, 40  # Gauss-Legendre nodes of the two rules that the integral is known from

Rule = tuple[Tensor, Tensor]  # t and weights


def main(
    model: str = "menagerie/squeezenet",
    weights: Annotated[str, typer.Option(help="a file, 'default' or 'none' for random")] = "default",
    data: str = "menagerie",
    count: int = 20,
    seed: int = 0,
    output: Path | None = None,
) -> None:
    started = time.time()
    options = {"model": model, "weights": weights, "data": data, "count": count, "seed": seed}
    parameters = {"models": [model], "weights": {} if weights == "default" else {model: Path(weights).name}}
    parameters |= {"data": Path(data).name, "count": count, "seed": seed}
    net = iscam.load_model(model, None if weights == "none" else weights)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    frame, spent = begun(output, parameters)
    for picture in tqdm(iscam.load_images(data, count, seed), desc="pictures", total=count, disable=None):
        if picture.name in set(frame["picture"]):
            continue
        view = observe(net, picture.image.to(net.device))
        found = pd.DataFrame([{"model": model, "picture": picture.name} | row for row in errors(view)])
        frame = pd.concat([frame, found]) if len(frame) else found
        if output:  # after each picture, so that an interrupted run loses one
            command = shown_command("benchmarks/nodes.py", options)
            record(frame, output, parameters, spent + time.time() - started, command)
    worst = frame.groupby(["of", "rule", "passes a channel"], sort=False)[["weight error", "map error"]].max()
    print(worst.round(4).to_string())


def begun(output: Path | None, parameters: dict[str, Any]) -> tuple[pd.DataFrame, float]:
    """The pictures that an earlier run into the same file has done, and its seconds."""
    if output is None or not output.with_suffix(".json").exists():
        return pd.DataFrame({"picture": []}), 0.0
    run = json.loads(output.with_suffix(".json").read_text())
    if {key: run["parameters"].get(key) for key in parameters} != parameters:
        raise SystemExit(f"{output} holds a run of {run['command']}: choose another --output")
    return pd.read_parquet(output.with_suffix(".parquet")), run["seconds"]


def errors(view: View) -> list[dict[str, object]]:
    """Every rule's error in the weights (relative to the largest one) and in the map, for one picture."""
    rows = []
    for of, (exact, rules) in {
        "sum of 15 steps": (path(STEPS, "cumulative", None), sum_rules()),
        "integral": (path(MANY, "integral", None), integral_rules()),
    }.items():
        right, right_map = solved(view, exact)
        right_score = float(seen_through(view.net, view.image, right_map, view.target))
        for (name, passes), rule in rules.items():
            found, map = solved(view, rule)
            rows.append(
                {
                    "of": of,
                    "rule": name,
                    "passes a channel": passes,
                    "weight error": float((found - right).abs().max() / right.abs().max()),
                    "map error": float((map - right_map).abs().max()),
                    "confidence error": abs(float(seen_through(view.net, view.image, map, view.target)) - right_score),
                }
            )
    return rows


def solved(view: View, rule: Rule | None) -> tuple[Tensor, Tensor]:
    """Weights and map of a rule; None: equal weights."""
    channels = len(view.activations)
    alpha = channel_weights(view, *rule) if rule else torch.ones(channels, device=view.image.device)
    return alpha, weighted_map(alpha, view.activations.detach(), view.image.shape[1:])


def sum_rules() -> dict[tuple[str, int], Rule | None]:
    gauss = {("Gauss", n): path(STEPS, "cumulative", n) for n in NODES}
    return gauss | {("trapezoid", n): trapezoid_of_sum(n) for n in NODES if n > 1} | controls()


def integral_rules() -> dict[tuple[str, int], Rule | None]:
    gauss = {("Gauss", n): path(n, "integral", None) for n in (*NODES, CHECK)}
    linear = {("linear", n): path(n, "linear", None) for n in (5, STEPS)}
    return gauss | linear | {("trapezoid", n): trapezoid_of_integral(n) for n in NODES if n > 1} | controls()


def controls() -> dict[tuple[str, int], Rule | None]:
    one = torch.ones(1)
    return {("Score-CAM, t = 1", 1): (one, one), ("t = 1/2", 1): (one / 2, one), ("equal weights", 0): None}


def trapezoid_of_sum(n: int) -> Rule:
    """The sum over i = 1..N as an integral over [1/2, N + 1/2], by n evenly spaced points."""
    i = np.linspace(0.5, STEPS + 0.5, n)
    return as_rule(i * (i + 1) / (2 * STEPS), n)


def trapezoid_of_integral(n: int) -> Rule:
    return as_rule(np.linspace(0, 1, n), n)


def as_rule(t: np.ndarray, n: int) -> Rule:
    w = np.full(n, 1 / (n - 1))
    w[[0, -1]] /= 2
    return torch.from_numpy(t).float(), torch.from_numpy(w).float()


if __name__ == "__main__":
    typer.run(main)
