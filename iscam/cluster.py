"""A study on Ray: the same rows from many workers, on one machine or a cluster (`pip install iscam[ray]`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from iscam.data import Images
from iscam.errors import InputError
from iscam.study import Row, Study, Task, loaded, picture_rows

#: Pictures handed out for each worker, so that none waits for work.
AHEAD = 2


def run_on_ray(study: Study, dataset: Images, tasks: Sequence[Task], address: str | None) -> Iterator[list[Row]]:
    """The rows of each task, in the order in which they are done.

    Each worker has one GPU, or one core where the cluster has none; Ray does a lost worker's pictures again elsewhere.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("the engine 'ray' needs Ray: pip install 'iscam[ray]'") from error
    with ray.init(address=address, log_to_driver=False):
        gpus, cpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        one_worker = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        work = ray.remote(worker_rows).options(max_retries=-1, **one_worker)
        shared = ray.put((study, dataset))
        waiting = iter(tasks)
        running = [work.remote(shared, *task) for task in islice(waiting, AHEAD * (gpus or cpus))]
        while running:
            (done,), running = ray.wait(running)
            running += [work.remote(shared, *task) for task in islice(waiting, 1)]
            yield ray.get(done)


def worker_rows(shared: tuple[Study, Images], model: str, i: int) -> list[Row]:
    """One picture's rows, in a worker that keeps its network from one picture to the next."""
    study, dataset = shared
    torch.set_num_threads(1)
    return picture_rows(study, model, loaded(model, study.weights.get(model, "default")), dataset, i)
