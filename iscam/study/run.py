"""`run_study`: run what is missing, here or on Ray."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from iscam.data import load_images
from iscam.download import cache_folder
from iscam.errors import InputError
from iscam.study.evaluate import check_networks, run_tasks
from iscam.study.provenance import provenance
from iscam.study.spec import Study
from iscam.study.store import check_same_study, fingerprint, images_of, locked, read_rows, write_parts, write_whole
from iscam.validation import unknown_choice


def run_study(
    study: Study, output: str | Path | None = None, engine: str = "local", address: str | None = None
) -> pd.DataFrame:
    """Run a study, or the rest of it, and return its table.

    Rows go to the folder `output` (None: one in the cache, named by the study and the package's code) as Parquet parts,
    each written whole; images that are there already are not computed again, so a run that was killed continues. Each
    run leaves a `run-*.json` that says what ran, where and how long. An image that cannot be read or explained gives
    rows with value NaN and the reason in `error`. A second run of the same study in the same folder waits for the
    first.

    `engine`: "local", one process on the GPU if there is one; "ray": on Ray (`address` of a cluster, None: this
    machine). Returns a sorted frame with the columns model, image, target, method, metric, value (a fraction), error.

    Raises `InputError` where `output` holds another study or cannot be written, and, before the study has `output`,
    where its images, networks or layers cannot be had. Want of memory, or a GPU that fails, ends the run with its own
    error, and the same call goes on where it was.
    """
    if not isinstance(study, Study):
        raise InputError(f"study must be an iscam.Study, not {type(study).__name__}")
    if engine not in ("local", "ray"):
        raise unknown_choice("engine", engine, ("local", "ray"))
    folder = Path(output) if output else cache_folder() / "studies" / fingerprint(study)
    started = time.time()
    dataset = load_images(study.data, study.count, study.seed)
    if not os.path.exists(folder / "study.json"):  # else they were there when it began, and may not be needed any more
        check_networks(study, engine)
    with locked(folder):
        check_same_study(folder, study)
        finished = images_of(read_rows(folder))
        tasks = [
            (model, i)
            for i, entry in enumerate(dataset.entries)  # image by image, so that a part of a run is a smaller run
            for model in study.models
            if (model, entry.name) not in finished
        ]
        devices: set[str] = set()
        with tqdm(total=len(tasks), desc="images", unit="image", disable=None) as bar:
            if engine == "ray":
                from iscam.study.ray import run_on_ray  # here, since Ray is optional

                images = run_on_ray(study, dataset, tasks, address, devices)
            else:
                images = run_tasks(study, dataset, tasks)
            try:
                write_parts(folder, images, bar)
            finally:  # an interrupted run says what it did, too
                record = provenance(dataclasses.asdict(study), time.time() - started)
                record["device"] = "; ".join(sorted(devices)) or record["device"]
                record["images_computed"] = len(images_of(read_rows(folder)) - finished)
                write_whole(folder / f"run-{int(started)}.json", json.dumps(record, indent=1).encode())
        return read_rows(folder)
