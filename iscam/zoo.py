"""`load_model`: the papers' networks and the embedded ones, with their weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torchvision import models

from iscam.download import fetch
from iscam.errors import InputError
from iscam.model import Network
from iscam.rng import seeded
from iscam.validation import unknown_choice

#: The papers' networks and their layers, as the authors' code names them (512 channels; 7x7, 7x7 and 13x13).
LAYERS = {"vgg16": "features", "resnet18": "layer4", "squeezenet1_0": "features"}


def load_model(name: str, weights: str | Path | None = "default", layer: str | None = None) -> Network:
    """One of the papers' networks, or an embedded one, ready to explain, on the CPU.

    `name`: vgg16, resnet18 or squeezenet1_0 (1000 ImageNet classes), or menagerie/vgg, menagerie/resnet,
    menagerie/squeezenet. `weights`: "default" is torchvision's IMAGENET1K_V1, downloaded once into the cache, or the
    embedded weights of the menagerie; a path is a file in the layout of the model's `state_dict`, `.safetensors` or
    `.pth` (read without unpickling code); None is random, the same at every call. `layer`: None is the layer that the
    authors' code explains.

    Raises `InputError` for an unknown name or layer, and for a file that is missing, corrupt or of another network.
    Source: torchvision's model zoo; layers: the authors' notebooks.

    >>> net = iscam.load_model("squeezenet1_0", weights=None)
    >>> net.layer, len(net.categories)
    ('features', 1000)
    """
    from iscam.menagerie import networks as menagerie  # here, since it needs Network

    if name in menagerie.NETWORKS:
        model, default_layer, categories, default = menagerie.build(name)
    elif name in LAYERS:
        entry = models.get_model_weights(name)["IMAGENET1K_V1"]
        model, default_layer, categories = seeded(models.get_model, name), LAYERS[name], entry.meta["categories"]
        default = entry.url
    else:
        raise unknown_choice("model", name, [*LAYERS, *menagerie.NETWORKS])
    if weights is not None:
        path = weights_file(default) if weights == "default" else Path(weights)
        load_weights(model, path, name)
    return Network(model.eval(), layer or default_layer, categories=categories)


def weights_file(default: str | Path) -> Path:
    """Path of a model's own weights: embedded, or fetched from torchvision (file names end in their sha256)."""
    if isinstance(default, Path):
        return default
    return fetch(default, sha256=default.rsplit("-", 1)[-1].split(".")[0])


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Read a file into the model, all of it or nothing."""
    if not path.is_file():
        raise InputError(f"no weights file {path}; give a .safetensors or .pth file, or none for random weights")
    try:
        read = safetensors.torch.load_file if path.suffix == ".safetensors" else read_pth
        state = read(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"cannot read the weights file {path}: it is corrupt, or holds a whole model, which is not read since that "
            f"runs code; save model.state_dict()"
        ) from error
    except Exception as error:  # each format has its own errors for a corrupt file
        raise InputError(f"cannot read the weights file {path}: {first_line(error)}") from error
    expected = {key: value.shape for key, value in model.state_dict().items()}
    found = {key: getattr(value, "shape", None) for key, value in state.items()} if isinstance(state, dict) else {}
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    missing = {key for key in missing if not key.endswith("num_batches_tracked")}  # torchvision's ResNet has none
    reshaped = {key for key in expected.keys() & found.keys() if expected[key] != found[key]}
    if wrong := sorted(missing | unknown | reshaped):
        entries = " or ".join(sorted(key for key in unknown if isinstance(state[key], dict)))  # as of a checkpoint
        hint = f"; if they are inside its entry {entries}, save that alone" if entries else ""
        raise InputError(
            f"{path} does not hold weights of {name}: of its {len(expected)} tensors {len(missing)} are missing and "
            f"{len(reshaped)} have another shape, and {len(unknown)} are unknown; first {wrong[0]} "
            f"({found.get(wrong[0], 'missing')}, not {expected.get(wrong[0], 'known')}){hint}"
        )
    model.load_state_dict({**model.state_dict(), **state})


def read_pth(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
