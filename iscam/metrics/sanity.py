"""Sanity checks: does a map depend on what the network learned?"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from iscam.errors import InputError
from iscam.explanation import explain
from iscam.maps import rank_correlation, ssim
from iscam.model import MEAN, STD, Network
from iscam.rng import generator
from iscam.validation import check_int

#: How far a rank correlation may lie above that of unrelated maps and still count as unrelated.
MARGIN = 0.2


#: Constants to add to a normalised image, by what they do. Without one, the input 0 is the mean grey.
SHIFTS = {"0 is black": torch.tensor(MEAN) / torch.tensor(STD), "plus 1": torch.ones(3)}


def cascade(net: Network) -> list[str]:
    """Names of the network's layers with parameters, from the logits to the input.

    The order is that of their definition, backwards; in torchvision's networks this is the order of computation.
    """
    return [name for name, module in net.model.named_modules() if [*module.parameters(recurse=False)]][::-1]


def randomised(net: Network, layers: int | None = None, seed: int = 0) -> Network:
    r"""A copy of the network whose last `layers` layers are as before training; None: all of them.

    Weights are drawn anew from Normal(0, 2 / inputs of a unit), He's initialisation, which keeps the scale of what
    passes through; biases are 0; batch normalisation is the identity. Layers count from the logits as in `cascade`. A
    layer's new weights are fixed by (`seed`, its place), so that each copy of a cascade goes on from the one before.
    The network itself is left as it is.

    Raises `InputError` for more layers than there are.

    Source: Adebayo et al. 2018, arXiv 1810.03292, "cascading randomization", which draws from the initial distribution
    of its own network.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> untrained_head = iscam.randomised(net, layers=1)
    """
    names = cascade(net)
    layers = len(names) if layers is None else check_int("layers", layers, minimum=0)
    if layers > len(names):
        raise InputError(f"layers must be at most {len(names)}, the network's layers with parameters, not {layers}")
    seed = check_int("seed", seed, minimum=0)
    model = copy.deepcopy(net.model)
    for place, name in enumerate(names[:layers]):
        initialise(model.get_submodule(name), generator(seed, place))
    return replace(net, model=model)


@torch.no_grad()
def initialise(module: nn.Module, random: torch.Generator) -> None:
    """Set the module's own parameters and running statistics as before training."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim > 1:
            weights = torch.randn(parameter.shape, generator=random)  # on the CPU: the same on every device
            parameter.copy_(weights * math.sqrt(2 / parameter[0].numel()))
        else:
            parameter.fill_(0 if "bias" in name else 1)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()


class Shifted(nn.Module):
    """A model behind a subtraction: what `model` makes of X, this makes of X + by."""

    by: Tensor

    def __init__(self, model: nn.Module, by: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("by", by)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images - self.by)


def shifted(net: Network, by: Tensor | float) -> Network:
    r"""The network that does with X + `by` what `net` does with X: the same activations, logits and gradients.

    `by`: a number, or one a colour (3,). The first layer could absorb it: W(X + c) + (b - W c) = W X + b. With zero
    padding that is exact away from the border only, where the padding would have to be c; subtracting c before the
    first layer is exact everywhere.

    Source: Kindermans et al. 2017, arXiv 1711.00867, "input invariance".
    """
    constant = torch.as_tensor(by, dtype=net.dtype, device=net.device).reshape(-1, 1, 1)
    return replace(net, model=Shifted(net.model, constant).eval(), layer=f"model.{net.layer}")


def explained(
    net: Network, images: Tensor, targets: Tensor, methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """Maps (batch, height, width) of every method, name -> options."""
    return {method: explain(net, images, targets, method, **options) for method, options in methods.items()}


def explained_randomised(
    net: Network, images: Tensor, targets: Tensor, methods: Mapping[str, Mapping[str, Any]], layers: int, seed: int = 0
) -> dict[str, Tensor]:
    """`explained` after the last `layers` layers are randomised, anew for each image: image i by `seed` + i."""
    each = [
        explained(randomised(net, layers, seed + i), images[i : i + 1], targets[i : i + 1], methods)
        for i in range(len(images))
    ]
    return {method: torch.cat([maps[method] for maps in each]) for method in methods}


def likeness(maps: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> pd.DataFrame:
    """How alike two maps of each method and image are: rows method, image, metric, value.

    Metrics: "rank_correlation", "ssim" and "largest", the largest absolute difference. The first two are NaN where a
    map is constant.
    """
    rows: list[dict[str, Any]] = []
    for method in maps:
        structural, largest = ssim(maps[method], others[method]), (maps[method] - others[method]).abs().amax((1, 2))
        for image, (a, b) in enumerate(zip(maps[method], others[method], strict=True)):
            ranks, key = rank_correlation(a, b), {"method": method, "image": image}
            rows.append({**key, "metric": "rank_correlation", "value": ranks})
            rows.append({**key, "metric": "ssim", "value": structural[image].item()})
            rows.append({**key, "metric": "largest", "value": largest[image].item()})
    return pd.DataFrame(rows)


def excess(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with `against` "randomised", each less the value of the same map `against` "another image".

    `frame` has the rows of `likeness` with the columns model, against and layers.
    """
    keys = ["model", "method", "image", "metric"]
    unrelated = frame[frame["against"] == "another image"].set_index(keys)["value"].rename("unrelated")
    rows = frame[frame["against"] == "randomised"].join(unrelated, on=keys)
    return rows.assign(value=rows["value"] - rows["unrelated"]).drop(columns="unrelated")


def outcome(low: float, high: float, margin: float = MARGIN) -> str:
    """What an interval of `excess` says: "changes", at most `margin`; "stays alike", above it; else "undecided".

    >>> [outcome(-0.1, 0.1), outcome(0.5, 0.7), outcome(0.1, 0.5), outcome(math.nan, math.nan)]
    ['changes', 'stays alike', 'undecided', 'not defined']
    """
    if math.isnan(low):
        return "not defined"
    return "changes" if high <= margin else "stays alike" if low > margin else "undecided"
