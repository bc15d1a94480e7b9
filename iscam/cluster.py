"""A study on Ray: the same rows from many workers, on one machine or a cluster (`pip install iscam[ray]`); its cost."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from iscam.cache import cache_folder
from iscam.data import Images
from iscam.errors import MACHINE_ERRORS, InputError
from iscam.masks import masked_scores
from iscam.methods import METHODS, options
from iscam.metrics import needs
from iscam.network import Network
from iscam.results import data_folder, device_name
from iscam.study import Row, Study, Task, failed_rows, loaded, picture_rows

#: Workers that a picture may take with it before it is given up.
LOSSES = 3

#: Points of an insertion or deletion curve: 224x224 pixels, 224 a step, both ends.
POINTS = 225

#: Passes that a gradient costs: one forward, and one backward of about twice the work.
GRADIENT = 3


class Worker:
    """One GPU's or one core's share of a study; its network stays from one picture to the next."""

    def __init__(self, study: Study, dataset: Images, folder: str, cache: str) -> None:
        self.study, self.dataset = study, dataset
        os.chdir(folder)  # relative paths mean the same here and where the study was started
        os.environ["ISCAM_CACHE"] = cache
        torch.set_num_threads(1)

    def rows(self, model: str, i: int) -> list[Row]:
        """All rows of one picture; where the machine fails, the worker ends, and another may have the picture."""
        try:
            net = loaded(model, self.study.weights.get(model, "default"))
            return picture_rows(self.study, model, net, self.dataset, i)
        except MACHINE_ERRORS:
            os._exit(1)

    def ready(self) -> str:
        """The device that the worker runs on, once it has a place in the cluster."""
        return device_name()


def run_on_ray(
    study: Study, dataset: Images, tasks: Sequence[Task], address: str | None, devices: set[str]
) -> Iterator[list[Row]]:
    """The rows of each task, in the order in which they are done; `devices` gets the names of the workers' devices.

    There is a worker for each GPU, or for each core where the cluster has no GPU. A lost worker is replaced when there
    is room again, and its picture is done by another; a picture that has lost three workers gets rows that say so.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("the engine 'ray' needs Ray: pip install 'iscam[ray]'") from error
    check_reachable(address)
    try:
        connection = ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:  # no cluster to be found, or this process is in one already
        raise InputError(f"Ray cannot be started: {' '.join(str(error).split())}") from error
    with connection:
        gpus, cpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        kind: Any = ray.remote(num_gpus=1)(Worker) if gpus else ray.remote(num_cpus=1)(Worker)
        shared = [ray.put(part) for part in (study, dataset)]
        running: dict[Any, tuple[Any, Task | None]] = {}  # what each worker was asked: a picture, or to be ready

        def hire() -> None:
            worker = kind.remote(*shared, str(Path.cwd()), str(cache_folder().resolve()))
            running[worker.ready.remote()] = (worker, None)

        for _ in range(min(gpus or cpus, len(tasks))):
            hire()
        waiting, lost = deque(tasks), Counter[Task]()
        idle: list[Any] = []
        while waiting or any(task for _, task in running.values()):
            while waiting and idle:
                worker, following = idle.pop(), waiting.popleft()
                running[worker.rows.remote(*following)] = (worker, following)
            (done,), _ = ray.wait([*running])
            worker, task = running.pop(done)
            try:
                found = ray.get(done)
            except ray.exceptions.RayActorError as error:
                if task is None:
                    raise InputError(f"a worker cannot start: {error}") from error
                hire()
                lost[task] += 1
                if lost[task] < LOSSES:
                    waiting.append(task)
                else:
                    yield given_up(study, dataset, *task)
                continue
            idle.append(worker)
            if task:
                yield found
            else:
                devices.add(found)


def check_reachable(address: str | None) -> None:
    """Nothing where a cluster may be, else `InputError`: Ray itself would try for minutes and end the process."""
    host, _, port = (address or "").partition(":")
    if port.isdecimal():  # not "auto", nor a client's ray://
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"no Ray cluster answers at {address}: {error}") from error


def given_up(study: Study, dataset: Images, model: str, i: int) -> list[Row]:
    """The rows of a picture that its workers do not survive."""
    base: Row = {"model": model, "picture": dataset.entries[i].name, "target": -1}
    error = RuntimeError(f"{LOSSES} workers were lost with this picture, perhaps for want of memory")
    return [base | row for name in study.methods for row in failed_rows(study, name, error)]


def passes(study: Study, channels: int) -> pd.DataFrame:
    """Forward passes that one picture takes: rows method, map, metrics and total, one for each method of the study.

    `channels` is K, at most so many of which are alive. A gradient counts as two more passes. Left out are the two or
    three passes that a picture takes whatever the methods.
    """
    curves = sum(metric.partition(":")[0] in ("insertion", "deletion") for metric in study.metrics)
    times = 1 + any("maps_again" in needs(metric) for metric in study.metrics)
    rows = pd.DataFrame(
        {"method": name, "map": times * map_passes(chosen.get("method", name), chosen, channels)}
        for name, chosen in study.methods.items()
    )
    rows["metrics"] = 1 + curves * POINTS  # C(X o L), which drop, increase and win share
    rows["total"] = rows["map"] + rows["metrics"]
    return rows


def map_passes(method: str, chosen: Mapping[str, Any], channels: int) -> int:
    """Passes of one map; the first one records the activations."""
    if method not in METHODS:
        return 1
    given: dict[str, Any] = {**options(METHODS[method]), **chosen}
    if "score" not in given:
        return 1 if method == "cam" else GRADIENT * (1 + given.get("samples", 0))
    schedule = given.get("schedule", "")
    repeats = given.get("nodes") or given.get("steps") or given.get("samples") or 1
    return 1 + channels * (repeats if isinstance(schedule, str) else len(schedule))


def passes_per_second(net: Network, count: int = 4, side: int = 224) -> float:
    """Measured rate of the loop of forward passes, on the network's device, after as many to warm up."""
    images = torch.rand(count, 3, side, side, device=net.device)
    score = partial(masked_scores, net, lambda passes: (images[passes.start : passes.stop],), count, 0)
    score()
    started = time.perf_counter()
    score().tolist()  # waits for the GPU
    return count / (time.perf_counter() - started)


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
