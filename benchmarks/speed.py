#!/usr/bin/env python3
"""Seconds that maps and curves take, beside peers and beside the floor of bare forward passes, in one run.

    python benchmarks/speed.py --data ILSVRC_FOLDER [--weights FILE] [--model resnet18] [--output FILE.json]

Lines make the same maps, or a peer's like them, of one image; they take turns, and the median of the repeats counts.
A floor is the number of passes times the best median time of one pass, over batch sizes 4 to 256, compiled or not,
inputs ready, no masks; its passes take turns with the lines, so that a machine's slow minutes slow both. Peers run in a
process of their own: ours keeps the memory that it frees, which would speed up theirs as well. A line's first run is
not timed: it compiles what it needs, and tells the memory that the line takes above what the process held. Nor is the
run that wakes a process when its turn comes. On a GPU torch-cam runs in several batch sizes, of which the best counts.
Needs torch-cam and grad-cam (pip install torchcam grad-cam psutil); a peer that is missing is left out. bfloat16 lines
need --bf16, or a GPU.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import distributions
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import psutil
import torch
import typer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import iscam
from iscam.engine import scoring
from iscam.engine.allocator import keep_memory
from iscam.engine.compiling import compiled_copy
from iscam.maps import active, min_max, upsample
from iscam.record import forward_record
from iscam.reproduction.archive import script_command
from iscam.reproduction.benchmarks import benchmark_table
from iscam.study.provenance import provenance

BATCHES, ON_A_GPU = (4, 8, 16, 32, 64, 128, 256), (64, 256)  # compiled for each, which takes a GPU 10 seconds
PEER_BATCHES = (32, 128, 512)  # torch-cam's, on a GPU; the first is its default
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns of the matrices whose product tells the peak
STEPS = 15  # canonical IS-CAM's, whose sum fewer passes are tried on
MIDPOINTS = (5, 4)  # so many in their place, by the midpoint rule; five are the steps 2, 5, 8, 11 and 14
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
    started = time.time()
    batches = ON_A_GPU if torch.cuda.is_available() else BATCHES
    timings = timed(Setting(data, model, weights, layer, steps, bf16, batches), repeats)
    bare = [row for row in timings if row["task"] in ("floor", "matrix product")]
    rows = [row for row in timings if row not in bare]
    floors = {precision: floor(timings, precision) for precision in ["fp32", *["bf16"] * bf16]}
    found = provenance(
        {"model": model, "steps": steps, "repeats": repeats, "image": Path(data).name}, time.time() - started
    )
    found |= {
        "floors": floors,
        "lines": rows,
        "bare": bare,
        "rates": {model: rates(rows)},
    }
    found["versions"] |= {peer.name: peer.version for peer in distributions() if peer.name in ("torchcam", "grad-cam")}
    options = {"model": model, "weights": weights, "data": data, "layer": layer, "steps": steps, "repeats": repeats}
    found["command"] = script_command("benchmarks/speed.py", options) + " --bf16" * bf16
    print(benchmark_table(found).round(2).to_string(index=False))
    if output:
        output.write_text(json.dumps(found, indent=1))


class Setting(NamedTuple):
    """What a worker process makes its lines from."""

    data: str
    model: str
    weights: str
    layer: str | None
    steps: int
    bf16: bool
    batches: tuple[int, ...]


Line = dict[str, Any]

#: The lines of this process, if it is a worker.
LINES: dict[str, Line] = {}


def worker(make: Callable[..., dict[str, Line]], setting: Setting) -> ProcessPoolExecutor:
    """A process of its own for some lines."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=prepare, initargs=(make, setting))


def prepare(make: Callable[..., dict[str, Line]], setting: Setting) -> None:
    """In a worker: its lines."""
    net = iscam.load_model(setting.model, None if setting.weights == "none" else setting.weights, setting.layer)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    image = iscam.load_images(setting.data, count=1)[0].image.to(net.device)[None]
    torch._dynamo.config.recompile_limit = 64  # a batch size each; beyond the limit, torch runs uncompiled
    LINES.update(make(net, image, setting))


