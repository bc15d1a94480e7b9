"""The published tables, and the study that reproduces them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from iscam.methods import CONTROLS
from iscam.study.spec import Study
from iscam.validation import unknown_choice

#: The family of each network of the papers. An embedded network belongs to the same family.
FAMILIES = {"vgg16": "VGG", "resnet18": "ResNet", "squeezenet1_0": "SqueezeNet"}

#: The methods that the papers compare, in the order of their tables.
PAPER_METHODS = ("cam", "grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "score_cam", "ss_cam", "is_cam")

#: The metrics of the papers' tables.
PAPER_METRICS = (
    "insertion",
    "deletion",
    "average_drop",
    "average_increase",
    "win:ss_cam",
    "win:score_cam",
    "win:is_cam",
    "energy",
)

#: Pixels per step of the papers' insertion and deletion curves.
PAPER_STEP = 224

#: Metrics that measure as Tables 1 and 2 of the Score-CAM paper do, by their names in `published_table("score_cam")`.
SCORE_CAM_METRICS = {
    "average_drop": "average_drop:half",
    "average_increase": "average_increase:half",
    "energy": "energy:single",
}


def data_folder() -> Path:
    """Return the folder with the published tables and recorded runs of a checkout or an installed package.

    If `$ISCAM_DATA` is set, it names the folder.
    """
    if chosen := os.environ.get("ISCAM_DATA"):
        return Path(chosen)
    checkout = Path(__file__).parents[2] / "data"
    return checkout if (checkout / "published").is_dir() else Path(__file__).parents[1] / "_data"


def published_table(table: str) -> pd.DataFrame:
    """Read a published table with the columns model, method, metric, value (percent, as printed) and source.

    `table` is the name of a file in `data/published`, such as "table1".

    Raises InputError if there is no such table. The message lists the tables.

    >>> published_table("table1").head(1)[["model", "method", "metric", "value"]].values.tolist()
    [['vgg16', 'grad_cam', 'insertion', 45.25]]
    """
    file = data_folder() / "published" / f"{table}.csv"
    if not file.is_file():
        raise unknown_choice("published table", table, sorted(path.stem for path in file.parent.glob("*.csv")))
    return pd.read_csv(file)


def comparable(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the rows of a study that can be compared with published values.

    These are the rows of the papers' networks with trained weights, on ILSVRC images. Insertion and deletion require
    curves with 224 pixels per step.
    """
    lists = ("LOC_val_solution.csv", "ILSVRC/Annotations/CLS-LOC/val")
    ilsvrc = any((Path(study.data) / name).exists() for name in lists)
    trained = [name for name in study.models if name in FAMILIES and study.weights.get(name, "default") is not None]
    known = frame[frame["model"].isin(trained if ilsvrc else [])]
    return known if study.pixels_per_step == PAPER_STEP else known[~known["metric"].isin(["insertion", "deletion"])]


def tables_study(
    models: Sequence[str],
    data: str,
    count: int | None,
    seed: int,
    weights: Mapping[str, str | None],
    pixels_per_step: int = PAPER_STEP,
) -> Study:
    """Return the study for the papers' Tables I to III: the papers' methods, the controls and the tables' metrics."""
    return Study(
        models=models,
        data=data,
        count=count,
        seed=seed,
        methods={name: {} for name in [*PAPER_METHODS, *CONTROLS]},
        metrics=PAPER_METRICS,
        weights=weights,
        pixels_per_step=pixels_per_step,
    )
