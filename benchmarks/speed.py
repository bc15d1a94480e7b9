#!/usr/bin/env python3
"""Time maps and curves in one run, and compare them with peers and with the floor of bare forward passes.

    python benchmarks/speed.py --data ILSVRC_FOLDER [--weights FILE] [--model resnet18] [--output FILE.json]

A line is one measurement. All lines make the same maps of one image, or the corresponding maps of a peer. They run in
turns, and the median of the repeats counts. The floor of a line is the number of its passes times the best median time
of one bare pass. A bare pass has prepared inputs and no masks. It is timed at batch sizes 4 to 256, compiled or not, in
turns with the lines, so that slow minutes of the machine affect both.

Peers run in a separate process. The process of this package keeps the memory that it frees, as `iscam study` and
`iscam explain` do, and this would speed up the peers as well. The line "default options" runs in the peers' process and
calls `iscam.explain` as a user of the library does. On a GPU, torch-cam runs with several batch sizes, and the fastest
one counts.

This script needs torch-cam, pytorch-grad-cam and psutil (pip install torchcam grad-cam psutil). A missing peer is left
out. Lines in bfloat16 need --bf16 or a GPU.

To compare two versions of this package, run these commands with each of them

    python benchmarks/speed.py --quick --model squeezenet1_0 --weights none --output squeezenet.json
    python benchmarks/speed.py --quick --model resnet18 --weights none --output resnet.json

and compare "times torch-cam" line by line. `--quick` uses two steps, two repeats and the most important lines. It takes
about five minutes per network on two cores. With an older version that lacks `--quick`, use `--steps 2 --repeats 2`;
its lines have the same names.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import distributions
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from workers import Line, line, run_in_turns, worker

import iscam
from iscam.engine.allocator import keep_memory
from iscam.engine.compiling import compiled_copy
from iscam.maps import active, min_max, upsample
from iscam.methods.score import MIN_PASSES_TO_SHARE
from iscam.record import forward_record
from iscam.reproduction.benchmarks import IS_CAM, IS_CAM_15, benchmark_table
from iscam.reproduction.commands import script_command
from iscam.study.provenance import provenance

BATCHES, GPU_BATCHES, QUICK_BATCHES = (4, 8, 16, 32, 64, 128, 256), (64, 256), (8, 32)  # for the bare network
PEER_BATCHES = (32, 128, 512)  # for torch-cam on a GPU; the first one is its default
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns of the matrices whose product gives the peak
STEPS = 15  # N of canonical IS-CAM; fewer passes approximate this sum
MIDPOINTS = (5, 4)  # passes of the midpoint rule; five passes score the steps 2, 5, 8, 11 and 14
ALL_STEPS = IS_CAM_15.removeprefix("iscam ")
AS_TORCHCAM = {"score": "logit", "channel_softmax": True, "normalise": "layer"}
QUICK_STEPS, QUICK_REPEATS = 2, 2

#: The lines that --quick runs in addition to the bare passes.
QUICK = (
    "iscam Score-CAM",
    f"{IS_CAM}, default options",
    f"{IS_CAM}, compiled, first layer once",
    "iscam insertion + deletion, one map, compiled",
    "torch-cam Score-CAM",
    "torch-cam IS-CAM",
)


def main(
    data: Annotated[str, typer.Option(help="ILSVRC folder, or 'menagerie'")] = "menagerie",
    model: str = "squeezenet1_0",
    weights: Annotated[str, typer.Option(help="a file, 'default', or 'none' for random weights")] = "default",
    layer: Annotated[str | None, typer.Option(help="explained layer, if not the default; for fewer channels")] = None,
    steps: Annotated[int, typer.Option(help="N of IS-CAM and SS-CAM")] = 3,
    repeats: int = 3,
    bf16: bool = torch.cuda.is_available(),
    quick: Annotated[bool, typer.Option(help="fewer lines, steps and repeats, to compare versions")] = False,
    output: Path | None = None,
) -> None:
    started = time.time()
    if quick:
        steps, repeats = QUICK_STEPS, QUICK_REPEATS
    setting = Setting(data, model, weights, layer, steps, bf16, quick)
    rows = measure(setting, repeats)
    bare = [row for row in rows if row["task"] in ("floor", "matrix product")]
    lines = [row for row in rows if row not in bare]
    parameters = {"model": model, "steps": steps, "repeats": repeats, "image": Path(data).name}
    run = provenance(parameters, time.time() - started)
    run |= {
        "floors": {precision: floor(bare, precision) for precision in setting.precisions},
        "lines": lines,
        "bare": bare,
        "rates": {model: rates(lines)},
    }
    run["versions"] |= {peer.name: peer.version for peer in distributions() if peer.name in ("torchcam", "grad-cam")}
    options: dict[str, Any] = {"model": model, "weights": weights, "data": data, "layer": layer}
    options |= {} if quick else {"steps": steps, "repeats": repeats}
    run["command"] = script_command("benchmarks/speed.py", options) + " --bf16" * bf16 + " --quick" * quick
    print(benchmark_table(run).round(2).to_string(index=False))
    if output:
        output.write_text(json.dumps(run, indent=1))


class Setting(NamedTuple):
    """The settings from which the lines of a run are made."""

    data: str
    model: str
    weights: str
    layer: str | None
    steps: int
    bf16: bool
    quick: bool

    @property
    def precisions(self) -> list[str]:
        return ["fp32", *["bf16"] * self.bf16]

    def load(self) -> tuple[iscam.Network, Tensor]:
        """The network and one image (1, channels, height, width), on the GPU if there is one."""
        net = iscam.load_model(self.model, None if self.weights == "none" else self.weights)
        net = net.with_layer(self.layer) if self.layer else net
        net = net.to("cuda" if torch.cuda.is_available() else "cpu")
        return net, iscam.load_images(self.data, count=1)[0].image.to(net.device)[None]

    def chosen(self, lines: dict[str, Line]) -> dict[str, Line]:
        """Select the lines that belong to this run."""
        quick = {name: entry for name, entry in lines.items() if name in QUICK or entry["task"] == "floor"}
        return quick if self.quick else lines


# -------------------------------------------------------------------------------------------------------- our lines


def ours(setting: Setting) -> dict[str, Line]:
    """Lines of our maps in each mode, and of insertion + deletion of one map, in a process that keeps freed memory."""
    keep_memory()
    net, image = setting.load()
    channels, n = live_channels(net, image), setting.steps
    run = partial(explained, net, image)
    lines = {
        "iscam Score-CAM": line(run("score_cam", compile=True), channels, "Score-CAM"),
        "iscam SS-CAM": line(run("ss_cam", samples=n, compile=True), channels * n, "SS-CAM"),
        f"{IS_CAM}, torch-cam's options": line(
            run("is_cam", steps=n, compile=True, **AS_TORCHCAM), channels * n, "IS-CAM", like="torchcam"
        ),
    }
    lines |= is_cam_lines(setting, net, image, "eager", compile=False)
    for precision in setting.precisions:
        mode = "bf16" if precision == "bf16" else "compiled"
        lines |= is_cam_lines(setting, net, image, mode, compile=True, precision=precision)
        lines |= fewer_passes(setting, net, image, precision)
    return setting.chosen(lines | curves(net, image))


def is_cam_lines(setting: Setting, net: iscam.Network, image: Tensor, mode: str, **options: Any) -> dict[str, Line]:
    """IS-CAM of N steps, with the first layer computed for each pass; for many passes also once for all steps."""
    passes = live_channels(net, image) * setting.steps
    precision = options.get("precision", "fp32")
    unshared = iscam.shifted(net, 0)  # subtracts 0, so that the first layer is not a convolution of the image
    lines = {f"{IS_CAM}, {mode}": explained(unshared, image, "is_cam", steps=setting.steps, **options)}
    if passes >= MIN_PASSES_TO_SHARE:
        once = explained(net, image, "is_cam", steps=setting.steps, **options)
        lines[f"{IS_CAM}, {mode}, first layer once"] = once
    return {name: line(run, passes, "IS-CAM", precision) for name, run in lines.items()}


def fewer_passes(setting: Setting, net: iscam.Network, image: Tensor, precision: str) -> dict[str, Line]:
    """Canonical IS-CAM, with all of its steps and with fewer passes, compiled."""
    channels, suffix = live_channels(net, image), ", bf16" * (precision == "bf16")
    run = partial(explained, net, image, "is_cam", compile=True, precision=precision)
    lines = {f"{IS_CAM_15}{suffix}": line(run(steps=STEPS), channels * STEPS, ALL_STEPS, precision)}
    for points in MIDPOINTS[-1:] if image.is_cuda else MIDPOINTS:
        name = f"{IS_CAM_15}, by {points} midpoints{suffix}"
        lines[name] = line(run(schedule=midpoints(points)), channels * points, ALL_STEPS, precision)
    return lines


def explained(net: iscam.Network, image: Tensor, method: str, **options: Any) -> Callable[[], Tensor]:
    """Return a function that makes one map."""
    return partial(iscam.explain, net, image, method=method, **options)


def curves(net: iscam.Network, image: Tensor) -> dict[str, Line]:
    """Insertion + deletion of one map."""
    saliency = torch.rand(1, *image.shape[2:], generator=torch.Generator().manual_seed(0)).to(image.device)
    targets = net(image).argmax(1)

    def both(compiled: bool) -> Tensor:
        found = [curve(net, image, saliency, targets, compile=compiled) for curve in (iscam.insertion, iscam.deletion)]
        return torch.cat([curve.scores for curve in found])

    return {
        f"iscam insertion + deletion, one map, {mode}": line(partial(both, mode == "compiled"), 2 * 225, "curves")
        for mode in ("eager", "compiled")
    }


def midpoints(n: int) -> list[float]:
    """The factors t at the midpoints of n equal parts of the 15 steps."""
    return [i * (i + 1) / (2 * STEPS) for i in (np.arange(n) + 0.5) * STEPS / n + 0.5]


def live_channels(net: iscam.Network, image: Tensor) -> int:
    return int(active(forward_record(net, image[0]).activations).sum())


# ------------------------------------------------------------------------------------------------------------ peers


def peers(setting: Setting) -> dict[str, Line]:
    """The same methods computed with torch-cam and pytorch-grad-cam at their defaults, and ours without kept memory."""
    net, image = setting.load()
    live, channels = live_channels(net, image), forward_record(net, image[0]).activations.shape[0]
    steps = setting.steps
    compiled = explained(iscam.shifted(net, 0), image, "is_cam", steps=steps, compile=True)
    mine = {
        f"{IS_CAM}, compiled, freed memory given back": line(compiled, live * steps, "IS-CAM"),
        f"{IS_CAM}, default options": line(explained(net, image, "is_cam", steps=steps), live * steps, "IS-CAM"),
    }
    return setting.chosen(by_torch_cam(net, image, steps, channels) | by_grad_cam(net, image, channels) | mine)


def by_torch_cam(net: iscam.Network, image: Tensor, steps: int, channels: int) -> dict[str, Line]:
    """Score-CAM, SS-CAM and IS-CAM computed with torch-cam at its default batch size; on a GPU also at others."""
    try:
        from torchcam import methods as torchcam
    except ImportError:
        print("torch-cam is not installed: pip install torchcam", file=sys.stderr)
        return {}
    target = int(net(image).argmax())

    def run(method: Any, options: dict[str, int]) -> Tensor:
        with method(net.model, net.layer, **options) as extractor, torch.inference_mode():
            net.model(image)
            return extractor(class_idx=target)[0]

    lines = {}
    tasks = (
        ("Score-CAM", torchcam.ScoreCAM, None),
        ("SS-CAM", torchcam.SSCAM, steps),
        ("IS-CAM", torchcam.ISCAM, steps),
        (ALL_STEPS, torchcam.ISCAM, STEPS),
    )
    for size, (task, method, samples) in product(PEER_BATCHES if image.is_cuda else PEER_BATCHES[:1], tasks):
        options = {"batch_size": size} | ({"num_samples": samples} if samples else {})
        name = f"torch-cam {task}" + f", batches of {size}" * (size != PEER_BATCHES[0])
        lines[name] = line(partial(run, method, options), channels * (samples or 1), task)
    return lines


def by_grad_cam(net: iscam.Network, image: Tensor, channels: int) -> dict[str, Line]:
    """Score-CAM computed with pytorch-grad-cam."""
    try:
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        print("pytorch-grad-cam is not installed: pip install grad-cam", file=sys.stderr)
        return {}
    target = ClassifierOutputTarget(int(net(image).argmax()))

    def run() -> Tensor:
        with ScoreCAM(net.model, [net.model.get_submodule(net.layer)]) as cam:
            return torch.as_tensor(cam(image, [target]))

    return {"pytorch-grad-cam Score-CAM": line(run, channels, "Score-CAM")}


# ------------------------------------------------------------------------------------------------------- bare passes


def bare(setting: Setting) -> dict[str, Line]:
    """Passes of the bare network at each batch size and precision, compiled or not, and a matrix product."""
    keep_memory()
    net, image = setting.load()
    device = net.device.type
    sizes = QUICK_BATCHES if setting.quick else GPU_BATCHES if image.is_cuda else BATCHES
    with FlopCounterMode(display=False) as counter:
        net(image)
    flop = counter.get_total_flops()

    def passes(batch: Tensor, precision: str, compiled: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                model = compiled_copy(net, [batch]) if compiled else None
                return torch.cat([(model or net.model)(batch) for _ in range(max(sizes) // len(batch))])

        return run

    batches = [image.expand(size, -1, -1, -1).contiguous(memory_format=torch.channels_last) for size in sizes]
    lines = {}
    for precision in setting.precisions:
        for batch, compiled in product(batches, (False, True)):
            details = {"batch": len(batch), "compiled": compiled, "flop": flop}
            name = f"floor, batches of {len(batch)}{', compiled' * compiled}, {precision}"
            lines[name] = line(passes(batch, precision, compiled), max(sizes), "floor", precision, **details)
        product_flop = 2 * MATRIX[device] ** 3
        product_line = line(matrix_product(device, precision), 10, "matrix product", precision, flop=product_flop)
        lines[f"matrix product, {precision}"] = product_line
    return setting.chosen(lines)


def matrix_product(device: str, precision: str) -> Callable[[], Tensor]:
    """Ten products of two large matrices, in TensorFloat-32 if convolutions use it."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, MATRIX[device], MATRIX[device], device=device, dtype=kind)

    def run() -> Tensor:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        try:
            return torch.stack([(a @ b)[0, 0] for _ in range(10)])
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


