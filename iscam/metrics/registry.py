"""`METRICS`: the registry of the metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.metrics import confidence as drops
from iscam.metrics.adcc import adcc, coherency, complexity
from iscam.metrics.curves import STARTS, Curves, deletion, insertion
from iscam.metrics.ground_truth import decisive_part, part_correlation
from iscam.metrics.inputs import MetricInputs
from iscam.metrics.localisation import energy, inside_masks, pointing_game
from iscam.validation import check_choice, unknown_choice

#: Arguments that measure as the Score-CAM paper does: "average_drop:half" keeps the upper half of the map's pixels, and
#: "energy:single" uses only images with one box that covers at most half of the image.
HALF, SINGLE = "half", "single"

#: Points of an insertion or deletion curve over 224x224 pixels in steps of 224.
CURVE_POINTS = 225


class Need(Enum):
    """Values that a metric needs besides the map."""

    CONFIDENCE = "the class probability of the masked image: one forward pass per mask, shared by all metrics"
    MAPS_AGAIN = "the same method's map of the masked image: as expensive as the map"
    OTHER_METHOD = "another method of the same study, which the metric's argument names"
    BOXES = "boxes of the target class"
    MASKS = "masks of the object"
    DRAWING = "a drawing of the menagerie"


@dataclass(frozen=True)
class Metric:
    """A metric: a function with its description for tables and studies.

    - `compute(inputs)`, or `compute(inputs, argument)` for a metric with arguments, returns the values (batch,).
    - `title`: the metric's name for readers.
    - `heading`: the heading of a table column in percent, with an arrow that points to better values.
    - `better`: "higher" or "lower".
    - `needs`: the values that the metric needs besides the map.
    - `arguments`: the valid arguments after the name and a colon, as in "insertion:blur". A metric with
      `Need.OTHER_METHOD` instead requires a method's name, as in "win:score_cam".
    - `undefined`: the reason why a value can be NaN. The string is empty if no value can be NaN.
    - `undefined_with`: the reasons for arguments that have their own, by argument.
    - `passes`: the number of forward passes per map of 224x224 pixels, without those of `needs`.
    - `curve`: True for a curve over the pixels. `passes` is then the number of its points in steps of 224 pixels, and a
      study with other steps takes one pass per point.
    """

    compute: Callable[..., Tensor]
    title: str
    heading: str
    better: Literal["higher", "lower"]
    needs: frozenset[Need] = frozenset()
    arguments: tuple[str, ...] = ()
    undefined: str = ""
    passes: int = 0
    undefined_with: Mapping[str, str] = field(default_factory=dict, hash=False)
    curve: bool = False

    def __post_init__(self) -> None:
        check_choice("better", self.better, ("higher", "lower"))


def insertion_auc(inputs: MetricInputs, start: str = "zeros") -> Tensor:
    return curves_of(insertion, inputs, start=start).auc


def deletion_auc(inputs: MetricInputs) -> Tensor:
    return curves_of(deletion, inputs).auc


def curves_of(compute: Callable[..., Curves], inputs: MetricInputs, **keywords: str) -> Curves:
    batch = inputs.batch
    step = batch.pixels_per_step
    return compute(batch.net, batch.images, inputs.maps, batch.targets, step, compile=batch.compile, **keywords)


def explained_by(inputs: MetricInputs, kept: str) -> Tensor:
    """Return O of the image masked with the whole map, or with its upper half of the pixels."""
    return inputs.explained_by_half if kept == HALF else inputs.explained


def drop(inputs: MetricInputs, kept: str = "") -> Tensor:
    return drops.average_drop(inputs.batch.original, explained_by(inputs, kept))


def increase(inputs: MetricInputs, kept: str = "") -> Tensor:
    return drops.average_increase(inputs.batch.original, explained_by(inputs, kept))


def box_energy(inputs: MetricInputs, images: str = "") -> Tensor:
    return energy(inputs.maps, inputs.boxes, single=images == SINGLE)


def win_over(inputs: MetricInputs, method: str) -> Tensor:
    if method == inputs.method:
        return torch.full_like(inputs.explained, torch.nan)
    return drops.win(inputs.batch.original, inputs.explained, inputs.other(method).explained)


def adcc_of(inputs: MetricInputs) -> Tensor:
    return adcc(inputs.batch.original, inputs.explained, inputs.maps, inputs.maps_again)


def pointing_hits(inputs: MetricInputs) -> Tensor:
    """Return 1.0 for a hit, 0.0 for a miss, and NaN if no pixel is inside the boxes."""
    defined = inside_masks(inputs.maps, inputs.boxes).any(2).any(1)
    return torch.where(defined, pointing_game(inputs.maps, inputs.boxes).float(), torch.nan)


CONFIDENCE = frozenset({Need.CONFIDENCE})
NO_BOX = "the image has no box, or its boxes contain no pixel centre"

#: Metrics by name.
METRICS: dict[str, Metric] = {
    "insertion": Metric(
        insertion_auc,
        "insertion",
        "insertion AUC (%) ↑",
        "higher",
        arguments=STARTS,
        passes=CURVE_POINTS,
        curve=True,
    ),
    "deletion": Metric(deletion_auc, "deletion", "deletion AUC (%) ↓", "lower", passes=CURVE_POINTS, curve=True),
    "average_drop": Metric(
        drop,
        "average drop",
        "average drop (%) ↓",
        "lower",
        CONFIDENCE,
        arguments=(HALF,),
    ),
    "average_increase": Metric(
        increase,
        "average increase",
        "average increase (%) ↑",
        "higher",
        CONFIDENCE,
        arguments=(HALF,),
    ),
    "average_gain": Metric(
        lambda inputs: drops.average_gain(inputs.batch.original, inputs.explained),
        "average gain",
        "average gain (%) ↑",
        "higher",
        CONFIDENCE,
        undefined="the class probability of the full image is 1",
    ),
    "explained_confidence": Metric(
        lambda inputs: drops.explained_confidence(inputs.explained),
        "confidence of the masked image",
        "confidence of the masked image (%) ↑",
        "higher",
        CONFIDENCE,
    ),
    "win": Metric(
        win_over,
        "win",
        "win (%) ↑",
        "higher",
        CONFIDENCE | {Need.OTHER_METHOD},
        undefined="the method is compared with itself",
    ),
    "complexity": Metric(lambda inputs: complexity(inputs.maps), "complexity", "complexity (%) ↓", "lower"),
    "coherency": Metric(
        lambda inputs: coherency(inputs.maps, inputs.maps_again),
        "coherency",
        "coherency (%) ↑",
        "higher",
        frozenset({Need.MAPS_AGAIN}),
        undefined="the map of the image or of the masked image is constant",
    ),
    "adcc": Metric(
        adcc_of,
        "ADCC",
        "ADCC (%) ↑",
        "higher",
        CONFIDENCE | {Need.MAPS_AGAIN},
        undefined="the coherency is not defined",
    ),
    "energy": Metric(
        box_energy,
        "energy inside the box",
        "energy inside the box (%) ↑",
        "higher",
        frozenset({Need.BOXES}),
        arguments=(SINGLE,),
        undefined=NO_BOX,
        undefined_with={SINGLE: "the image does not have exactly one box, or the box covers more than half of it"},
    ),
    "part_correlation": Metric(
        lambda inputs: part_correlation(inputs.maps, inputs.batch.drawn, inputs.batch.importances),
        "part correlation",
        "part correlation (%) ↑",
        "higher",
        frozenset({Need.DRAWING}),
        undefined="fewer than 3 parts are visible, or none is important",
    ),
    "decisive_part": Metric(
        lambda inputs: decisive_part(inputs.maps, inputs.batch.drawn, inputs.batch.importances),
        "decisive part",
        "decisive part (%) ↑",
        "higher",
        frozenset({Need.DRAWING}),
        undefined="no part clearly leads the next",
    ),
    "mask_energy": Metric(
        lambda inputs: energy(inputs.maps, inputs.masks),
        "energy on the object",
        "energy on the object (%) ↑",
        "higher",
        frozenset({Need.MASKS}),
        undefined="the object's mask is empty",
    ),
    "pointing_game": Metric(
        pointing_hits,
        "pointing game",
        "pointing game (%) ↑",
        "higher",
        frozenset({Need.BOXES}),
        undefined=NO_BOX,
    ),
}


@dataclass(frozen=True)
class MetricCall:
    """A metric with its argument. `parse_metric` returns one for a string such as "insertion:blur"."""

    name: str
    argument: str = ""

    @property
    def metric(self) -> Metric:
        """The entry in `METRICS`."""
        return METRICS[self.name]

    @property
    def undefined(self) -> str:
        """The reason why a value can be NaN."""
        return self.metric.undefined_with.get(self.argument, self.metric.undefined)

    def compute(self, inputs: MetricInputs) -> Tensor:
        """Compute the values (batch,) of the metric."""
        return self.metric.compute(inputs, self.argument) if self.argument else self.metric.compute(inputs)

    def __str__(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name


def parse_metric(text: object, methods: Collection[str] | None = None) -> MetricCall:
    """Return the metric that `text` names, for example "energy", "insertion:blur" or "win:score_cam".

    `methods` are the names that "win:" accepts. None accepts any name.

    Raises `InputError` for an unknown metric or argument. The message lists the valid values.
    """
    if not isinstance(text, str):
        raise InputError(f"a metric must be a name, such as 'insertion' or 'win:score_cam', not {text!r}")
    name, colon, argument = text.partition(":")
    if name not in METRICS:
        raise unknown_choice("metric", name, METRICS)
    if not isinstance(METRICS[name], Metric):
        raise InputError(f"METRICS[{name!r}] must be an iscam.Metric, not {type(METRICS[name]).__name__}")
    if Need.OTHER_METHOD in METRICS[name].needs:
        if not argument or (methods is not None and argument not in methods):
            valid = ", ".join(f"{name}:{each}" for each in methods or ("score_cam",))
            raise InputError(f"metric {text!r} must name another method of the study; valid: {valid}")
    elif colon and argument not in METRICS[name].arguments:
        raise unknown_choice("metric", text, [name, *(f"{name}:{each}" for each in METRICS[name].arguments)])
    return MetricCall(name, argument)
