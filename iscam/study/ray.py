"""The engine that runs a study on a Ray cluster, with one worker per GPU, or per core of a cluster without GPUs.

Ray is an optional dependency.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from iscam.data import ImageDataset
from iscam.download import cache_folder
from iscam.engine.allocator import keep_memory
from iscam.errors import DEVICE_ERRORS, ClusterError, IscamError
from iscam.study.evaluate import NO_TARGET, Networks, failed_image, image_rows, inspect_networks
from iscam.study.provenance import device_name
from iscam.study.spec import Study
from iscam.study.store import Row, Task

#: Number of lost workers after which an image is skipped.
MAX_LOSSES = 3


@dataclass(frozen=True)
class Surroundings:
    """The settings that a worker process inherits from the process that started the study."""

    folder: str
    cache: str
    path: tuple[str, ...]

    @staticmethod
    def here() -> Surroundings:
        return Surroundings(str(Path.cwd()), str(cache_folder().resolve()), tuple(sys.path))

    def apply(self) -> None:
        os.chdir(self.folder)  # so that relative paths mean the same in both processes
        os.environ["ISCAM_CACHE"] = self.cache
        sys.path += [place for place in self.path if place not in sys.path]  # so that a user's models can be imported


class Worker:
    """A worker that evaluates images on one GPU or core. Its networks stay loaded between images."""

    def __init__(self, study: Study, dataset: ImageDataset, surroundings: Surroundings) -> None:
        surroundings.apply()
        keep_memory()
        torch.set_num_threads(1)
        self.study, self.dataset = study, dataset
        self.networks = Networks(study, "cuda" if torch.cuda.is_available() else "cpu")

    def rows(self, model: str, index: int, compiled: bool) -> list[Row]:
        """Return the rows of one image. If the device fails, the process exits and another worker gets the image."""
        try:
            return image_rows(self.study, self.networks, self.dataset, model, index, compiled)
        except DEVICE_ERRORS:
            os._exit(1)

    def ready(self) -> str:
        """Return the name of the worker's device."""
        return device_name()


@dataclass(frozen=True)
class Outcome:
    """The result of a worker.

    With a task, `result` holds the rows of the task, or None if the worker was lost. Without a task, it is the name of
    the worker's device.
    """

    task: Task | None
    result: Any = None


class WorkerPool:
    """A pool of Ray actors, each with at most one task. A lost actor is replaced when the cluster has a free slot."""

    def __init__(self, ray: Any, start: Callable[[], Any], size: int) -> None:
        self.ray, self.start = ray, start
        self.running: dict[Any, tuple[Any, Task | None]] = {}  # call -> (actor, task), or None for a call of `ready`
        self.idle: list[Any] = []
        for _ in range(size):
            self.add_worker()

    def add_worker(self) -> None:
        worker = self.start()
        self.running[worker.ready.remote()] = (worker, None)

    def submit(self, task: Task, compiled: bool) -> None:
        """Assign a task to an idle worker."""
        worker = self.idle.pop()
        self.running[worker.rows.remote(*task, compiled)] = (worker, task)

    def wait(self) -> Outcome:
        """Wait for the next outcome and return it.

        Raises ClusterError if a worker cannot start or fails. An IscamError of a worker is raised unchanged.
        """
        (done,), _ = self.ray.wait([*self.running])
        worker, task = self.running.pop(done)
        try:
            result = self.ray.get(done)
        except self.ray.exceptions.RayActorError as error:
            if task is None:
                raise ClusterError(f"a worker cannot start: {one_line(error)}") from error
            self.add_worker()
            return Outcome(task)
        except self.ray.exceptions.RayError as error:
            raise worker_error(error) from error
        self.idle.append(worker)
        return Outcome(task, result)


class RayExecutor:
    """An engine that evaluates images on the workers of a Ray cluster.

    A lost worker is replaced, and its image is assigned to another worker. If three workers are lost with the same
    image, the rows of the image record this error.
    """

    def __init__(self, study: Study, dataset: ImageDataset, address: str | None) -> None:
        self.study, self.dataset, self.address = study, dataset, address
        self.workers = 1
        self.device = "cpu"
        self.device_names: set[str] = set()

    def __enter__(self) -> RayExecutor:
        self.ray = import_ray()
        check_reachable(self.address)
        try:
            self.connection = self.ray.init(address=self.address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:  # no cluster, or already connected to a cluster
            raise ClusterError(f"cannot connect to Ray: {one_line(error)}") from error
        resources = self.ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.device = "cuda" if gpus else "cpu"
        self.workers = max(1, gpus or int(resources.get("CPU", 0)))
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.__exit__(*error)

    def inspect(self) -> dict[str, int]:
        """Check the networks in this process, on the CPU, because the workers use the GPUs."""
        return inspect_networks(self.study, Networks(self.study, "cpu"), self.dataset)

    def run(self, tasks: Sequence[Task], compiled: bool) -> Iterator[list[Row]]:
        """Yield the rows of each task, in the order in which the tasks finish."""
        pool = WorkerPool(self.ray, self.worker_factory(), min(self.workers, len(tasks)))
        waiting, losses, left = deque(tasks), Counter[Task](), len(tasks)
        while left:
            while waiting and pool.idle:
                pool.submit(waiting.popleft(), compiled)
            outcome = pool.wait()
            if outcome.task is None:
                self.device_names.add(outcome.result)
                continue
            losses[outcome.task] += outcome.result is None
            if outcome.result is None and losses[outcome.task] < MAX_LOSSES:
                waiting.append(outcome.task)
                continue
            left -= 1
            yield self.skipped_rows(outcome.task) if outcome.result is None else outcome.result

    def worker_factory(self) -> Callable[[], Any]:
        """Return a function that starts a worker."""
        resources = {"num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}
        actor = self.ray.remote(**resources)(Worker)
        arguments = [self.ray.put(each) for each in (self.study, self.dataset, Surroundings.here())]
        return lambda: actor.remote(*arguments)

    def skipped_rows(self, task: Task) -> list[Row]:
        """Return the rows of an image for which too many workers were lost."""
        model, index = task
        base: Row = {"model": model, "image": self.dataset.entries[index].name, "target": NO_TARGET}
        error = f"RuntimeError: {MAX_LOSSES} workers were lost with this image; they may have run out of memory"
        return failed_image(self.study, base, error)


def import_ray() -> Any:
    """Import the package ray.

    Raises ClusterError if it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ClusterError("Ray is not installed; run pip install 'iscam[ray]', or choose engine 'local'") from error


def check_reachable(address: str | None) -> None:
    """Raise ClusterError if nothing answers at "host:port".

    `ray.init` would wait for minutes and then end the process.
    """
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal() or "://" in host:  # "auto", or the address of a client, ray://...
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error


def worker_error(error: Any) -> Exception:
    """Return the IscamError that a worker raised, or a ClusterError with the reason that Ray reports."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, IscamError) else ClusterError(f"a worker failed: {one_line(error)}")


def one_line(error: object, length: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."
