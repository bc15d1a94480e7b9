#!/usr/bin/env python3
"""Seconds that maps and curves take, beside peers and beside the floor of bare forward passes, in one run.

    python benchmarks/speed.py --data ILSVRC_FOLDER [--weights FILE] [--model resnet18] [--output FILE.json]

Every line does the same work on the same picture; lines take turns, and the median of the repeats counts. A floor is
the number of passes times the best median time of one pass, over batch sizes 4 to 256, compiled or not, inputs
ready, no masks; its passes take turns with the lines, so that a machine's slow minutes slow both. Compiling is not
counted. Needs torch-cam and grad-cam (pip install torchcam grad-cam psutil); a peer that is missing is left out.
bfloat16 lines need --bf16, or a GPU.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from torch import Tensor
from tqdm import tqdm

import iscam
from iscam import masks
from iscam.activations import live, observe
from iscam.memory import kept_memory
from iscam.methods import score
from iscam.results import benchmark_table, provenance, shown_command

BATCHES = (4, 8, 16, 32, 64, 128, 256)
STEPS, NODES = 15, 5  # the sum that fewer passes are tried on: canonical IS-CAM, and the nodes in place of its steps
WHOLE = f"IS-CAM of {STEPS} steps"
AS_TORCHCAM = {"score": "logit", "channel_softmax": True, "normalise": "layer"}


def main(
    data: Annotated[str, typer.Option(help="ILSVRC folder, or 'menagerie'")] = "menagerie",
    model: str = "squeezenet1_0",
    weights: Annotated[str, typer.Option(help="a file, 'default' or 'none' for random")] = "default",
    layer: Annotated[str | None, typer.Option(help="another layer than the network's own, for fewer channels")] = None,
    steps: Annotated[int, typer.Option(help="N of IS-CAM and SS-CAM")] = 3,
    repeats: int = 3,
    bf16: bool = torch.cuda.is_available(),
    output: Path | None = None,
) -> None:
    net = iscam.load_model(model, None if weights == "none" else weights, layer)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    image = iscam.load_images(data, count=1)[0].image.to(net.device)[None]
    started = time.time()
    torch._dynamo.config.recompile_limit = 64  # a batch size each; beyond the limit, torch runs uncompiled
    precisions = ["fp32", *["bf16"] * bf16]
    bare = {name: entry for precision in precisions for name, entry in bare_passes(net, image, precision).items()}
    timings = timed(peers(net, image, steps) | ours(net, image, steps, bf16) | bare, repeats, net.device)
    rows = [row for row in timings if row["line"] not in bare]
    floors = {precision: floor(timings, precision) for precision in precisions}
    found = provenance(
        {"model": model, "steps": steps, "repeats": repeats, "picture": Path(data).name}, time.time() - started
    )
    found |= {
        "floors": floors,
        "lines": rows,
        "bare": [row for row in timings if row["line"] in bare],
        "rates": {model: rates(rows)},
    }
    options = {"model": model, "weights": weights, "data": data, "layer": layer, "steps": steps, "repeats": repeats}
    found["command"] = shown_command("benchmarks/speed.py", options) + " --bf16" * bf16
    print(benchmark_table(found).round(2).to_string(index=False))
    if output:
        output.write_text(json.dumps(found, indent=1))


Line = dict[str, Any]


def line(run: Callable[[], Tensor], passes: int, task: str, precision: str = "fp32", **more: Any) -> Line:
    return {"run": run, "passes": passes, "task": task, "precision": precision} | more


def ours(net: iscam.Network, image: Tensor, steps: int, bf16: bool) -> dict[str, Line]:
    """Our maps in each mode, and insertion + deletion of one map."""
    channels = live_channels(net, image)
    map = torch.rand(1, *image.shape[2:], generator=torch.Generator().manual_seed(0)).to(image.device)

    def is_cam(first_layer_once: bool, keep: bool = True, **options: Any) -> Callable[[], Tensor]:
        def run() -> Tensor:
            score.MANY = 0 if first_layer_once else sys.maxsize
            masks.kept_memory = kept_memory if keep else nullcontext
            try:
                return iscam.explain(net, image, method="is_cam", **({"steps": steps} | options))
            finally:
                masks.kept_memory = kept_memory

        return run

    def both_curves() -> Tensor:
        return torch.cat([find(net, image, map).scores for find in (iscam.insertion, iscam.deletion)])

    def curves(compile: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:  # the metrics compile by themselves once the model has run for long
            masks.spent[net.model] = float("inf") if compile else float("-inf")
            return both_curves()

        return run

    n = channels * steps
    found = {
        "iscam Score-CAM": line(
            lambda: iscam.explain(net, image, method="score_cam", compile=True), channels, "Score-CAM"
        ),
        "iscam SS-CAM": line(
            lambda: iscam.explain(net, image, method="ss_cam", samples=steps, compile=True), n, "SS-CAM"
        ),
        "iscam IS-CAM, eager": line(is_cam(False, compile=False), n, "IS-CAM"),
        "iscam IS-CAM, eager, first layer once": line(is_cam(True, compile=False), n, "IS-CAM"),
        "iscam IS-CAM, compiled": line(is_cam(False, compile=True), n, "IS-CAM", warm=True),
        "iscam IS-CAM, compiled, freed memory given back": line(is_cam(False, False, compile=True), n, "IS-CAM"),
        "iscam IS-CAM, compiled, first layer once": line(is_cam(True, compile=True), n, "IS-CAM", warm=True),
        "iscam IS-CAM, torch-cam's options": line(
            is_cam(True, compile=True, **AS_TORCHCAM), n, "IS-CAM", like="torchcam"
        ),
        f"iscam {WHOLE}": line(is_cam(True, compile=True, steps=STEPS), channels * STEPS, WHOLE),
        f"iscam {WHOLE}, by {NODES} nodes": line(
            is_cam(True, compile=True, steps=STEPS, nodes=NODES), channels * NODES, WHOLE
        ),
        "iscam insertion + deletion, one map, eager": line(curves(False), 2 * 225, "curves"),
        "iscam insertion + deletion, one map, compiled": line(curves(True), 2 * 225, "curves"),
    }
    if bf16:
        found["iscam IS-CAM, bf16"] = line(
            is_cam(False, compile=True, precision="bf16"), n, "IS-CAM", "bf16", warm=True
        )
        found["iscam IS-CAM, bf16, first layer once"] = line(
            is_cam(True, compile=True, precision="bf16"), n, "IS-CAM", "bf16", warm=True
        )
        found[f"iscam {WHOLE}, bf16"] = line(
            is_cam(True, compile=True, precision="bf16", steps=STEPS), channels * STEPS, WHOLE, "bf16"
        )
        found[f"iscam {WHOLE}, by {NODES} nodes, bf16"] = line(
            is_cam(True, compile=True, precision="bf16", steps=STEPS, nodes=NODES), channels * NODES, WHOLE, "bf16"
        )
    return found


def peers(net: iscam.Network, image: Tensor, steps: int) -> dict[str, Line]:
    """The same methods by torch-cam and pytorch-grad-cam, as they come."""
    channels = live_channels(net, image)
    every = observe(net, image[0]).activations.shape[0]  # they score constant channels, too
    target = int(net(image).argmax())
    layer = net.model.get_submodule(net.layer)
    found: dict[str, Line] = {}
    try:
        from torchcam import methods as torchcam
    except ImportError:
        print("torch-cam is not installed: pip install torchcam", file=sys.stderr)
    else:

        def theirs(peer: Any, **options: Any) -> Callable[[], Tensor]:
            def run() -> Tensor:
                with peer(net.model, net.layer, **options) as extractor, torch.inference_mode():
                    net.model(image)
                    return extractor(class_idx=target)[0]

            return run

        n = every * steps
        found["torch-cam Score-CAM"] = line(theirs(torchcam.ScoreCAM), every, "Score-CAM")
        found["torch-cam SS-CAM"] = line(theirs(torchcam.SSCAM, num_samples=steps), n, "SS-CAM")
        found["torch-cam IS-CAM"] = line(theirs(torchcam.ISCAM, num_samples=steps), n, "IS-CAM", like="torchcam")
        found[f"torch-cam {WHOLE}"] = line(theirs(torchcam.ISCAM, num_samples=STEPS), every * STEPS, WHOLE)
    try:
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        print("pytorch-grad-cam is not installed: pip install grad-cam", file=sys.stderr)
    else:

        def grad_cams() -> Tensor:
            with ScoreCAM(net.model, [layer]) as cam:
                return torch.as_tensor(cam(image, [ClassifierOutputTarget(target)]))

        found["pytorch-grad-cam Score-CAM"] = line(grad_cams, every, "Score-CAM")
    assert channels <= every
    return found


def live_channels(net: iscam.Network, image: Tensor) -> int:
    return int(live(observe(net, image[0]).activations).sum())


def timed(lines: dict[str, Line], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Lines in turns; each network and mode is compiled before, by the lines that warm it up."""
    rows: list[dict[str, Any]] = []
    results: dict[str, Tensor] = {}
    for entry in lines.values():
        if entry.get("warm"):
            entry["run"]()
    bar = tqdm(total=len(lines) * repeats, desc="runs", disable=None)
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    memory: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(repeats):
        for name, entry in lines.items():
            with Peak(device) as peak:
                spent, found = clocked(entry["run"], device)
                seconds[name].append(spent)
            memory[name].append(peak.megabytes)
            results[name] = found.float().cpu()
            bar.update()
    for name, entry in lines.items():
        rows.append(
            {key: value for key, value in entry.items() if key not in ("run", "warm")}
            | {"line": name, "seconds": seconds[name], "megabytes": max(memory[name])}
            | {"map_difference": difference(name, entry, results)}
        )
    return rows