def described() -> dict[str, Line]:
    """The worker's lines, without what runs them."""
    return {name: {key: value for key, value in entry.items() if key != "run"} for name, entry in LINES.items()}


def first(name: str) -> float:
    """The first run of a line of this worker, which compiles what it needs: megabytes above what the process held."""
    gc.collect()
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # what the lines before it have kept would hide what this one takes
    with Peak() as peak:
        LINES[name]["run"]()
    return peak.megabytes


def clocked(name: str) -> tuple[float, np.ndarray]:
    """Seconds and result of a line of this worker."""
    gc.collect()
    wait()
    started = time.perf_counter()
    found = LINES[name]["run"]()
    wait()
    return time.perf_counter() - started, found.float().cpu().numpy()


def line(run: Callable[[], Tensor], passes: int, task: str, precision: str = "fp32", **more: Any) -> Line:
    return {"run": run, "passes": passes, "task": task, "precision": precision} | more


def ours(net: iscam.Network, image: Tensor, setting: Setting) -> dict[str, Line]:
    """Our maps in each mode, and insertion + deletion of one map."""
    found = in_float32(net, image, setting)
    for precision in ["fp32", *["bf16"] * setting.bf16]:
        found |= compiled(net, image, setting, precision)
    return found | curves(net, image)


def in_float32(net: iscam.Network, image: Tensor, setting: Setting) -> dict[str, Line]:
    """What is timed in float32 alone: the other methods, IS-CAM uncompiled, and with torch-cam's options."""
    channels, steps = live_channels(net, image), setting.steps
    n, run = channels * steps, partial(explained, net, image)
    like = run("is_cam", True, steps=steps, compile=True, **AS_TORCHCAM)
    return {
        "iscam Score-CAM": line(run("score_cam", compile=True), channels, "Score-CAM"),
        "iscam SS-CAM": line(run("ss_cam", samples=steps, compile=True), n, "SS-CAM"),
        "iscam IS-CAM, eager": line(run("is_cam", steps=steps, compile=False), n, "IS-CAM"),
        "iscam IS-CAM, eager, first layer once": line(run("is_cam", True, steps=steps, compile=False), n, "IS-CAM"),
        "iscam IS-CAM, torch-cam's options": line(like, n, "IS-CAM", like="torchcam"),
    }


def compiled(net: iscam.Network, image: Tensor, setting: Setting, precision: str) -> dict[str, Line]:
    """IS-CAM of N steps, and of 15 by all of them and by fewer passes, in one precision."""
    channels, steps = live_channels(net, image), setting.steps
    run = partial(explained, net, image, "is_cam", compile=True, precision=precision)
    mode, also = ("bf16", ", bf16") if precision == "bf16" else ("compiled", "")
    found = {
        f"iscam IS-CAM, {mode}": line(run(steps=steps), channels * steps, "IS-CAM", precision),
        f"iscam IS-CAM, {mode}, first layer once": line(run(True, steps=steps), channels * steps, "IS-CAM", precision),
        f"iscam {WHOLE}{also}": line(run(True, steps=STEPS), channels * STEPS, WHOLE, precision),
    }
    for points in MIDPOINTS[-1:] if image.is_cuda else MIDPOINTS:
        name = f"iscam {WHOLE}, by {points} midpoints{also}"
        found[name] = line(run(True, schedule=middles(points)), channels * points, WHOLE, precision)
    return found


def explained(
    net: iscam.Network, image: Tensor, method: str, first_layer_once: bool = False, **options: Any
) -> Callable[[], Tensor]:
    """What makes one map; IS-CAM shares the first layer between all t, or does not, however many the passes."""

    def run() -> Tensor:
        return iscam.explain(net, image, method=method, **options)

    return run


