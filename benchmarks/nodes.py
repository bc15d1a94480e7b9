#!/usr/bin/env python3
"""The error of IS-CAM with fewer passes, compared with the sum of all steps and with the integral over [0, 1].

    python benchmarks/nodes.py [--model squeezenet1_0 --weights FILE --data ILSVRC_FOLDER] [--count 20] --output FILE

Two quantities are approximated: the cumulative sum of N = 15 steps, and the mean over t in [0, 1]. The rules are Gauss
quadrature (option `nodes`), the midpoint rule (five nodes are the steps 2, 5, 8, 11 and 14; option `schedule`) and the
trapezoid rule with the same numbers of passes. The controls are Score-CAM's one pass, one pass at t = 1/2, and equal
weights. The integral is defined by a Gauss rule with many nodes; a second Gauss rule, which shares no node with the
first, checks it. With --bf16, or on a GPU, the sum and its Gauss and midpoint rules also run in bfloat16. The same
command resumes an interrupted run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor
from tqdm import tqdm

import iscam
from iscam.maps import weighted_map
from iscam.methods.options import ScoreOptions
from iscam.methods.schedules import quadrature
from iscam.methods.score import channel_weights
from iscam.metrics.confidence import masked_confidence
from iscam.record import ForwardRecord, forward_record
from iscam.reproduction.archive import load_partial, save_run
from iscam.reproduction.commands import script_command
from iscam.rng import generator

STEPS = 15
NODES = [1, 2, 3, 4, 5, 6]

#: The approximated quantity, the rule, and its passes per channel.
Key = tuple[str, str, int]

#: The factors t of a rule, and their weights.
Rule = tuple[Tensor, Tensor]

#: The quantities.
SUM, INTEGRAL = f"sum of {STEPS} steps", "integral"

#: The rules of the sum that also run in bfloat16.
IN_BFLOAT16 = ("all steps", "Gauss", "midpoint")


def main(
    model: str = "menagerie/squeezenet",
    weights: Annotated[str, typer.Option(help="a file, 'default', or 'none' for random weights")] = "default",
    data: str = "menagerie",
    count: int = 20,
    seed: int = 0,
    channels: Annotated[
        int | None, typer.Option(help="number of the layer's channels, drawn by seed; default: all")
    ] = None,
    nodes: Annotated[list[int], typer.Option(help="nodes of each rule; repeat the option for several")] = NODES,
    integral: Annotated[bool, typer.Option(help="also approximate the integral (most of the passes)")] = True,
    many: Annotated[int, typer.Option(help="Gauss nodes that define the integral; 5/6 as many check it")] = 48,
    bf16: bool = torch.cuda.is_available(),
    compiled: Annotated[bool, typer.Option(help="compile the network once, which takes a minute")] = True,
    output: Path | None = None,
) -> None:
    started = time.time()
    chosen: dict[str, Any] = {"count": count, "seed": seed, "channels": channels, "many": many}
    options = {"model": model, "weights": weights, "data": data} | chosen
    command = script_command("benchmarks/nodes.py", options) + " --bf16" * bf16 + " --no-integral" * (not integral)
    if nodes != NODES:
        chosen |= {"nodes": nodes}
        command += "".join(f" --nodes {n}" for n in nodes)
    files = {} if weights == "default" else {model: Path(weights).name}
    parameters = {"models": [model], "weights": files, "data": Path(data).name, "bf16": bf16, "integral": integral}
    parameters |= chosen
    exact: dict[str, Key] = {SUM: (SUM, "all steps", STEPS)}
    rules = sum_rules(nodes) | controls(SUM)
    if integral:
        exact |= {INTEGRAL: (INTEGRAL, "Gauss", many)}
        rules |= integral_rules(nodes, many) | controls(INTEGRAL)
    net = iscam.load_model(model, None if weights == "none" else weights)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    frame, spent = load_partial(output or "", parameters)
    for image in tqdm(iscam.load_images(data, count, seed), desc="images", total=count, disable=None):
        if image.name in set(frame["image"]):
            continue
        record = some_channels(forward_record(net, image.image.to(net.device)), channels, seed)
        rows = pd.DataFrame(
            [{"model": model, "image": image.name} | row for row in errors(record, exact, rules, bf16, compiled)]
        )
        frame = pd.concat([frame, rows]) if len(frame) else rows
        if output:  # after each image, so that an interrupted run loses one image
            save_run(frame, output, parameters, spent + time.time() - started, command)
    worst = frame.groupby(["of", "rule", "passes a channel"], sort=False)[["weight error", "map error"]].max()
    print(worst.round(4).to_string())


def some_channels(record: ForwardRecord, channels: int | None, seed: int) -> ForwardRecord:
    """The record with only some channels of the layer, the same ones for every image. None keeps all channels."""
    drawn = torch.randperm(len(record.activations), generator=generator(seed))[:channels]
    return dataclasses.replace(record, activations=record.activations[drawn.sort().values.to(record.image.device)])


def errors(
    record: ForwardRecord, exact: dict[str, Key], rules: dict[Key, Rule], bf16: bool, compiled: bool
) -> list[dict[str, object]]:
    """The error of every rule for one image: in the weights (relative to the largest), the map and the confidence."""
    found = rule_weights(record, rules, compile=compiled)
    if bf16:
        half = {key: rule for key, rule in rules.items() if key[0] == SUM and key[1] in IN_BFLOAT16}
        for (of, rule, passes), alpha in rule_weights(record, half, precision="bf16", compile=compiled).items():
            found[of, f"{rule}, bfloat16", passes] = alpha
    found |= {(of, "equal weights", 0): torch.ones(len(record.activations), device=record.image.device) for of in exact}
    activations, size = record.activations.detach(), record.image.shape[1:]
    maps = {key: weighted_map(alpha, activations, size) for key, alpha in found.items()}
    kept = {key: float(masked_confidence(record.net, record.image, each, record.target)) for key, each in maps.items()}
    return [
        {
            "of": of,
            "rule": rule,
            "passes a channel": passes,
            "weight error": float((alpha - found[exact[of]]).abs().max() / found[exact[of]].abs().max()),
            "map error": float((maps[of, rule, passes] - maps[exact[of]]).abs().max()),
            "confidence error": abs(kept[of, rule, passes] - kept[exact[of]]),
        }
        for (of, rule, passes), alpha in found.items()
        if (of, rule, passes) != exact[of]
    ]


def rule_weights(record: ForwardRecord, rules: dict[Key, Rule], **options: Any) -> dict[Key, Tensor]:
    """The weights of the channels under each rule. A t that several rules share is scored once."""
    t, place = torch.cat([t for t, _ in rules.values()]).unique(return_inverse=True)
    column = torch.cat([torch.full(t.shape, i) for i, (t, _) in enumerate(rules.values())])
    w = torch.zeros(len(t), len(rules))
    w.index_put_((place, column), torch.cat([w for _, w in rules.values()]), accumulate=True)
    return dict(zip(rules, channel_weights(record, t, w, ScoreOptions(**options)).T, strict=True))


def sum_rules(nodes: Sequence[int]) -> dict[Key, Rule]:
    """Rules for the sum of all steps."""
    gauss = {(SUM, "Gauss", n): quadrature(STEPS, "cumulative", n) for n in nodes}
    midpoint = {(SUM, "midpoint", n): at_steps(middles(n) * STEPS + 0.5, np.full(n, 1 / n)) for n in nodes}
    trapezoid = {(SUM, "trapezoid", n): at_steps(np.linspace(0.5, STEPS + 0.5, n), ends(n)) for n in nodes if n > 1}
    return {(SUM, "all steps", STEPS): quadrature(STEPS, "cumulative", None)} | gauss | midpoint | trapezoid


def integral_rules(nodes: Sequence[int], many: int) -> dict[Key, Rule]:
    """Rules for the mean over t in [0, 1]."""
    gauss = {(INTEGRAL, "Gauss", n): quadrature(n, "integral", None) for n in (*nodes, many * 5 // 6, many)}
    linear = {(INTEGRAL, "linear", n): quadrature(n, "linear", None) for n in (5, STEPS)}
    midpoint = {(INTEGRAL, "midpoint", n): rule(middles(n), np.full(n, 1 / n)) for n in nodes}
    trapezoid = {(INTEGRAL, "trapezoid", n): rule(np.linspace(0, 1, n), ends(n)) for n in nodes if n > 1}
    return gauss | linear | midpoint | trapezoid


def controls(of: str) -> dict[Key, Rule]:
    """One pass, at t = 1 or t = 1/2."""
    one = torch.ones(1)
    return {(of, "Score-CAM, t = 1", 1): (one, one), (of, "t = 1/2", 1): (one / 2, one)}


def middles(n: int) -> np.ndarray:
    """The midpoints of n equal parts of [0, 1]."""
    return (np.arange(n) + 0.5) / n


def ends(n: int) -> np.ndarray:
    """The weights of the trapezoid rule with n nodes."""
    w = np.full(n, 1 / (n - 1))
    w[[0, -1]] /= 2
    return w


def at_steps(i: np.ndarray, w: np.ndarray) -> Rule:
    """A rule at steps i in [1/2, N + 1/2], which need not be integers."""
    return rule(i * (i + 1) / (2 * STEPS), w)


def rule(t: np.ndarray, w: np.ndarray) -> Rule:
    return torch.from_numpy(t).float(), torch.from_numpy(w).float()


if __name__ == "__main__":
    typer.run(main)
