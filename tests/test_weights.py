"""Weight files: what is read, strictly and without running code, and what is refused."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import iscam
from helpers.errors import refused
from helpers.images import array


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_of_a_file_are_loaded(tmp_path, kind):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        weights = models.squeezenet1_0(weights=None).state_dict()
    file = tmp_path / f"weights.{kind}"
    (save_file if kind == "safetensors" else torch.save)(weights, file)
    net = iscam.load_model("squeezenet1_0", weights=file)
    assert all(torch.equal(value, weights[key]) for key, value in net.model.state_dict().items())
    assert torch.equal(
        iscam.load_model("squeezenet1_0", weights=str(file)).model.classifier[1].weight, weights["classifier.1.weight"]
    )


def test_checkpoint_gets_a_hint(tmp_path):
    file = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": models.squeezenet1_0(weights=None).state_dict()}, file)
    with pytest.raises(iscam.InputError, match="in its entry state_dict, save only that entry"):
        iscam.load_model("squeezenet1_0", weights=file)


def test_default_weights_in_the_cache_need_no_network(tmp_path, monkeypatch):
    """The cache is searched for torchvision's file name, which ends in the hash."""
    file = tmp_path / "squeezenet1_0-.pth"
    weights = models.squeezenet1_0(weights=None).state_dict()
    torch.save(weights, file)
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    file.rename(tmp_path / f"squeezenet1_0-{digits}.pth")
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path))
    url = f"https://download.example/models/squeezenet1_0-{digits}.pth"
    monkeypatch.setattr(type(models.SqueezeNet1_0_Weights.IMAGENET1K_V1), "url", url)
    net = iscam.load_model("squeezenet1_0")
    assert torch.equal(net.model.classifier[1].weight, weights["classifier.1.weight"])


def test_weights_without_counts_of_batches_are_loaded(tmp_path):
    """As in torchvision's ResNet files: batch normalisation counts batches only in training."""
    file, model = tmp_path / "resnet18.pth", models.resnet18(weights=None)
    torch.save({k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}, file)
    net = iscam.load_model("resnet18", file)
    assert torch.equal(net.model.fc.weight, model.fc.weight)


class Evil:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return (pytest.fail, ("code in a weights file was run",))


def bad_weights(folder, kind: str):
    state = models.squeezenet1_0(weights=None).state_dict()
    suffix = "safetensors" if kind.endswith("safetensors") else "pth"
    file = folder / f"weights.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    kind = kind.split(",")[0]
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("no weights\nbut two lines\n")
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        save(state, file)
        file.write_bytes(file.read_bytes()[:-1000])
    elif kind == "another network":
        save(models.resnet18(weights=None).state_dict(), file)
    elif kind == "other classes":
        save(models.squeezenet1_0(weights=None, num_classes=10).state_dict(), file)
    elif kind == "one missing":
        state.pop("classifier.1.bias")
        save(state, file)
    elif kind == "one too many":
        save(state | {"extra": torch.zeros(1)}, file)
    elif kind == "a number too many":
        save(state | {"epoch": 3}, file)
    elif kind == "checkpoint":
        save({"epoch": 3, "state_dict": state}, file)
    elif kind == "list":
        save([1, 2, 3], file)
    elif kind == "code":
        save(state | {"extra": Evil()}, file)
    elif kind == "model":
        save(nn.Linear(2, 2), file)
    elif kind == "pickle":
        file.write_bytes(pickle.dumps({"a": Evil()}))
    return file


KINDS = [
    "missing",
    "folder",
    "text",
    "empty",
    "truncated",
    "another network",
    "other classes",
    "one missing",
    "one too many",
]


@pytest.mark.parametrize(
    "kind",
    [f"{kind}, {suffix}" for kind in KINDS for suffix in ("pth", "safetensors")]
    + ["a number too many, pth", "checkpoint, pth", "list, pth", "code, pth", "pickle, pth"],
)
def test_bad_weights_file_is_refused(tmp_path, kind):
    file = bad_weights(tmp_path, kind)
    with refused(str(file)):
        iscam.load_model("squeezenet1_0", weights=file)


@pytest.mark.parametrize("kind", ["text, pth", "model, pth"])
def test_pickled_model_is_refused(tmp_path, kind):
    """torch's own message advises reading the file unsafely."""
    with refused("corrupt, or it holds a whole model", "state_dict()"):
        iscam.load_model("squeezenet1_0", weights=bad_weights(tmp_path, kind))


def test_tensors_of_another_network_are_counted(tmp_path):
    """SqueezeNet1.0 has 52 tensors; ResNet-18 has 122, none of them under one of their names."""
    with refused("of its 52 tensors 52 are missing and 0 have another shape, and 122 keys of the file are unknown"):
        iscam.load_model("squeezenet1_0", weights=bad_weights(tmp_path, "another network, pth"))


def changed(change) -> dict[str, torch.Tensor]:
    state = {key: value.clone() for key, value in models.squeezenet1_1(weights=None).state_dict().items()}
    return {key: change(value) for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: (100 * x).to(torch.int8), ["int8", "floating point"]),
        (lambda x: x.to(torch.complex64), ["complex64", "floating point"]),
        (lambda x: x.to(torch.float8_e4m3fn), ["float8", "floating point"]),
        (lambda x: x.bool(), ["bool", "floating point"]),
        (lambda x: x.to_sparse(), ["sparse", "dense"]),
        (lambda x: x.to("meta"), ["meta", "dense"]),
        (lambda x: torch.full_like(x, torch.nan), ["NaN"]),
        (lambda x: x[None], ["another shape"]),
        (lambda x: x.numpy(), ["cannot read"]),
        (lambda x: x.flatten()[:3].tolist(), ["another shape", "list"]),
    ],
    ids=["int8", "complex", "float8", "bool", "sparse", "meta", "nan", "rank", "numpy", "list"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_weights_of_another_kind_are_refused(tmp_path, change, words):
    file = tmp_path / "weights.pth"
    torch.save(changed(change), file)
    with refused(str(file), *words):
        iscam.load_model("torchvision/squeezenet1_1", weights=file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path, dtype):
    file, state = tmp_path / "weights.pth", changed(lambda x: x.to(dtype))
    torch.save(state, file)
    weight = iscam.load_model("torchvision/squeezenet1_1", weights=file).model.classifier[1].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["classifier.1.weight"].float())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_weights_with_a_prefix_get_a_hint(tmp_path, prefix):
    file = tmp_path / "weights.pth"
    torch.save({prefix + key: value for key, value in changed(lambda x: x).items()}, file)
    with refused(f"remove the prefix '{prefix}' from the file's keys"):
        iscam.load_model("torchvision/squeezenet1_1", weights=file)


@pytest.mark.parametrize("state", [{1: torch.ones(1)}, {1: torch.ones(1), "a": torch.ones(2)}, [1, 2], torch.ones(3)])
def test_file_without_names_is_refused(tmp_path, state):
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    with refused(str(file), "not weights", "state_dict()"):
        iscam.load_model("resnet18", weights=file)


@pytest.mark.parametrize("name", ["weights.SAFETENSORS", "weights.pth", "weights.bin", "weights"])
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_format_of_weights_is_read_from_the_file(tmp_path, name, save):
    file, state = tmp_path / name, changed(lambda x: x)
    save(state, file)
    net = iscam.load_model("torchvision/squeezenet1_1", weights=file)
    assert array(net.model.classifier[1].bias).tolist() == array(state["classifier.1.bias"]).tolist()
