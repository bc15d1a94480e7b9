"""`load_model`, which loads the papers' networks, embedded networks, torchvision and timm models, and user models."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode

from iscam.download import fetch
from iscam.errors import DownloadError, InputError
from iscam.menagerie import networks as menagerie
from iscam.model import Network, as_network
from iscam.rng import seeded
from iscam.transforms import imagenet_transform
from iscam.validation import file_exists, printable, unknown_choice
from iscam.weights import first_line, load_weights

#: The papers' networks and the names of their layers in the authors' code (512 channels; 7x7, 7x7 and 13x13 positions).
LAYERS = {"vgg16": "features", "resnet18": "layer4", "squeezenet1_0": "features"}

#: Arguments with which torchvision builds these models when it loads their default weights.
TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def load_model(name: str, weights: str | Path | None = "default", layer: str | None = None) -> Network:
    """Load a network that is ready to explain. It is on the CPU and in evaluation mode.

    `name` is one of

    - vgg16, resnet18 or squeezenet1_0: the papers' networks, 1000 ImageNet classes
    - menagerie/vgg, menagerie/resnet or menagerie/squeezenet: small embedded networks
    - torchvision/NAME: a classifier of torchvision, with the transform and categories of its default weights
    - timm/NAME: a classifier of timm, with the transform of its data configuration
    - FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION: a function without arguments that returns a `Network`

    `weights`: "default" selects trained weights: IMAGENET1K_V1 for the papers' networks, the embedded weights, the
    default weights of torchvision or timm, or the weights of the network that the function returns. A path names a
    `.safetensors` or `.pth` file with the keys of the model's `state_dict()`. The file is read without running code.
    None selects random weights, which are the same in every call.

    `layer`: the layer to explain. None selects the layer of the authors' code for the papers' networks, the default
    layer of an embedded network or of the network that the function returns, or otherwise the automatic layer.

    Raises InputError for an unknown name or layer, for a function that fails, and for a file that is missing, corrupt
    or holds other weights. Raises DownloadError for default weights that are not cached and cannot be downloaded.

    >>> net = iscam.load_model("squeezenet1_0", weights=None)
    >>> net.layer, len(net.categories)
    ('features', 1000)
    """
    if weights is not None and not isinstance(weights, str | Path):
        raise InputError(
            f"weights must be 'default' (trained), None (random) or the path of a file, not the "
            f"{type(weights).__name__} {' '.join(str(weights).split())[:60]}"
        )
    if not isinstance(name, str):
        raise InputError(f"the model's name must be a string, not {type(name).__name__}")
    net = source(name)(name, weights)
    return net if layer is None else net.with_layer(layer)


def source(name: str) -> Callable[[str, str | Path | None], Network]:
    """Return the function that loads a model of this name."""
    if name in menagerie.NETWORKS:
        return embedded
    if name in LAYERS:
        return of_the_papers
    if ":" in name and not name.startswith("timm/"):
        return of_a_function
    for prefix, load in (("torchvision/", of_torchvision), ("timm/", of_timm)):
        if name.startswith(prefix):
            return load
    theirs = f"torchvision/{name if name in models.list_models(module=models) else 'NAME'}"
    more = [theirs, "timm/NAME", "FILE.py:FUNCTION", "PACKAGE.MODULE:FUNCTION"]
    raise unknown_choice("model", name, [*LAYERS, *menagerie.NETWORKS, *more])


def embedded(name: str, weights: str | Path | None) -> Network:
    model, layer, categories, default = menagerie.build(name)
    if weights is not None:
        load_weights(model, default if weights == "default" else Path(weights), name)
    return Network(model.eval(), layer, categories=categories)


def of_the_papers(name: str, weights: str | Path | None) -> Network:
    entry = models.get_model_weights(name)["IMAGENET1K_V1"]
    model = seeded(models.get_model, name)
    load_torchvision_weights(model, weights, entry, name)
    return Network(model.eval(), LAYERS[name], categories=entry.meta["categories"])


def of_torchvision(name: str, weights: str | Path | None) -> Network:
    short = name.removeprefix("torchvision/")
    valid = models.list_models(module=models)
    if short not in valid:
        raise unknown_choice("torchvision classifier", short, closest(short, valid))
    entry = models.get_model_weights(short).DEFAULT
    model = seeded(lambda: models.get_model(short, **TORCHVISION_OPTIONS.get(short, {})))
    load_torchvision_weights(model, weights, entry, name)
    preset = entry.transforms()
    transform = imagenet_transform(
        preset.resize_size, preset.crop_size, preset.interpolation, preset.mean, preset.std, bool(preset.antialias)
    )
    return Network(model.eval(), transform=transform, categories=entry.meta["categories"])


def load_torchvision_weights(model: nn.Module, weights: str | Path | None, entry: Any, name: str) -> None:
    """Load a weights file, or the default weights of a torchvision entry, into the model. None loads nothing.

    The names of torchvision's weights files end with the first digits of their sha256.
    """
    if weights is None:
        return
    if weights == "default":
        weights = fetch(entry.url, sha256=entry.url.rsplit("-", 1)[-1].split(".")[0])
    load_weights(model, Path(weights), name)


def of_timm(name: str, weights: str | Path | None) -> Network:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{name} needs timm, which is not installed: pip install timm") from error
    short = name.removeprefix("timm/")
    if not timm.is_model(short) and ":" not in short:
        raise unknown_choice("timm model", short, closest(short, timm.list_models()))
    try:
        model = seeded(lambda: timm.create_model(short, pretrained=weights == "default"))
    except Exception as error:  # the hub, the file system and timm raise different exceptions
        if weights != "default":
            raise InputError(f"timm cannot create {short}: {first_line(error)}") from error
        raise DownloadError(
            f"timm cannot load the default weights of {short} ({type(error).__name__}: {first_line(error)}); pass "
            f"weights=FILE, or weights=None for random weights"
        ) from error
    if weights not in (None, "default"):
        load_weights(model, Path(str(weights)), name)
    return Network(model.eval(), transform=timm_transform(model), categories=timm_categories(model))


def timm_transform(model: nn.Module) -> Callable[..., Any]:
    """Return timm's transform for evaluation. If it is a centre crop, the transform also applies to boxes."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model)
    _, height, width = config["input_size"]
    if config["crop_mode"] != "center" or height != width or config["interpolation"] == "random":
        return create_transform(**config, is_training=False)
    resize = int(height / config["crop_pct"])
    mode = InterpolationMode(config["interpolation"])
    return imagenet_transform([resize], [height, width], mode, config["mean"], config["std"])