def difference(name: str, entry: Line, results: dict[str, Tensor]) -> float | None:
    """Largest difference of our maps from the eager float32 one, of fewer nodes from all steps; of curves likewise."""
    if not name.startswith("iscam") or entry["task"] in ("Score-CAM", "SS-CAM"):
        return None
    if entry.get("like") == "torchcam":
        if "torch-cam IS-CAM" not in results:
            return None
        up = score.upsample(results["torch-cam IS-CAM"], results[name].shape[1:])
        return float((score.to_unit_range(up) - results[name]).abs().max())
    exact = {
        "IS-CAM": "iscam IS-CAM, eager", WHOLE: f"iscam {WHOLE}", "curves": "iscam insertion + deletion, one map, eager"
    }  # fmt: skip
    return float((results[name] - results[exact[entry["task"]]]).abs().max())


def clocked(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    gc.collect()
    wait(device)
    started = time.perf_counter()
    found = run()
    wait(device)
    return time.perf_counter() - started, found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Peak:
    """Largest memory during a `with`, above what was in use before, in megabytes."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.megabytes = 0.0

    def used(self) -> float:
        return float(torch.cuda.memory_allocated() if self.cuda else psutil.Process().memory_info().rss)

    def __enter__(self) -> Peak:
        self.before, self.most, self.over = self.used(), 0.0, threading.Event()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def watch(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, self.used())

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.watcher.join()
        most = torch.cuda.max_memory_allocated() if self.cuda else self.most
        self.megabytes = max(0.0, most - self.before) / 1e6


def bare_passes(net: iscam.Network, image: Tensor, precision: str) -> dict[str, Line]:
    """Passes of the bare network, compiled and not, as many in each batch size."""

    def passes(batch: Tensor, compile: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:
            half = torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bf16")
            with torch.inference_mode(), half, kept_memory():
                model = masks.compiled_copy(net.model, [batch]) if compile else net.model
                return torch.cat([model(batch) for _ in range(max(BATCHES) // len(batch))])

        return run

    batches = [image.expand(size, -1, -1, -1).contiguous(memory_format=torch.channels_last) for size in BATCHES]
    return {
        f"floor, batches of {len(batch)}{', compiled' * compile}, {precision}": line(
            passes(batch, compile), max(BATCHES), "floor", precision, warm=True, batch=len(batch), compiled=compile
        )
        for batch in batches
        for compile in (False, True)
    }


def floor(rows: list[dict[str, Any]], precision: str) -> float:
    """Passes a second of the bare network at its best."""
    bare = [row for row in rows if row["task"] == "floor" and row["precision"] == precision]
    return max(row["passes"] / statistics.median(row["seconds"]) for row in bare)


def rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Passes a second of our compiled IS-CAM in each precision, which costs of studies are estimated from."""
    lines = {"fp32": "iscam IS-CAM, compiled", "bf16": "iscam IS-CAM, bf16"}
    found = {row["line"]: row["passes"] / statistics.median(row["seconds"]) for row in rows}
    return {precision: found[line] for precision, line in lines.items() if line in found}


if __name__ == "__main__":
    typer.run(main)