# ---------------------------------------------------------------------------------------------------------- results


def measure(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Return one row per line: its description, seconds and megabytes, and the difference of its result."""
    makers = {"peers": peers, "ours": ours, "bare": bare}
    pools = {name: worker(make, setting) for name, make in makers.items()}
    try:
        lines = run_in_turns(pools, repeats)
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)
    results = {name: entry.pop("result") for name, entry in lines.items()}
    return [entry | {"line": name, "map_difference": difference(name, entry, results)} for name, entry in lines.items()]


def difference(name: str, entry: Line, results: dict[str, Tensor]) -> float | None:
    """The largest difference of our result from the exact one, or from torch-cam's; None if there is no reference."""
    if not name.startswith("iscam") or entry["task"] in ("Score-CAM", "SS-CAM"):
        return None
    exact = {"IS-CAM": f"{IS_CAM}, eager", ALL_STEPS: IS_CAM_15, "curves": "iscam insertion + deletion, one map, eager"}
    reference = "torch-cam IS-CAM" if entry.get("like") == "torchcam" else exact[entry["task"]]
    if reference not in results:
        return None
    if reference == "torch-cam IS-CAM":
        return float((min_max(upsample(results[reference], results[name].shape[1:])) - results[name]).abs().max())
    return float((results[name] - results[reference]).abs().max())


def floor(bare: list[dict[str, Any]], precision: str) -> float:
    """The highest rate of the bare network, in passes per second."""
    rows = [row for row in bare if (row["task"], row["precision"]) == ("floor", precision)]
    return max(row["passes"] / statistics.median(row["seconds"]) for row in rows)


def rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Passes per second of our compiled IS-CAM in each precision. The costs of studies are estimated from them."""
    lines = {"fp32": f"{IS_CAM}, compiled", "bf16": f"{IS_CAM}, bf16"}
    found = {row["line"]: row["passes"] / statistics.median(row["seconds"]) for row in rows}
    return {precision: found[line] for precision, line in lines.items() if line in found}


if __name__ == "__main__":
    typer.run(main)
