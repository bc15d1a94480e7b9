#!/usr/bin/env python3
"""Error of IS-CAM by fewer passes, against the sum of all its steps and against the integral it is compared with.

    python benchmarks/nodes.py [--model squeezenet1_0 --weights FILE --data ILSVRC_FOLDER] [--count 20] --output FILE

Rules for the cumulative sum of N = 15 steps and for the mean over t in [0, 1]: Gauss nodes (option `nodes`), the
midpoint rule (of five nodes: the steps 2, 5, 8, 11 and 14; option `schedule`) and the trapezoid rule at as many passes,
and as controls Score-CAM's one pass, one pass at t = 1/2 and equal weights. The integral is known from two rules that
share no node; their difference is a row, too. With --bf16 (or on a GPU), the sum, its Gauss and its midpoint rules in
bfloat16 as well. The same command resumes an interrupted run.
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

Key = tuple[str, str, int]  # what is approximated, by which rule, with how many passes a channel
Rule = tuple[Tensor, Tensor]  # t and weights

IN_BFLOAT16 = ("all steps", "Gauss", "midpoint")  # the sum's rules that are tried in both precisions
SUM, INTEGRAL = f"sum of {STEPS} steps", "integral"


def main(
    model: str = "menagerie/squeezenet",
    weights: Annotated[str, typer.Option(help="a file, 'default' or 'none' for random")] = "default",
    data: str = "menagerie",
    count: int = 20,
    seed: int = 0,
    channels: Annotated[int | None, typer.Option(help="weigh so many of the layer's channels, drawn by seed")] = None,
    nodes: Annotated[list[int], typer.Option(help="nodes of each rule; give it several times")] = NODES,
    integral: Annotated[bool, typer.Option(help="the integral, too, which takes most of the passes")] = True,
    many: Annotated[int, typer.Option(help="Gauss nodes that the integral is known from; 5/6 of them check it")] = 48,
    bf16: bool = torch.cuda.is_available(),
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
        view = some_channels(forward_record(net, image.image.to(net.device)), channels, seed)
        found = pd.DataFrame([{"model": model, "image": image.name} | row for row in errors(view, exact, rules, bf16)])
        frame = pd.concat([frame, found]) if len(frame) else found
        if output:  # after each image, so that an interrupted run loses one
            save_run(frame, output, parameters, spent + time.time() - started, command)
    worst = frame.groupby(["of", "rule", "passes a channel"], sort=False)[["weight error", "map error"]].max()
    print(worst.round(4).to_string())


def some_channels(view: ForwardRecord, channels: int | None, seed: int) -> ForwardRecord:
    """The view of so many of the layer's channels, the same ones in every image; None: of all."""
    drawn = torch.randperm(len(view.activations), generator=generator(seed))[:channels]
    return dataclasses.replace(view, activations=view.activations[drawn.sort().values.to(view.image.device)])


def errors(view: ForwardRecord, exact: dict[str, Key], rules: dict[Key, Rule], bf16: bool) -> list[dict[str, object]]:
    """Every rule's error in the weights (relative to the largest one) and in the map, for one image."""
    found = solved(view, rules)
    if bf16:
        half = {key: rule for key, rule in rules.items() if key[0] == SUM and key[1] in IN_BFLOAT16}
        for (of, rule, passes), alpha in solved(view, half, precision="bf16").items():
            found[of, f"{rule}, bfloat16", passes] = alpha
    found |= {(of, "equal weights", 0): torch.ones(len(view.activations), device=view.image.device) for of in exact}
    maps = {key: weighted_map(alpha, view.activations.detach(), view.image.shape[1:]) for key, alpha in found.items()}
    kept = {key: float(masked_confidence(view.net, view.image, map, view.target)) for key, map in maps.items()}
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


def solved(view: ForwardRecord, rules: dict[Key, Rule], **options: Any) -> dict[Key, Tensor]:
    """The weights of the channels by each rule; a t that several rules have is scored once."""
    t, place = torch.cat([t for t, _ in rules.values()]).unique(return_inverse=True)
    column = torch.cat([torch.full(t.shape, i) for i, (t, _) in enumerate(rules.values())])
    w = torch.zeros(len(t), len(rules))
    w.index_put_((place, column), torch.cat([w for _, w in rules.values()]), accumulate=True)
    return dict(zip(rules, channel_weights(view, t, w, ScoreOptions(**options)).T, strict=True))


def sum_rules(nodes: Sequence[int]) -> dict[Key, Rule]:
    gauss = {(SUM, "Gauss", n): quadrature(STEPS, "cumulative", n) for n in nodes}
    midpoint = {(SUM, "midpoint", n): at_steps(middles(n) * STEPS + 0.5, np.full(n, 1 / n)) for n in nodes}
    trapezoid = {(SUM, "trapezoid", n): at_steps(np.linspace(0.5, STEPS + 0.5, n), ends(n)) for n in nodes if n > 1}
    return {(SUM, "all steps", STEPS): quadrature(STEPS, "cumulative", None)} | gauss | midpoint | trapezoid


def integral_rules(nodes: Sequence[int], many: int) -> dict[Key, Rule]:
    gauss = {(INTEGRAL, "Gauss", n): quadrature(n, "integral", None) for n in (*nodes, many * 5 // 6, many)}
    linear = {(INTEGRAL, "linear", n): quadrature(n, "linear", None) for n in (5, STEPS)}
    midpoint = {(INTEGRAL, "midpoint", n): rule(middles(n), np.full(n, 1 / n)) for n in nodes}
    trapezoid = {(INTEGRAL, "trapezoid", n): rule(np.linspace(0, 1, n), ends(n)) for n in nodes if n > 1}
    return gauss | linear | midpoint | trapezoid


def controls(of: str) -> dict[Key, Rule]:
    one = torch.ones(1)
    return {(of, "Score-CAM, t = 1", 1): (one, one), (of, "t = 1/2", 1): (one / 2, one)}


def middles(n: int) -> np.ndarray:
    """The middles of n equal parts of [0, 1]."""
    return (np.arange(n) + 0.5) / n


def ends(n: int) -> np.ndarray:
    """Weights of the trapezoid rule."""
    w = np.full(n, 1 / (n - 1))
    w[[0, -1]] /= 2
    return w


def at_steps(i: np.ndarray, w: np.ndarray) -> Rule:
    """The sum over i = 1..N as an integral over i in [1/2, N + 1/2]."""
    return rule(i * (i + 1) / (2 * STEPS), w)


def rule(t: np.ndarray, w: np.ndarray) -> Rule:
    return torch.from_numpy(t).float(), torch.from_numpy(w).float()


if __name__ == "__main__":
    typer.run(main)
