"""`explain`: its arguments, its return values and its warnings."""

from __future__ import annotations

import dataclasses
import json
import threading
import typing
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

import iscam
from helpers.errors import refused
from helpers.images import array, smooth_images
from helpers.networks import bias_free, pooled
from iscam.maps import weighted_map
from iscam.methods import CONTROLS, METHODS
from iscam.methods.options import MethodOptions


def all_methods() -> list[str]:
    return [*METHODS, *CONTROLS]


ZERO_MAPS = pytest.mark.filterwarnings("ignore:the map of class")


@pytest.fixture
def net() -> iscam.Network:
    return iscam.Network(pooled(), "relu")


IMAGES = smooth_images(3, 25, 31)


# ------------------------------------------------------------------------------------------------------------ arguments


def test_a_bare_module_is_wrapped():
    model = pooled()
    assert torch.equal(
        iscam.explain(model, IMAGES, method="grad_cam"), iscam.explain(iscam.Network(model), IMAGES, method="grad_cam")
    )


@pytest.mark.parametrize("targets", [2, [2, 2, 2], np.array([2, 2, 2]), torch.tensor([2, 2, 2])], ids=type)
def test_targets_may_have_any_type(net, targets):
    expected = iscam.explain(net, IMAGES, torch.tensor([2, 2, 2]), "grad_cam")
    assert torch.equal(iscam.explain(net, IMAGES, targets, "grad_cam"), expected)


def test_a_function_as_method_gives_its_weighted_map(net):
    def mean_activation(record):
        return record.activations.mean((1, 2))

    maps = iscam.explain(net, IMAGES, method=mean_activation)
    a = net.model.relu(net.model.last(net.model.first(IMAGES)))
    expected = torch.stack([weighted_map(each.mean((1, 2)), each, (25, 31)) for each in a])
    assert_allclose(array(maps), array(expected), atol=1e-6)


def test_a_function_may_weigh_each_position(net):
    maps = iscam.explain(net, IMAGES, method=lambda record: torch.ones_like(record.activations))
    expected = iscam.explain(net, IMAGES, method=lambda record: torch.ones(len(record.activations)))
    assert_allclose(array(maps), array(expected), atol=1e-6)


@pytest.mark.parametrize(
    "weights, word",
    [(3.0, "float"), (torch.ones(3), "(3,)"), (torch.full((8,), torch.nan), "NaN"), (None, "NoneType")],
    ids=["number", "shape", "NaN", "None"],
)
def test_a_function_with_wrong_weights_is_refused(net, weights, word):
    with pytest.raises(iscam.InputError, match="weights") as error:
        iscam.explain(net, IMAGES, method=lambda record: weights)
    assert word in str(error.value)


@pytest.mark.parametrize("method", [["grad_cam"], {"a": 1}, 3, None])
def test_a_method_of_wrong_type_is_refused(net, method):
    with pytest.raises(iscam.InputError, match=r"method must be a name or a function.*valid names: cam"):
        iscam.explain(net, IMAGES, method=method)


@pytest.mark.parametrize("targets", [torch.tensor([1j, 0, 0]), True, 10**30, [10**30] * 3, [[1], [2], [3]]], ids=str)
def test_targets_of_wrong_type_are_refused(net, targets):
    with pytest.raises(iscam.InputError, match="target"):
        iscam.explain(net, IMAGES, targets, "grad_cam")


# -------------------------------------------------------------------------------------------------------------- details


@ZERO_MAPS
@pytest.mark.parametrize("method", all_methods())
def test_details_hold_the_same_maps(net, method):
    found = iscam.explain(net, IMAGES, [0, 1, 2], method, details=True)
    assert torch.equal(found.maps, iscam.explain(net, IMAGES, [0, 1, 2], method))
    assert found.targets.tolist() == [0, 1, 2]
    assert_allclose(array(found.probabilities), array(net(IMAGES).softmax(1)[range(3), range(3)]), atol=1e-6)
    assert found.method == method
    assert set(found.options) == set({**METHODS, **CONTROLS}[method].option_names)
    assert found.raw.shape == found.maps.shape
    assert (found.weights is None) == ({**METHODS, **CONTROLS}[method].kind == "map")


