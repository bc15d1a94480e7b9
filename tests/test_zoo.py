"""`load_model`: models of torchvision and timm, users' functions, and weight files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision import models

import iscam
from helpers.errors import refused
from helpers.image_files import unprivileged_folder

# --------------------------------------------------------------------------------------------------------- torchvision


@pytest.fixture
def photograph() -> Image.Image:
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 12, generator=g)
    large = nn.functional.interpolate(coarse, (270, 360), mode="bicubic").clamp(0, 1)
    return Image.fromarray((large[0].permute(1, 2, 0) * 255).byte().numpy())


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet50", "layer4"), ("mobilenet_v3_small", "features"), ("googlenet", "inception5b")]
)
def test_torchvision_model_with_its_transform(name, layer, photograph):
    net = iscam.load_model(f"torchvision/{name}", weights=None)
    assert net.layer == layer
    assert not net.model.training
    entry = models.get_model_weights(name).DEFAULT
    assert list(net.categories) == entry.meta["categories"]
    found, expected = net.transform(photograph), entry.transforms()(photograph)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_torchvision_random_weights_are_repeatable():
    state = torch.random.get_rng_state()
    first, second = (iscam.load_model("torchvision/squeezenet1_1", weights=None).model for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_torchvision_weights_of_a_file(tmp_path):
    file, model = tmp_path / "weights.safetensors", models.squeezenet1_1(weights=None)
    save_file(model.state_dict(), file)
    net = iscam.load_model("torchvision/squeezenet1_1", weights=file, layer="features.9")
    assert torch.equal(net.model.classifier[1].weight, model.classifier[1].weight)
    assert net.layer == "features.9"


def test_torchvision_urls_end_in_a_hash():
    """`fetch` checks a download against the hash in its name."""
    for name in models.list_models(module=models):
        digits = models.get_model_weights(name).DEFAULT.url.rsplit("-", 1)[-1].split(".")[0]
        assert len(digits) >= 8
        assert int(digits, 16) >= 0


@pytest.mark.parametrize("name", ["torchvision/resnet50", "squeezenet1_0"])
def test_default_weights_without_network_are_a_download_error(name):
    with refused("cannot download https://", "ISCAM_CACHE", error=iscam.errors.DownloadError):
        iscam.load_model(name)


def test_default_weights_of_another_hash_are_a_download_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path))
    file = tmp_path / models.ResNet50_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    file.write_bytes(b"something else")
    with refused(str(file), "sha256", error=iscam.errors.DownloadError):
        iscam.load_model("torchvision/resnet50")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision/resnet5", ["unknown torchvision classifier 'resnet5'", "resnet50"]),
        ("torchvision/fcn_resnet50", ["unknown torchvision classifier", "resnet50"]),
        ("torchvision/", ["unknown torchvision classifier ''"]),
        ("timm/resnt18", ["unknown timm model 'resnt18'", "resnet18"]),
        ("resnet50", ["unknown model 'resnet50'", "torchvision/resnet50", "timm/NAME", "FILE.py:FUNCTION"]),
        ("efficientnet", ["unknown model", "torchvision/NAME", "menagerie/resnet", "vgg16"]),
    ],
)
def test_unknown_name_lists_valid_ones(name, words):
    with refused(*words):
        iscam.load_model(name, weights=None)


@pytest.mark.parametrize("name", [["resnet18"], None, 3, Path("resnet18"), nn.ReLU()])
def test_name_that_is_no_string_is_refused(name):
    with refused("name must be a string"):
        iscam.load_model(name)


# ---------------------------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18.a1_in1k", "layer4"), ("vit_tiny_patch16_224", "blocks.11.norm1")]
)
def test_timm_model_with_its_transform(name, layer, photograph):
    net = iscam.load_model(f"timm/{name}", weights=None)
    assert net.layer == layer
    model = timm.create_model(name, pretrained=False)
    expected = create_transform(**resolve_model_data_config(model), is_training=False)(photograph)
    torch.testing.assert_close(net.transform(photograph), expected, atol=0.02, rtol=0)
    assert net(net.transform(photograph)[None]).shape == (1, len(net.categories))


def test_timm_model_without_timm_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with refused("timm/resnet18 needs timm", "pip install timm"):
        iscam.load_model("timm/resnet18", weights=None)


def test_timm_weights_without_network_are_a_download_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused("timm cannot load the default weights of resnet18", "weights=", error=iscam.errors.DownloadError):
        iscam.load_model("timm/resnet18")


def test_timm_weights_of_a_file(tmp_path):
    file = tmp_path / "weights.pth"
    model = timm.create_model("convnext_atto", pretrained=False)
    torch.save(model.state_dict(), file)
    net = iscam.load_model("timm/convnext_atto", weights=str(file))
    assert torch.equal(net.model.head.fc.weight, model.head.fc.weight)
    assert net.layer == "stages"


# ----------------------------------------------------------------------------------------------------- users' functions

MODELS = """
import iscam
import torch
from torch import nn
from sibling import CLASSES

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))

def network():
    return iscam.Network(build().train(), categories=["a", "b"])

def module():
    return build()

def nothing():
    return None

def fails():
    raise KeyError("weights")

def exits():
    raise SystemExit(3)

def needs_an_argument(path):
    return network()