def curves(net: iscam.Network, image: Tensor) -> dict[str, Line]:
    """Insertion + deletion of one map."""
    map = torch.rand(1, *image.shape[2:], generator=torch.Generator().manual_seed(0)).to(image.device)
    targets = net(image).argmax(1)

    def both(compile: bool) -> Tensor:
        found = [find(net, image, map, targets, compile=compile) for find in (iscam.insertion, iscam.deletion)]
        return torch.cat([curve.scores for curve in found])

    return {
        f"iscam insertion + deletion, one map, {mode}": line(partial(both, mode == "compiled"), 2 * 225, "curves")
        for mode in ("eager", "compiled")
    }


def middles(n: int) -> list[float]:
    """The factors t in the middle of n equal parts of the 15 steps."""
    return [i * (i + 1) / (2 * STEPS) for i in (np.arange(n) + 0.5) * STEPS / n + 0.5]


def peers(net: iscam.Network, image: Tensor, setting: Setting) -> dict[str, Line]:
    """The same methods by torch-cam and pytorch-grad-cam, as they come, and ours in a loop that keeps no memory."""
    channels, every = live_channels(net, image), forward_record(net, image[0]).activations.shape[0]
    assert channels <= every, "peers score constant channels, too"
    map = explained(net, image, "is_cam", steps=setting.steps, compile=True)

    def forgetful() -> Tensor:
        vars(scoring)["keep_memory"] = lambda: None
        return map()

    found = by_torch_cam(net, image, setting.steps, every) | by_grad_cam(net, image, every)
    name = "iscam IS-CAM, compiled, freed memory given back"
    return found | {name: line(forgetful, channels * setting.steps, "IS-CAM")}


def by_torch_cam(net: iscam.Network, image: Tensor, steps: int, channels: int) -> dict[str, Line]:
    """Score-CAM, SS-CAM and IS-CAM by torch-cam, in its own batch size; on a GPU in others, too."""
    try:
        from torchcam import methods as torchcam
    except ImportError:
        print("torch-cam is not installed: pip install torchcam", file=sys.stderr)
        return {}
    target = int(net(image).argmax())

    def run(peer: Any, options: dict[str, int]) -> Tensor:
        with peer(net.model, net.layer, **options) as extractor, torch.inference_mode():
            net.model(image)
            return extractor(class_idx=target)[0]

    found = {}
    for size in PEER_BATCHES if image.is_cuda else PEER_BATCHES[:1]:
        for task, peer, samples in (
            ("Score-CAM", torchcam.ScoreCAM, None),
            ("SS-CAM", torchcam.SSCAM, steps),
            ("IS-CAM", torchcam.ISCAM, steps),
            (WHOLE, torchcam.ISCAM, STEPS),
        ):
            options = {"batch_size": size} | ({"num_samples": samples} if samples else {})
            name = f"torch-cam {task}" + f", batches of {size}" * (size != PEER_BATCHES[0])
            found[name] = line(partial(run, peer, options), channels * (samples or 1), task)
    return found


def by_grad_cam(net: iscam.Network, image: Tensor, channels: int) -> dict[str, Line]:
    """Score-CAM by pytorch-grad-cam."""
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


def live_channels(net: iscam.Network, image: Tensor) -> int:
    return int(active(forward_record(net, image[0]).activations).sum())