@ZERO_MAPS
def test_details_explain_the_map(net):
    found = iscam.explain(net, IMAGES, 1, "score_cam", details=True)
    a = net.model.relu(net.model.last(net.model.first(IMAGES)))
    for weights, activations, saliency in zip(found.weights, a, found.maps, strict=True):
        assert_allclose(array(weighted_map(weights, activations, (25, 31))), array(saliency), atol=1e-6)


@ZERO_MAPS
def test_details_can_be_saved(net, tmp_path):
    found = iscam.explain(net, IMAGES, 1, "is_cam", steps=2, details=True)
    folder = found.save(tmp_path / "new" / "folder")
    with np.load(folder / "maps.npz") as arrays:
        assert_allclose(arrays["maps"], array(found.maps), atol=1e-7)
        assert_allclose(arrays["weights"], array(found.weights), atol=1e-7)
    described = json.loads((folder / "explanation.json").read_text())
    assert (described["method"], described["layer"], described["options"]["steps"]) == ("is_cam", "relu", 2)
    assert sorted(file.name for file in folder.glob("*.png")) == ["0.png", "1.png", "2.png"]


@ZERO_MAPS
def test_details_that_cannot_be_saved_are_one_line(net, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(iscam.InputError, match="cannot write the explanation"):
        iscam.explain(net, IMAGES, 1, "grad_cam", details=True).save(tmp_path / "file")


@ZERO_MAPS
def test_details_are_not_saved_under_an_impossible_name(net):
    with refused("cannot write the explanation to a"):
        iscam.explain(net, IMAGES, 1, "grad_cam", details=True).save("a\0b")


@ZERO_MAPS
def test_details_of_bfloat16_are_saved_as_float32(net, tmp_path):
    model, images = deepcopy(net.model).bfloat16(), IMAGES.bfloat16()
    found = iscam.explain(model, images, 1, "grad_cam", details=True)
    with np.load(found.save(tmp_path) / "maps.npz") as arrays:
        assert {name: str(arrays[name].dtype) for name in arrays if name != "targets"} == dict.fromkeys(
            ("maps", "raw", "weights", "probabilities"), "float32"
        )
        assert_allclose(arrays["probabilities"], array(found.probabilities.float()))


@ZERO_MAPS
def test_details_can_be_plotted(net):
    figure = iscam.explain(net, IMAGES, 1, "grad_cam", details=True).plot(2)
    assert len(figure.axes) >= 3
    assert "class 1" in figure.get_suptitle()


# ------------------------------------------------------------------------------------------------------------- warnings


def blank_head(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.head.weight.zero_()
    return model


def test_a_map_of_zeros_warns_once_and_says_why():
    net = iscam.Network(blank_head(bias_free()), "features")
    with pytest.warns(UserWarning, match="is all zeros: all weights of layer 'features' are zero; choose") as warned:
        for _ in range(2):
            iscam.explain(net, smooth_images(2, 20, 16), method="grad_cam")
    assert len(warned) == 1


def test_a_layer_of_one_position_says_so():
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="has one spatial position"):
        iscam.explain(iscam.Network(model, "1"), smooth_images(1, 9, 9), method="grad_cam")


def test_many_passes_warn_once_and_name_a_remedy(net):
    with pytest.warns(
        UserWarning, match=r"IS-CAM of 1 images takes up to 8,001 forward passes on the CPU.*nodes=5"
    ) as warned:
        for _ in range(2):
            iscam.explain(net, IMAGES[:1], steps=1000)
    assert len(warned) == 1


def test_few_passes_do_not_warn(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iscam.explain(net, IMAGES, method="is_cam")


# -------------------------------------------------------------------------------------------------------------- threads


@ZERO_MAPS
@pytest.mark.parametrize("method", ["cam", "grad_cam", "score_cam", "ss_cam", "is_cam"])
def test_threads_give_the_same_maps(method):
    model = pooled().train()
    net = iscam.Network(model, "relu")
    images = smooth_images(8, 25, 31)
    expected = [iscam.explain(net, image[None], 1, method) for image in images]
    found: dict[int, torch.Tensor] = {}

    def work(i: int) -> None:
        for j in range(i, 8, 4):
            found[j] = iscam.explain(net, images[j][None], 1, method)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for j in range(8):
        assert_allclose(array(found[j]), array(expected[j]), atol=1e-6)
    assert all(module.training for module in model.modules())


def test_a_map_method_warns_once_of_a_map_of_zeros(net):
    with torch.no_grad():
        net.model.last.weight.zero_()
    with pytest.warns(UserWarning, match="the map of class 1 is all zeros: Recipro-CAM finds no evidence"):
        iscam.explain(net, IMAGES, 1, "recipro_cam")
    iscam.explain(net, IMAGES, 1, "recipro_cam")


# ------------------------------------------------------------------------------------------------------------- registry


def test_typed_options_are_those_of_the_methods():
    typed = typing.get_type_hints(MethodOptions)
    found = {}
    for method in {**METHODS, **CONTROLS}.values():
        hints = typing.get_type_hints(method.options)
        found |= {field.name: hints[field.name] for field in dataclasses.fields(method.options)}
    assert typed == found


@pytest.mark.parametrize("method", all_methods())
def test_every_entry_is_complete(method):
    entry = {**METHODS, **CONTROLS}[method]
    assert entry.title and entry.summary and entry.function.__doc__
    assert entry.passes(8, entry.parse({})) >= 1


@pytest.mark.parametrize(
    "method, options, passes",
    [
        ("cam", {}, 1),
        ("grad_cam", {}, 3),
        ("smooth_grad_cam_pp", {"samples": 4}, 15),
        ("score_cam", {}, 9),
        ("ss_cam", {"samples": 3}, 25),
        ("is_cam", {}, 121),
        ("is_cam", {"nodes": 4}, 33),
        ("is_cam", {"schedule": [0.5, 1.0]}, 17),
        ("score_cam", {"channels": 3}, 4),
        ("is_cam", {"channels": 100, "steps": 2}, 17),
        ("ablation_cam", {}, 14),
        ("score_cam_pp", {}, 10),
        ("score_cam_pp", {"baseline": None}, 9),
        ("grad_pp_score_cam", {}, 11),
        ("grad_pp_score_cam", {"channels": 2}, 5),
        ("recipro_cam", {}, 54),
        ("opti_cam", {"steps": 10}, 31),
    ],
)
def test_passes_of_a_method(method, options, passes):
    assert METHODS[method].cost(8, 49, METHODS[method].parse(options)) == passes


def test_the_registries_name_what_they_hold():
    papers = ["cam", "grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "score_cam", "ss_cam", "is_cam"]
    others = ["layer_cam", "xgrad_cam", "ablation_cam", "score_cam_pp", "grad_pp_score_cam", "recipro_cam", "opti_cam"]
    assert list(METHODS) == papers + others
    assert list(CONTROLS) == ["identity", "random"]


# ---------------------------------------------------------------------------------------------- process-wide settings


@ZERO_MAPS
@pytest.mark.parametrize("method", all_methods())
def test_default_dtype_changes_no_map(net, method):
    expected = iscam.explain(net, IMAGES[:1], 1, method)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = iscam.explain(net, IMAGES[:1], 1, method)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    assert_allclose(array(found), array(expected), atol=1e-6)


@ZERO_MAPS
@pytest.mark.parametrize("method", all_methods())
def test_default_device_changes_no_map(net, method):
    expected = iscam.explain(net, IMAGES[:1], [1], method)
    with torch.device("meta"):
        found = iscam.explain(net, IMAGES[:1], [1], method)
    assert_allclose(array(found), array(expected), atol=1e-6)
