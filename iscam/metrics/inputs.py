"""`MetricInputs`: the inputs of the metrics. Expensive values are computed on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.menagerie.draw import Drawing
from iscam.metrics.confidence import masked_confidence, upper_pixels
from iscam.metrics.ground_truth import part_importance
from iscam.model import Network


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images with their classes and annotations. The maps of several methods share one `ImageBatch`.

    - `images` (batch, channels, height, width).
    - `targets` (batch,): one class per image.
    - `boxes`: one tensor (n, 4) per image, or None if the images have no boxes.
    - `masks` (batch, height, width) bool, or None if the images have no masks.
    - `drawings`: one entry per image, which is None for a photograph; or None if there are no drawings.
    - `compile`: run insertion and deletion through `torch.compile`.
    - `pixels_per_step`: the argument of insertion and deletion.
    """

    net: Network
    images: Tensor
    targets: Tensor
    boxes: Sequence[Tensor] | None = None
    masks: Tensor | None = None
    drawings: Sequence[Drawing | None] | None = None
    compile: bool = False
    pixels_per_step: int = 224

    @cached_property
    def original(self) -> Tensor:
        """Class probability of each image, Y (batch,)."""
        return self.confidence(torch.ones_like(self.images[:, 0]))

    @cached_property
    def importances(self) -> list[pd.Series]:
        """Importance of each part of each drawing, computed by `part_importance`."""
        return [part_importance(self.net, each.species, each.seed) for each in self.drawn]

    @property
    def drawn(self) -> list[Drawing]:
        """The drawings. Raises `InputError` if an image has none."""
        drawings = [each for each in self.drawings or () if each is not None]
        if len(drawings) < len(self.images):
            raise InputError("this metric needs the menagerie's drawings")
        return drawings

    def confidence(self, maps: Tensor) -> Tensor:
        """Compute the class probability C(X ∘ L) of each masked image, (batch,)."""
        triples = zip(self.images, maps, self.targets.tolist(), strict=True)
        return torch.cat([masked_confidence(self.net, *triple) for triple in triples])


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """The maps of one method, with all values that a metric may need. Expensive values are computed on first use.

    - `maps` (batch, height, width) in [0, 1].
    - `method`: the method's name in the study.
    - `explain`: a function from images to the same method's maps of them, for the same classes. Coherency and ADCC
      need it.
    - `others`: a mapping from each method of the study to its inputs for the same batch. Win needs it.
    """

    batch: ImageBatch
    maps: Tensor
    method: str = ""
    explain: Callable[[Tensor], Tensor] | None = None
    others: Mapping[str, MetricInputs] = field(default_factory=dict)

    @cached_property
    def explained(self) -> Tensor:
        """Class probability of each masked image, O (batch,)."""
        return self.batch.confidence(self.maps)

    @cached_property
    def explained_by_half(self) -> Tensor:
        """O (batch,) with the map of which only the upper half of the pixels is kept."""
        return self.batch.confidence(upper_pixels(self.maps, 0.5))

    @cached_property
    def maps_again(self) -> Tensor:
        """The method's maps of the masked images X ∘ L."""
        if self.explain is None:
            raise InputError("this metric needs the method's maps of the masked images; pass `explain`")
        return self.explain(self.batch.images * self.maps[:, None].to(self.batch.images))

    @property
    def boxes(self) -> Sequence[Tensor]:
        """The boxes of each image. Raises `InputError` if there are none."""
        if self.batch.boxes is None:
            raise InputError("this metric needs boxes")
        return self.batch.boxes

    @property
    def masks(self) -> Tensor:
        """The mask of each image. Raises `InputError` if there are none."""
        if self.batch.masks is None:
            raise InputError("this metric needs masks of the object")
        return self.batch.masks

    def other(self, method: str) -> MetricInputs:
        """Return the inputs of another method.

        Raises `InputError` if that method has no map of these images.
        """
        if method not in self.others:
            raise InputError(f"method {method!r} has no map of this image")
        return self.others[method]