def timm_categories(model: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the classes of an ImageNet model, or None for any other model."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if not subset:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))


def find_function(name: str) -> Callable[[], Any]:
    """Import the module of a user's function and return the function.

    Raises InputError if there is no such function.
    """
    where, _, function_name = name.rpartition(":")
    module = imported(where)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [
            key for key, value in vars(module).items() if isfunction(value) and value.__module__ == module.__name__
        ]
        raise unknown_choice(f"function of {where}", function_name, names[:20] or ["none"])
    if isinstance(function, nn.Module | Network):
        raise InputError(f"{name} is a {type(function).__name__}, not a function; write a function that returns it")
    return function


def of_a_function(name: str, weights: str | Path | None) -> Network:
    function = find_function(name)
    try:
        returned = function()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's code
        raise InputError(f"{name} fails: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(returned, Network | nn.Module):
        raise InputError(f"{name} must return an iscam.Network or a torch.nn.Module, not {type(returned).__name__}")
    net = as_network(returned)
    if weights is None:
        seeded(reset, net.model, name)
    elif weights != "default":
        load_weights(net.model, Path(weights), name)
    net.model.eval()
    return net


def imported(where: str) -> ModuleType:
    """Import a module from a file or by its dotted name.

    Raises InputError if the module cannot be imported.
    """
    path = Path(where)
    if path.suffix == ".py" and not file_exists(path):
        raise InputError(f"no model file {printable(where)}; the current folder is {Path.cwd()}")
    try:
        if path.suffix == ".py":
            return run_file(path)
        with on_path(Path.cwd()):
            return importlib.import_module(where)
    except (Exception, SystemExit) as error:  # the user's code
        raise InputError(f"cannot import '{printable(where)}': {type(error).__name__}: {first_line(error)}") from error


def run_file(path: Path) -> ModuleType:
    """Run a Python file and return the module that it defines. The file can import modules in its folder."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"iscam_model_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up the module of a class
    try:
        with on_path(path.resolve().parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Put the folder first on the import path inside the block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def reset(model: nn.Module, name: str) -> None:
    """Give all modules new random weights."""
    for where, module in model.named_modules():
        if callable(reset_parameters := getattr(module, "reset_parameters", None)):
            reset_parameters()
        elif any(True for _ in module.parameters(recurse=False)):
            raise InputError(
                f"{name} cannot get random weights: its module {where or 'itself'!r} ({type(module).__name__}) has no "
                f"reset_parameters(); let the function return an untrained model"
            )


def closest(name: str, valid: Sequence[str]) -> list[str]:
    """Return the valid names that are most similar to the given name."""
    return difflib.get_close_matches(name, valid, n=6, cutoff=0.3) or list(valid)[:6]
