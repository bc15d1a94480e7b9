"""Sanity checks, which test whether a map depends on the weights that the network learned."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from iscam.errors import DEVICE_ERRORS, InputError
from iscam.explanation import explain
from iscam.maps import rank_correlation, ssim
from iscam.model import Network, as_network
from iscam.rng import generator
from iscam.transforms import MEAN, STD
from iscam.validation import check_int

#: Largest excess of a rank correlation over that of unrelated maps with which two maps still count as unrelated.
MARGIN = 0.2


#: Constants to add to a normalised image, by name. Without such a shift, the input 0 is ImageNet's mean colour.
SHIFTS = {"0 is black": torch.tensor(MEAN) / torch.tensor(STD), "plus 1": torch.ones(3)}


def cascade(net: Network | nn.Module) -> list[str]:
    """Return the names of the layers with parameters, from the logits to the input.

    The order is the reverse of the order of definition. In torchvision's networks this is also the reverse of the order
    of computation.
    """
    return [name for name, module in as_network(net).model.named_modules() if [*module.parameters(recurse=False)]][::-1]


def randomised(net: Network | nn.Module, layers: int | None = None, seed: int = 0) -> Network:
    r"""Return a copy of the network with new random weights in its last `layers` layers, or in all layers for None.

    Parameters of two or more dimensions are drawn from Normal(0, 2 / inputs of a unit), He initialisation, which
    preserves the scale of the activations. Biases become 0. Normalisation layers become the identity: weight 1, mean 0
    and variance 1.

    `layers` counts from the logits, in the order of `cascade`. The new weights of a layer depend only on `seed` and on
    the layer's position. A copy with more randomised layers therefore contains the new weights of a copy with fewer.
    `net` does not change.

    Raises `InputError` if `layers` exceeds the number of layers with parameters, and for a model that cannot be copied.

    Source: Adebayo et al. 2018, arXiv 1810.03292, "cascading randomization". They draw the weights from the initial
    distribution of their own network.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> untrained_head = iscam.randomised(net, layers=1)
    """
    net = as_network(net)
    names = cascade(net)
    layers = len(names) if layers is None else check_int("layers", layers, minimum=0)
    if layers > len(names):
        raise InputError(
            f"layers must be at most {len(names)}, the number of the network's layers with parameters; got {layers}"
        )
    seed = check_int("seed", seed, minimum=0)
    model = copied(net.model)
    for position, name in enumerate(names[:layers]):
        initialise(model.get_submodule(name), generator(seed, position))
    return replace(net, model=model)


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of the model.

    Raises `InputError` for a model that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # the model's own `__deepcopy__` may raise anything
        reason = " ".join(str(error).split())
        raise InputError(f"{type(model).__name__} cannot be copied: {type(error).__name__}: {reason}") from error


@torch.no_grad()
def initialise(module: nn.Module, random: torch.Generator) -> None:
    """Set the module's own parameters and running statistics to those of an untrained module."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim > 1:
            weights = torch.randn(parameter.shape, generator=random)  # drawn on the CPU, so equal for every device
            parameter.copy_(weights * math.sqrt(2 / parameter[0].numel()))
        else:
            parameter.fill_(0 if "bias" in name else 1)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()


class Shifted(nn.Module):
    """A model that first subtracts a constant from its input: its output for X + `by` is that of `model` for X."""

    by: Tensor

    def __init__(self, model: nn.Module, by: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("by", by)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images - self.by)


def shifted(net: Network | nn.Module, by: Tensor | float) -> Network:
    r"""Return a network with the same activations, logits and gradients for X + `by` as `net` has for X.

    `by` is a number, or one number per colour channel.

    The first layer could absorb a shift c: W(X + c) + (b - W c) = W X + b. With zero padding this fails at the border,
    where the padding would have to be c. Here c is subtracted before the first layer, which is exact everywhere.

    Raises `InputError` for a shift of another shape and for a shift that is NaN or infinite.

    Source: Kindermans et al. 2017, arXiv 1711.00867, "input invariance".
    """
    net = as_network(net)
    constant = check_shift(by).to(net.device, net.dtype).reshape(-1, 1, 1)
    return replace(net, model=Shifted(net.model, constant).eval(), layer=f"model.{net.layer}")


def check_shift(by: object) -> Tensor:
    """Return `by` as a tensor if it is a finite number or one finite number per channel.

    Raises `InputError` for any other value.
    """
    try:
        found = torch.as_tensor(by)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"by must be a number, or one number per colour channel; got {by!r}") from error
    per_channel = found.ndim in (1, 3) and found.numel() == len(found) > 0  # (channels,) or (channels, 1, 1)
    if not (found.ndim == 0 or per_channel) or not found.isfinite().all():
        raise InputError(f"by must be a finite number, or one per colour channel; got {found.tolist()}")
    return found


def explained(
    net: Network, images: Tensor, targets: Tensor, methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """Return the maps (batch, height, width) of each method. `methods` maps names to options."""
    return {method: explain(net, images, targets, method, **options) for method, options in methods.items()}


def explained_randomised(
    net: Network, images: Tensor, targets: Tensor, methods: Mapping[str, Mapping[str, Any]], layers: int, seed: int = 0
) -> dict[str, Tensor]:
    """Return the maps of `explained` with the last `layers` layers randomised.

    The weights for image i are drawn with the seed `seed` + i.
    """
    each = [
        explained(randomised(net, layers, seed + i), images[i : i + 1], targets[i : i + 1], methods)
        for i in range(len(images))
    ]
    return {method: torch.cat([maps[method] for maps in each]) for method in methods}


def likeness(maps: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> pd.DataFrame:
    """Measure the similarity of two maps of each method and image.

    Returns a frame with the columns method, image, metric and value. The metrics are "rank_correlation", "ssim" and
    "largest", which is the largest absolute difference. The first two are NaN if one of the maps is constant.
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
    """Return the similarity after randomisation minus the similarity of unrelated maps.

    `frame` has the rows of `likeness` with the columns model, against and layers. From each row with `against` equal to
    "randomised", the value of the same model, method, image and metric `against` "another image" is subtracted.
    """
    keys = ["model", "method", "image", "metric"]
    unrelated = frame[frame["against"] == "another image"].set_index(keys)["value"].rename("unrelated")
    rows = frame[frame["against"] == "randomised"].join(unrelated, on=keys)
    return rows.assign(value=rows["value"] - rows["unrelated"]).drop(columns="unrelated")


def outcome(low: float, high: float, margin: float = MARGIN) -> str:
    """Return the verdict on a confidence interval from `low` to `high` of the `excess`.

    The verdict is "changes" if the interval lies at or below `margin`, "stays similar" if it lies above `margin`, "not
    defined" for NaN, and "undecided" otherwise.

    >>> [outcome(-0.1, 0.1), outcome(0.5, 0.7), outcome(0.1, 0.5), outcome(math.nan, math.nan)]
    ['changes', 'stays similar', 'undecided', 'not defined']
    """
    if math.isnan(low):
        return "not defined"
    return "changes" if high <= margin else "stays similar" if low > margin else "undecided"
