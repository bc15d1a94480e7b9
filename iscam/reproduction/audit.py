"""The audit of the authors' code, which measures maps with their and our settings under their and our conventions.

Tables have the columns model, image, settings, method, metric, convention and value (a fraction). `settings` are those
of the method, "canonical" or "as coded". `convention` is that of the metric.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import iscam
from iscam.data import ImageDataset
from iscam.model import Network
from iscam.reproduction import as_coded
from iscam.reproduction.archive import is_recorded, load_partial, recorded, save_run
from iscam.reproduction.commands import papermill_command
from iscam.reproduction.published import PAPER_STEP, comparable, tables_study

Row = dict[str, Any]

#: Name of the recorded audit.
RECORDED = "audit_squeezenet"


@dataclass(frozen=True)
class Audit:
    """The parameters of an audit. `max_images` maps slow methods to the maximum number of images on which they run."""

    models: Sequence[str]
    weights: Mapping[str, str | None]
    data: str
    count: int
    seed: int
    methods: Sequence[str]
    pixels_per_step: int
    max_images: Mapping[str, int] = field(default_factory=dict)

    def images(self) -> ImageDataset:
        return iscam.load_images(self.data, self.count, self.seed)

    def network(self, model: str) -> Network:
        net = iscam.load_model(model, self.weights.get(model, "default"))
        return net.to("cuda" if torch.cuda.is_available() else "cpu")

    def parameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def command(self, **more: Any) -> str:
        """Return the command that runs the page of the audit with these parameters."""
        return papermill_command("published_numbers", **self.parameters(), **more)


def run_audit(audit: Audit, record: str = "") -> pd.DataFrame:
    """Audit every image with every network.

    If `record` names a file, the table and the provenance are written to it after each image, and an interrupted run
    continues.

    Raises InputError if `record` is the result of another run.
    """
    started = time.time()
    dataset = audit.images()
    before, seconds = load_partial(record, audit.parameters())
    rows, done = before.to_dict("records"), set(zip(before["model"], before["image"], strict=True))
    for model in audit.models:
        net = audit.network(model)
        for number, entry in enumerate(dataset.entries):
            if (model, entry.name) in done:
                continue
            rows += audited_image(audit, model, net, dataset, number)
            if record:
                spent = seconds + time.time() - started
                save_run(pd.DataFrame(rows), record, audit.parameters(), spent, audit.command(record=record))
    return pd.DataFrame(rows)


def audited_image(audit: Audit, model: str, net: Network, dataset: ImageDataset, number: int) -> Iterator[Row]:
    """Yield the rows of one image."""
    entry, item = dataset.entries[number], dataset[number]
    image = item.image.to(net.device)
    original, _ = as_coded.original_boxes(entry, as_coded.original_sizes(audit.data))
    methods = [method for method in audit.methods if number < audit.max_images.get(method, number + 1)]
    for settings, method, saliency_map in both_settings(net, image, methods):
        values = as_coded.both_conventions(net, image, saliency_map, item.boxes, original, audit.pixels_per_step)
        base = {"model": model, "image": entry.name, "settings": settings, "method": method}
        for (metric, convention), value in values.items():
            yield base | {"metric": metric, "convention": convention, "value": value}


def both_settings(net: Network, image: Tensor, methods: Sequence[str]) -> Iterator[tuple[str, str, Tensor]]:
    """Yield the settings, the name and the map (height, width) of each method.

    Methods without coded settings are yielded only with canonical settings.
    """
    for method in methods:
        yield "canonical", method, iscam.explain(net, image[None], method=method)[0]
        if method in as_coded.METHODS:
            yield "as coded", method, as_coded.explain(net, image[None], method)[0]


def recorded_audit(audit: Audit) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return the recorded audit and its provenance, or None.

    The result is None if no audit is recorded or if `audit` runs on the same network.
    """
    if not is_recorded(RECORDED):
        return None
    frame, run = recorded(RECORDED)
    return None if set(frame["model"]) & set(audit.models) else (frame, run)


def describe_images(frame: pd.DataFrame) -> str:
    """Describe the recorded audit: network, number of photographs, and the methods that ran on fewer photographs."""
    images = frame.groupby("method", sort=False)["image"].nunique()
    fewer = [f"{method} on {n}" for method, n in images[images < images.max()].items()]
    return f"{frame['model'].iloc[0]} on {images.max()} photographs ({', '.join(['recorded', *fewer])})"


def with_both_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table in which each method without coded settings appears under both settings."""
    unchanged = frame[~frame["method"].isin(as_coded.METHODS)].assign(settings="as coded")
    return pd.concat([frame, unchanged], ignore_index=True)


def with_wins(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with additional rows for IS-CAM's wins over SS-CAM and Score-CAM, under both conventions."""
    methods = set(frame["method"])
    opponents = [other for other in ("ss_cam", "score_cam") if {"is_cam", other} <= methods]
    return pd.concat([frame, *(win_rows(frame, other) for other in opponents)], ignore_index=True)


def win_rows(frame: pd.DataFrame, other: str) -> pd.DataFrame:
    """Return the rows with IS-CAM's wins over one method.

    The canonical convention compares O, and the coded convention compares the lost percentage points.
    """
    pair = per_map(frame)[["Y", "O"]].unstack("method")
    original, explained = (pair[key, "is_cam"] for key in "YO")
    other_original, other_explained = (pair[key, other] for key in "YO")
    canonical = explained.index.get_level_values("convention") == "canonical"
    won = as_coded.win(original, explained, other_original, other_explained)
    won = explained.gt(other_explained).where(canonical, won).astype(float)
    won = won[explained.notna() & other_explained.notna()]
    return won.rename("value").reset_index().assign(method="is_cam", metric=f"win:{other}")


def per_map(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with one row per map and convention and one column per metric."""
    return frame.pivot(index=["model", "image", "settings", "method", "convention"], columns="metric", values="value")


def beside_published(
    audit: Audit, frame: pd.DataFrame, kept: tuple[pd.DataFrame, dict[str, Any]] | None
) -> pd.DataFrame:
    """Return the rows that can be compared with published values.

    The network must be one of the papers' networks with ImageNet weights, on ILSVRC images, as in the recorded audit
    `kept`. Insertion and deletion require curves with 224 pixels per step.
    """
    study = tables_study(audit.models, audit.data, audit.count, audit.seed, audit.weights)
    here = frame["model"].isin(audit.models)
    rows = pd.concat([comparable(frame[here], study), frame[~here]], ignore_index=True)
    full_curves = [*audit.models] if audit.pixels_per_step == PAPER_STEP else []
    if kept and kept[1]["parameters"]["pixels_per_step"] == PAPER_STEP:
        full_curves += kept[0]["model"].unique().tolist()
    return rows[rows["model"].isin(full_curves) | ~rows["metric"].isin(["insertion", "deletion"])]