def without_reset():
    model = build()
    model.scale = nn.Parameter(torch.ones(1))
    return iscam.Network(model, "1")

number = 3
net = build()
wrapped = network()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "sibling.py").write_text("CLASSES = 2\n")
    path = tmp_path / "my models.py"
    path.write_text(MODELS)
    yield path
    sys.modules.pop("sibling", None)


@pytest.mark.parametrize("function", ["network", "module"])
def test_function_in_a_file(file, function):
    path = list(sys.path)
    net = iscam.load_model(f"{file}:{function}", layer="0")
    assert isinstance(net, iscam.Network)
    assert net.layer == "0"
    assert iscam.load_model(f"{file}:{function}").layer == "1"
    assert not net.model.training
    assert net.category(1) == ("b" if function == "network" else "class 1")
    assert sys.path == path


def test_function_in_a_module(file, monkeypatch):
    (file.parent / "package").mkdir()
    (file.parent / "package" / "models.py").write_text(MODELS)
    monkeypatch.chdir(file.parent)
    assert iscam.load_model("package.models:network").categories == ("a", "b")


def test_function_with_weights_of_a_file(file, tmp_path):
    model = iscam.load_model(f"{file}:module").model
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    net = iscam.load_model(f"{file}:network", weights=tmp_path / "own.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.model.parameters(), model.parameters(), strict=True))


def test_function_with_random_weights_is_repeatable(file):
    first, second = (iscam.load_model(f"{file}:network", weights=None).model for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = iscam.load_model(f"{file}:network").model
    assert not torch.equal(first[0].weight, other[0].weight)
    with refused("cannot get random weights", "reset_parameters"):
        iscam.load_model(f"{file}:without_reset", weights=None)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("scan", ["unknown function", "'scan'", "network, module, nothing"]),
        ("number", ["unknown function", "'number'", "network"]),
        ("", ["unknown function", "network"]),
        ("nothing", ["must return an iscam.Network", "NoneType"]),
        ("fails", ["fails: KeyError: 'weights'"]),
        ("exits", ["fails: SystemExit: 3"]),
        ("net", ["is a Sequential, not a function"]),
        ("wrapped", ["is a Network, not a function"]),
        ("needs_an_argument", ["fails: TypeError", "missing 1 required positional argument"]),
    ],
)
def test_function_that_gives_no_network_is_refused(file, function, words):
    with refused(*words):
        iscam.load_model(f"{file}:{function}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def network(:\n", ["cannot import", "SyntaxError"]),
        ("import nowhere_to_be_found\n", ["cannot import", "ModuleNotFoundError", "nowhere_to_be_found"]),
        ("1 / 0\n", ["cannot import", "ZeroDivisionError"]),
        ("import sys\nsys.exit(3)\n", ["cannot import", "SystemExit"]),
        (b"\xff\xfe\x00", ["cannot import"]),
    ],
)
def test_file_that_cannot_be_imported_is_refused(tmp_path, text, words):
    path, before = tmp_path / "broken.py", set(sys.modules)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused(str(path), *words):
        iscam.load_model(f"{path}:network")
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py:network", ["no model file nowhere.py", "current folder"]),
        ("nowhere.module:network", ["cannot import 'nowhere.module'", "ModuleNotFoundError"]),
        (":network", ["cannot import", "''"]),
        ("..x:network", ["cannot import '..x'"]),
    ],
)
def test_missing_file_or_module_is_refused(name, words):
    with refused(*words):
        iscam.load_model(name)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("menagerie/resnet", "x" * 5000), ("x" * 5000 + ".py:network", "default")],
    ids=["weights", "model file"],
)
def test_long_name_of_a_file_is_refused(name, weights):
    with refused("cannot read xxx", "File name too long"):
        iscam.load_model(name, weights)


def test_file_without_permission_is_refused():
    with unprivileged_folder() as folder:
        (folder / "locked").mkdir()
        file = folder / "locked" / "own.py"
        file.write_text(MODELS)
        (folder / "locked").chmod(0)
        with refused(f"cannot read {file}", "Permission denied"):
            iscam.load_model(f"{file}:network")
        with refused(f"cannot read {file}", "Permission denied"):
            iscam.load_model("menagerie/resnet", file)


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("weights", "word"),
    [
        (models.ResNet18_Weights.DEFAULT, "ResNet18_Weights.IMAGENET1K_V1"),
        (models.resnet18(weights=None).state_dict(), "OrderedDict"),
        (3, "int 3"),
        (["a.pth"], "list ['a.pth']"),
        (b"a.pth", "bytes"),
        (True, "bool True"),
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "menagerie/resnet", "torchvision/resnet18", "timm/resnet18", "a.py:b"])
def test_weights_that_are_no_path_are_refused(name, weights, word):
    with refused("weights must be 'default'", "path of a file", word):
        iscam.load_model(name, weights=weights)


@pytest.mark.parametrize("name", ["resnet50", "", "squeezenet", "menagerie/alexnet", "menagerie"])
def test_unknown_model_lists_valid_ones(name):
    with refused("vgg16", "resnet18", "squeezenet1_0", "menagerie/resnet"):
        iscam.load_model(name, weights=None)


def test_unknown_layer_of_a_model_lists_valid_ones():
    with refused("layer9", "features"):
        iscam.load_model("squeezenet1_0", weights=None, layer="layer9")