def timed(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Lines in turns, each in its worker."""
    with worker(peers, setting) as theirs, worker(ours, setting) as own, worker(bare, setting) as alone:
        workers = (theirs, own, alone)
        lines = {name: (pool, entry) for pool in workers for name, entry in pool.submit(described).result().items()}
        bar = tqdm(total=len(lines) * (1 + repeats), desc="runs", disable=None)
        seconds: dict[str, list[float]] = {name: [] for name in lines}
        memory: dict[str, float] = {}
        results: dict[str, Tensor] = {}
        for name, (pool, _) in lines.items():
            memory[name] = pool.submit(first, name).result()
            bar.update()
        awake = None
        for _ in range(repeats):
            for name, (pool, _) in lines.items():
                if pool is not awake:  # a process that has waited for minutes is slow at first
                    awake = pool
                    pool.submit(clocked, name).result()
                spent, found = pool.submit(clocked, name).result()
                seconds[name].append(spent)
                results[name] = torch.from_numpy(found)
                bar.update()
    return [
        entry
        | {"line": name, "seconds": seconds[name], "megabytes": memory[name]}
        | {"map_difference": difference(name, entry, results)}
        for name, (_, entry) in lines.items()
    ]


def difference(name: str, entry: Line, results: dict[str, Tensor]) -> float | None:
    """Largest difference of our maps from the eager float32 one, of fewer steps from all; of curves likewise."""
    if not name.startswith("iscam") or entry["task"] in ("Score-CAM", "SS-CAM"):
        return None
    if entry.get("like") == "torchcam":
        if "torch-cam IS-CAM" not in results:
            return None
        up = upsample(results["torch-cam IS-CAM"], results[name].shape[1:])
        return float((min_max(up) - results[name]).abs().max())
    exact = {
        "IS-CAM": "iscam IS-CAM, eager", WHOLE: f"iscam {WHOLE}", "curves": "iscam insertion + deletion, one map, eager"
    }  # fmt: skip
    return float((results[name] - results[exact[entry["task"]]]).abs().max())


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Peak:
    """Largest memory during a `with`, above what was in use before, in megabytes."""

    def __init__(self) -> None:
        self.cuda = torch.cuda.is_available()
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


def bare(net: iscam.Network, image: Tensor, setting: Setting) -> dict[str, Line]:
    """Passes of the bare network, compiled and not, in each precision, as many in each batch size; a matrix product."""
    sizes, device = setting.batches, net.device.type
    with FlopCounterMode(display=False) as counter:
        net(image)
    flop = counter.get_total_flops()

    def passes(batch: Tensor, precision: str, compile: bool) -> Callable[[], Tensor]:
        def run() -> Tensor:
            keep_memory()
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                model = compiled_copy(net, [batch]) or net.model if compile else net.model
                return torch.cat([model(batch) for _ in range(max(sizes) // len(batch))])

        return run

    batches = [image.expand(size, -1, -1, -1).contiguous(memory_format=torch.channels_last) for size in sizes]
    found = {}
    for precision in ["fp32", *["bf16"] * setting.bf16]:
        for batch, compile in product(batches, (False, True)):
            of = {"batch": len(batch), "compiled": compile, "flop": flop}
            name = f"floor, batches of {len(batch)}{', compiled' * compile}, {precision}"
            found[name] = line(passes(batch, precision, compile), max(sizes), "floor", precision, **of)
        name = f"matrix product, {precision}"
        found[name] = line(
            matrix_product(device, precision), 10, "matrix product", precision, flop=2 * MATRIX[device] ** 3
        )
    return found


def matrix_product(device: str, precision: str) -> Callable[[], Tensor]:
    """Ten products of two large matrices, in TensorFloat-32 where convolutions are."""
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


def floor(rows: list[dict[str, Any]], precision: str) -> float:
    """Passes a second of the bare network at its best."""
    bare = [row for row in rows if (row["task"], row["precision"]) == ("floor", precision)]
    return max(row["passes"] / statistics.median(row["seconds"]) for row in bare)


def rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Passes a second of our compiled IS-CAM in each precision, which costs of studies are estimated from."""
    lines = {"fp32": "iscam IS-CAM, compiled", "bf16": "iscam IS-CAM, bf16"}
    found = {row["line"]: row["passes"] / statistics.median(row["seconds"]) for row in rows}
    return {precision: found[line] for precision, line in lines.items() if line in found}


if __name__ == "__main__":
    typer.run(main)
