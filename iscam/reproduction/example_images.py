"""The images that pages show with their maps: the three of the papers' Figure 2, and the reader's own image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from iscam.data import LabelledImage, load_images
from iscam.errors import InputError
from iscam.explanation import explain
from iscam.menagerie import SPECIES
from iscam.metrics.confidence import confidence
from iscam.model import Network
from iscam.reproduction import panels
from iscam.reproduction.names import method_title

#: Method -> its options.
Options = Mapping[str, Mapping[str, Any]]

#: The species of Figure 2.
FIGURE_SPECIES = ("Basenji", "Capuchin", "Whippet")


class Examples(NamedTuple):
    """Images for a page, the class to explain for each, and a sentence on their origin."""

    items: list[LabelledImage]
    images: Tensor  # (batch, channels, height, width), on the device of the network
    targets: Tensor  # (batch,): the labelled class, or the predicted class of an own image
    origin: str


def examples(net: Network, name: str, seed: int, own_image: str = "") -> Examples:
    """Return the images of Figure 2 for a network called `name`, followed by `own_image` if it names a file.

    A network of the menagerie gets drawings, and any other network gets the photographs. If the photographs cannot be
    downloaded, drawings replace them, and `origin` says so.
    """
    items, origin = figure_items(net, name, seed)
    classes = [category.lower() for category in net.categories or ()]
    labels = [classes.index(species.lower()) for species in FIGURE_SPECIES]
    if own_image:
        items, origin = [*items, load_images(own_image, transform=net.transform)[0]], f"{origin}, and yours"
    images = torch.stack([item.image for item in items]).to(net.device)
    targets = net.probabilities(images).argmax(1)
    targets[: len(labels)] = torch.tensor(labels)
    return Examples(items, images, targets, origin)


def figure_items(net: Network, name: str, seed: int) -> tuple[list[LabelledImage], str]:
    """Return the three images of Figure 2 and their origin."""
    if name.startswith("menagerie/"):
        return drawings(net, seed), "drawings of the menagerie"
    try:
        return list(load_images("figures", transform=net.transform)), "photographs"
    except (InputError, OSError) as error:  # no download
        reason = str(error).partition(";")[0]
        origin = f"drawings of the menagerie, because the photographs could not be downloaded ({reason})"
        return drawings(net, seed), origin


def drawings(net: Network, seed: int) -> list[LabelledImage]:
    """Return one drawing of each species of Figure 2."""
    every = load_images("menagerie", len(SPECIES), seed, net.transform)  # one drawing of each species
    return [item for species in FIGURE_SPECIES for item in every if item.name.startswith(species)]


def predictions(net: Network, shown: Examples) -> pd.DataFrame:
    """Return the explained and the predicted class of each image, with their probabilities."""
    probabilities = net.probabilities(shown.images).cpu()

    def with_probability(classes: Tensor) -> list[str]:
        values = probabilities.gather(1, classes.cpu()[:, None])[:, 0].tolist()
        return [f"{net.category(c)} ({p:.3f})" for c, p in zip(classes.tolist(), values, strict=True)]

    columns = {"explained class": shown.targets, "predicted class": probabilities.argmax(1)}
    names = {"image": [item.name for item in shown.items]}
    return pd.DataFrame(names | {column: with_probability(classes) for column, classes in columns.items()})


def maps_of(
    net: Network, images: Tensor, targets: Tensor | int, methods: Sequence[str], options: Options = MappingProxyType({})
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the maps of each method on the CPU, and for each method that the network does not allow, the reason."""
    maps, missing = {}, {}
    for method in methods:
        try:
            maps[method] = explain(net, images, targets, method, **options.get(method, {})).cpu()
        except InputError as error:
            missing[method] = str(error)
    return maps, missing


def row_of_maps(net: Network, shown: Examples, row: int, maps: Mapping[str, Tensor]) -> str:
    """Return the HTML of one image and its maps. Below each map stands the probability of the image that it masks."""
    image, target = shown.images[row : row + 1], shown.targets[row : row + 1]
    original = net.probabilities(image)[0, target].item()
    subtitle = f"{net.category(int(target))}: {original:.3f}"
    row_panels = [panels.Panel(panels.inlined(image[0], transform=net.transform), shown.items[row].name, subtitle)]
    for method, found in maps.items():
        kept = confidence(net, image, found[row : row + 1].to(image.device), target)[1].item()
        overlay = panels.inlined(image[0], found[row], net.transform)
        row_panels.append(panels.Panel(overlay, method_title(method), f"keeps {kept:.3f}"))
    return panels.panels(row_panels)
