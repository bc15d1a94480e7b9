"""The published tables, and what may stand beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from iscam.methods import CONTROLS, METHODS
from iscam.study.spec import Study
from iscam.validation import unknown_choice
from iscam.zoo import LAYERS

#: The papers' networks and the families that they and the embedded networks belong to.
FAMILIES = {"vgg16": "VGG", "resnet18": "ResNet", "squeezenet1_0": "SqueezeNet"}


def data_folder() -> Path:
    """The folder of published tables and recorded runs, in a checkout and in an installed package alike.

    `$ISCAM_DATA` names another one, with the same files.
    """
    if chosen := os.environ.get("ISCAM_DATA"):
        return Path(chosen)
    checkout = Path(__file__).parents[2] / "data"
    return checkout if (checkout / "published").is_dir() else Path(__file__).parents[1] / "_data"


def published_table(table: str) -> pd.DataFrame:
    """A published table as long rows: model, method, metric, value (percent, as printed), source.

    `table`: the name of a file in `data/published`, such as "table1" (a list of them is in the error for a wrong one).

    >>> published_table("table1").head(1)[["model", "method", "metric", "value"]].values.tolist()
    [['vgg16', 'grad_cam', 'insertion', 45.25]]
    """
    file = data_folder() / "published" / f"{table}.csv"
    if not file.is_file():
        raise unknown_choice("published table", table, sorted(path.stem for path in file.parent.glob("*.csv")))
    return pd.read_csv(file)


def comparable(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of a study that may stand beside published ones: the papers' networks, trained, on ILSVRC images."""
    lists = ("LOC_val_solution.csv", "ILSVRC/Annotations/CLS-LOC/val")
    ilsvrc = any((Path(study.data) / name).exists() for name in lists)
    trained = [name for name in study.models if name in LAYERS and study.weights.get(name, "default") is not None]
    return frame[frame["model"].isin(trained if ilsvrc else [])]


def tables_study(
    models: Sequence[str], data: str, count: int | None, seed: int, weights: Mapping[str, str | None]
) -> Study:
    """The study behind the papers' Tables I to III: every method and control, every metric the tables print."""
    return Study(
        models=models,
        data=data,
        count=count,
        seed=seed,
        methods={name: {} for name in [*METHODS, *CONTROLS]},
        metrics=(
            "insertion",
            "deletion",
            "average_drop",
            "average_increase",
            "win:ss_cam",
            "win:score_cam",
            "win:is_cam",
            "energy",
        ),
        weights=weights,
    )
