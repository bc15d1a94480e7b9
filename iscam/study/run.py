"""`run_study`, which evaluates the images that are missing in a study's folder, in this process or on Ray."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from tqdm import tqdm

from iscam.data import ImageDataset, load_images
from iscam.download import cache_folder
from iscam.errors import InputError
from iscam.study.costs import passes_per_network, should_compile
from iscam.study.evaluate import Networks, image_rows, inspect_networks
from iscam.study.provenance import provenance
from iscam.study.ray import RayExecutor
from iscam.study.signatures import fingerprint, source_signatures
from iscam.study.spec import Study
from iscam.study.store import (
    Row,
    Task,
    check_readable,
    check_same_study,
    images_of,
    locked,
    read_rows,
    write_description,
    write_file,
    write_parts,
)
from iscam.validation import check_choice


class Executor(Protocol):
    """An engine that evaluates the images of a study. It holds networks or workers until its context ends."""

    workers: int
    device: str  # "cpu" or "cuda"
    device_names: set[str]  # for the provenance; empty if only the device of this process is used

    def __init__(self, study: Study, dataset: ImageDataset, address: str | None) -> None: ...
    def __enter__(self) -> Executor: ...
    def __exit__(self, *error: object) -> None: ...
    def inspect(self) -> dict[str, int]: ...  # see `inspect_networks`
    def run(self, tasks: Sequence[Task], compiled: bool) -> Iterator[list[Row]]: ...  # rows per task, in any order


class LocalExecutor:
    """An engine that evaluates the images one by one in this process, on the GPU if there is one."""

    workers = 1

    def __init__(self, study: Study, dataset: ImageDataset, address: str | None = None) -> None:
        self.study, self.dataset = study, dataset
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.networks = Networks(study, self.device)
        self.device_names: set[str] = set()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.networks = Networks(self.study, self.device)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def inspect(self) -> dict[str, int]:
        return inspect_networks(self.study, self.networks, self.dataset)

    def run(self, tasks: Sequence[Task], compiled: bool) -> Iterator[list[Row]]:
        for model, index in tasks:
            yield image_rows(self.study, self.networks, self.dataset, model, index, compiled)


#: The engines by name. The names are the valid values of `engine`.
EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor, "ray": RayExecutor}


def run_study(
    study: Study, output: str | Path | None = None, engine: str = "local", address: str | None = None
) -> pd.DataFrame:
    """Run or resume a study and return its table.

    The rows are written to the folder `output` as Parquet parts. Each part is written completely or not at all. Images
    that the folder already contains are skipped, so an interrupted run can be resumed. Each run that evaluates images
    writes a `run-*.json` with its command, commit, versions, device and time. `output=None` selects a folder in the
    cache. Its name depends on the study, on the files that it names, on the user's networks, methods and metrics, and
    on the code of the package. A second run of the study in the same folder waits for the first.

    The weights and the code of the network that a user's function returns are compared with those of the folder, so the
    function must return the same network in every call.

    `engine`: "local" uses this process, on the GPU if there is one. "ray" uses the Ray cluster at `address`, or this
    machine if `address` is None. The networks are compiled for score methods and curves if that saves time over
    the complete study. `run-*.json` and a line on stderr record the choice.

    Returns a sorted frame with the columns model, image, target (the predicted class), method, metric, value (a
    fraction) and error. A value that could not be computed is NaN, with the reason in the column error.

    - Raises InputError for images, networks or layers that do not exist. The folder then stays unchanged.
    - Raises StoreError if the folder cannot be read or written, if it holds another study or broken parts, or if
      images, weights, or the code of a network, method or metric have changed since the study began.
    - Raises ClusterError if Ray is not installed or no cluster answers.
    - Out-of-memory errors and lost GPUs end the run. Call the function again to resume the run.
    """
    if not isinstance(study, Study):
        raise InputError(f"study must be an iscam.Study, not {type(study).__name__}")
    check_choice("engine", engine, EXECUTORS)
    dataset = load_images(study.data, study.count, study.seed)
    named = None if output is None else output_folder(output)
    sources = source_signatures(study)
    folder = named or cache_folder() / "studies" / fingerprint(study, sources)
    check_same_study(folder, study, sources)
    if not missing_tasks(folder, study, dataset):
        return read_rows(folder)
    with EXECUTORS[engine](study, dataset, address) as executor:
        channels = executor.inspect()
        with locked(folder):
            check_same_study(folder, study, sources)  # again, because another run may have started in the folder
            write_description(folder, study, sources)
            compiled = choose_compile(study, executor, channels, len(dataset))
            run_tasks(folder, study, executor, missing_tasks(folder, study, dataset), compiled)
            return read_rows(folder)


def output_folder(output: str | Path) -> Path:
    if not str(output):
        raise InputError("output must be a folder, such as results/quick, not an empty text")
    folder = Path(output)
    check_readable(folder)
    return folder


def missing_tasks(folder: Path, study: Study, dataset: ImageDataset) -> list[Task]:
    """Return the pairs of model and image that are missing in the folder.

    The order is image by image, so an interrupted run is a complete run over fewer images.
    """
    finished = images_of(read_rows(folder)) if folder.is_dir() else set()
    return [
        (model, index)
        for index, entry in enumerate(dataset.entries)
        for model in study.models
        if (model, entry.name) not in finished
    ]


def choose_compile(study: Study, executor: Executor, channels: dict[str, int], images: int) -> bool:
    """Return True if compiling pays off.

    The decision depends on the passes of the complete study, so a resumed run makes the same choice.
    """
    passes = passes_per_network(study, channels, images)
    compiled = should_compile(passes, executor.workers, executor.device)
    if compiled:
        tqdm.write(f"compiling the networks; the study takes about {passes:,} passes of each", file=sys.stderr)
    return compiled


def run_tasks(folder: Path, study: Study, executor: Executor, tasks: Sequence[Task], compiled: bool) -> None:
    """Evaluate the tasks, write their rows to the folder and record the run, even after an interrupt."""
    if not tasks:
        return
    started = time.time()
    before = images_of(read_rows(folder))
    with tqdm(total=len(tasks), desc="images", unit="image", disable=None) as bar:
        try:
            write_parts(folder, executor.run(tasks, compiled), bar)
        finally:
            record = run_record(study, executor, compiled, time.time() - started)
            record["images_computed"] = len(images_of(read_rows(folder)) - before)
            name = f"run-{int(started)}-{uuid.uuid4().hex[:6]}.json"
            write_file(folder / name, json.dumps(record, indent=1).encode())


def run_record(study: Study, executor: Executor, compiled: bool, seconds: float) -> dict[str, Any]:
    """Return the provenance of a run."""
    record = provenance(dataclasses.asdict(study), seconds) | {"compile": compiled}
    if executor.device_names:
        record["device"] = "; ".join(sorted(executor.device_names))
    return record
