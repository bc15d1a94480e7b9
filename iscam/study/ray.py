"""A study on Ray: the same rows, computed by one worker per GPU or core."""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from iscam.data import ImageDataset
from iscam.download import cache_folder
from iscam.errors import DEVICE_ERRORS, InputError
from iscam.study.evaluate import Row, Task, failed_rows, get_network, image_rows
from iscam.study.provenance import device_name
from iscam.study.spec import Study

#: Workers that an image may take with it before it is given up.
LOSSES = 3


class Worker:
    """One GPU's or one core's share of a study; its network stays from one image to the next."""

    def __init__(self, study: Study, dataset: ImageDataset, folder: str, cache: str) -> None:
        self.study, self.dataset = study, dataset
        os.chdir(folder)  # relative paths mean the same here and where the study was started
        os.environ["ISCAM_CACHE"] = cache
        torch.set_num_threads(1)

    def rows(self, model: str, i: int) -> list[Row]:
        """All rows of one image; where the machine fails, the worker ends, and another may have the image."""
        try:
            net = get_network(model, self.study.weights.get(model, "default"))
            return image_rows(self.study, model, net, self.dataset, i)
        except DEVICE_ERRORS:
            os._exit(1)

    def ready(self) -> str:
        """The device that the worker runs on, once it has a place in the cluster."""
        return device_name()


def run_on_ray(
    study: Study, dataset: ImageDataset, tasks: Sequence[Task], address: str | None, devices: set[str]
) -> Iterator[list[Row]]:
    """The rows of each task, in the order in which they are done; `devices` gets the names of the workers' devices.

    There is a worker for each GPU, or for each core where the cluster has no GPU. A lost worker is replaced when there
    is room again, and its image is done by another; an image that has lost three workers gets rows that say so.
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
        running: dict[Any, tuple[Any, Task | None]] = {}  # what each worker was asked: an image, or to be ready

        def start_worker() -> None:
            worker = kind.remote(*shared, str(Path.cwd()), str(cache_folder().resolve()))
            running[worker.ready.remote()] = (worker, None)

        for _ in range(min(gpus or cpus, len(tasks))):
            start_worker()
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
                start_worker()
                lost[task] += 1
                if lost[task] < LOSSES:
                    waiting.append(task)
                else:
                    yield skipped_rows(study, dataset, *task)
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


def skipped_rows(study: Study, dataset: ImageDataset, model: str, i: int) -> list[Row]:
    """The rows of an image that its workers do not survive."""
    base: Row = {"model": model, "image": dataset.entries[i].name, "target": -1}
    error = RuntimeError(f"{LOSSES} workers were lost with this image, perhaps for want of memory")
    return [base | row for name in study.methods for row in failed_rows(study, name, error)]
