"""One image, several networks and several methods: predictions, maps, and how similar the maps are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from iscam.data import load_images
from iscam.errors import InputError
from iscam.maps import rank_correlation, upsample
from iscam.model import Network
from iscam.reproduction.example_images import maps_of
from iscam.reproduction.names import method_title

#: Side of the maps that are compared, in pixels. Networks may take images of different sizes.
SIDE = 224


class View(NamedTuple):
    """One network's view of the image: its input and its class probabilities."""

    net: Network
    image: Tensor  # (channels, height, width)
    probabilities: Tensor  # (classes,)

    def category(self) -> str:
        """Return the name of the predicted class."""
        return self.net.category(int(self.probabilities.argmax()))

    def class_index(self, category: str) -> int:
        """Return the index of a class. Raises `InputError` if the network has no class of this name."""
        names = [name.lower() for name in self.net.categories or ()]
        if category.lower() not in names:
            raise InputError(f"{type(self.net.model).__name__} has no class {category!r}")
        return names.index(category.lower())


#: The maps of one image: network -> method -> map (height, width).
Maps = Mapping[str, Mapping[str, Tensor]]


def views(nets: Mapping[str, Network], image: str = "", seed: int = 0) -> dict[str, View]:
    """Return the view of each network of an image file, or of the first drawing of a seed if `image` is empty."""
    found = {}
    for name, net in nets.items():
        source = load_images(image or "menagerie", None if image else 1, seed, net.transform)
        x = source[0].image.to(net.device)
        found[name] = View(net, x, net.probabilities(x[None])[0].cpu())
    return found


def commonest(found: Mapping[str, View]) -> str:
    """Return the class that most networks predict; the first network decides between equals."""
    return Counter(view.category() for view in found.values()).most_common(1)[0][0]


def predictions(found: Mapping[str, View], category: str) -> pd.DataFrame:
    """Return a row per network: the predicted class, its probability, and that of the explained class."""
    return pd.DataFrame(
        {
            "network": name,
            "prediction": view.category(),
            "probability": float(view.probabilities.max()),
            f"probability of {category}": float(view.probabilities[view.class_index(category)]),
            "parameters": f"{sum(p.numel() for p in view.net.model.parameters()):,}",
        }
        for name, view in found.items()
    )


def maps(
    found: Mapping[str, View], methods: Sequence[str], category: str
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Return the maps of the class by network and method, and a sentence on each that a network does not allow."""
    rows, missing = {}, []
    for name, view in found.items():
        allowed, reasons = maps_of(view.net, view.image[None], view.class_index(category), methods)
        rows[name] = {method: saliency_maps[0] for method, saliency_maps in allowed.items()}
        missing += [f"{method_title(method)} is left out for {name}: {reason}." for method, reason in reasons.items()]
    return rows, missing


def between_networks(shown: Maps) -> dict[str, pd.DataFrame]:
    """Return, for each method, the matrix of similarities between the networks that allow it."""
    methods = dict.fromkeys(method for row in shown.values() for method in row)
    return {
        method_title(method): similarity({name: row[method] for name, row in shown.items() if method in row})
        for method in methods
    }


def between_methods(shown: Maps) -> dict[str, pd.DataFrame]:
    """Return, for each network, the matrix of similarities between the methods."""
    return {name: similarity({method_title(m): found for m, found in row.items()}) for name, row in shown.items()}


def similarity(named: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return the rank correlation of every two maps. The values are NaN for a constant map."""
    maps_of_one_size = {name: upsample(found[None], (SIDE, SIDE))[0] for name, found in named.items()}
    rows = {
        name: {other: rank_correlation(a, b) for other, b in maps_of_one_size.items()}
        for name, a in maps_of_one_size.items()
    }
    return pd.DataFrame(rows)


def mean_similarity(matrices: Mapping[str, pd.DataFrame]) -> float:
    """Return the mean over all pairs of different maps of all matrices."""
    pairs = [
        matrix.iloc[row, column] for matrix in matrices.values() for row in range(len(matrix)) for column in range(row)
    ]
    return float(pd.Series(pairs, dtype=float).mean())


def summary(shown: Maps) -> str:
    """Return a sentence with the mean similarity between networks and between methods."""
    networks, methods = mean_similarity(between_networks(shown)), mean_similarity(between_methods(shown))
    nearer = "methods that explain one network" if methods > networks else "networks under one method"
    return (
        f"On this image, the mean rank correlation is {networks:.2f} between two networks under one method, and "
        f"{methods:.2f} between two methods that explain one network. So {nearer} agree more."
    )
