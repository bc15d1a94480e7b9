"""Calls leave the model, its hooks and its mode as they were; a network returns logits."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers.images import array, smooth_images
from helpers.methods import FEW
from helpers.networks import bias_free, pooled
from iscam.probe import layer_names
from iscam.record import forward_record

pytestmark = pytest.mark.filterwarnings("ignore:the map of class")  # a map of zeros is no failure here

CALLS = [*iscam.METHODS, *iscam.CONTROLS, "insertion", "deletion", "confidence"]


def call(name: str, net: iscam.Network, images: Tensor, targets=None) -> Tensor:
    """Run a method or a metric by its name."""
    if name in ("insertion", "deletion", "confidence"):
        found = getattr(iscam, name)(net, images, torch.ones_like(images[:, 0]), targets)
        return found[1]
    return iscam.explain(net, images, targets, name, **FEW.get(name, {}))


def state(model: nn.Module) -> list:
    """Hooks, modes, gradients and values of every module."""
    return [
        (name, module.training, *(len(getattr(module, hooks)) for hooks in HOOKS))
        for name, module in model.named_modules()
    ] + [
        (name, p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist())
        for name, p in [*model.named_parameters(), *model.named_buffers()]
    ]


HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_always_called",
)


class Failing(nn.Module):
    """Raises an error in its n-th forward pass."""

    def __init__(self, error: type[BaseException], n: int):
        super().__init__()
        self.error, self.left = error, n

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left <= 0:
            raise self.error("in the forward pass")
        return x


def half_training(model: nn.Module) -> nn.Module:
    """Set the mode of each module separately, with gradients on the parameters."""
    model.train()
    model.first[1].eval()
    model.relu.eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    return model


@pytest.mark.parametrize("name", CALLS)
def test_call_leaves_model_and_input_unchanged(name):
    model = half_training(pooled())
    images, targets = smooth_images(2, 25, 31), torch.tensor([2, 3])
    before, copies = state(model), images.clone()
    found = call(name, iscam.Network(model, "relu"), images, targets)
    assert state(model) == before
    assert torch.equal(images, copies)
    assert images.grad is None
    evaluated = call(name, iscam.Network(pooled(), "relu"), images, targets)
    assert torch.equal(found, evaluated), "the model is explained in evaluation mode"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", ["score_cam", "ss_cam", "smooth_grad_cam_pp", "insertion", "confidence"])
def test_error_in_the_model_leaves_no_hook_or_mode(name, n, error):
    model = half_training(pooled())
    model.drop = Failing(error, n)
    before = state(model)
    expected = iscam.InputError if error is RuntimeError else error
    with pytest.raises(expected, match="in the forward pass"):
        call(name, iscam.Network(model, "relu"), smooth_images(3, 25, 31))
    assert state(model) == before


def test_hooks_of_the_user_stay_and_run():
    model, seen = pooled(), []
    hook = model.relu.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    iscam.explain(iscam.Network(model, "relu"), smooth_images(1, 25, 31), method="grad_cam")
    assert seen
    assert list(model.relu._forward_hooks) == [hook.id]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["frozen", "used inside", "created inside", "created and used inside", "no_grad"])
def test_frozen_model_or_inference_mode_changes_nothing(name, kind):
    images, targets = smooth_images(2, 25, 31), torch.tensor([2, 3])
    expected = call(name, iscam.Network(pooled(), "relu"), images, targets)
    with torch.inference_mode() if kind.startswith("created") else nullcontext():
        model = pooled()
        images = images.clone()
    if kind == "frozen":
        model.requires_grad_(False)
    with torch.inference_mode() if "used" in kind else torch.set_grad_enabled(kind != "no_grad"):
        found = call(name, iscam.Network(model, "relu"), images, targets)
    torch.testing.assert_close(found.clone(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
def test_data_parallel_changes_nothing(pooled_case, method):
    parallel = iscam.Network(nn.DataParallel(pooled_case.net.model), f"module.{pooled_case.net.layer}")
    maps = iscam.explain(pooled_case.net, pooled_case.images, pooled_case.targets, method)
    assert_allclose(
        array(iscam.explain(parallel, pooled_case.images, pooled_case.targets, method)), array(maps), atol=1e-6
    )


@pytest.mark.parametrize("name", CALLS)
def test_images_that_require_gradients_change_nothing(name):
    images, targets = smooth_images(2, 25, 31), torch.tensor([2, 3])
    expected = call(name, iscam.Network(pooled(), "relu"), images, targets)
    found = call(name, iscam.Network(pooled(), "relu"), images.requires_grad_(), targets)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert images.grad is None


@pytest.mark.parametrize("method", [method for method in iscam.METHODS if method != "cam"])  # CAM needs the ReLU
def test_in_place_relu_behind_the_layer_changes_nothing(method):
    class Plain(nn.Module):
        def __init__(self, model: nn.Module):
            super().__init__()
            self.model = model
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            m = self.model
            return m.head(m.drop(self.relu(m.last(m.first(x)))).mean((2, 3)))

    arguments = (smooth_images(2, 25, 31), torch.tensor([2, 3]), method)
    few = FEW.get(method, {})
    in_place = iscam.explain(iscam.Network(pooled(), "last"), *arguments, **few)
    plain = iscam.explain(iscam.Network(Plain(pooled()), "model.last"), *arguments, **few)
    assert torch.equal(in_place, plain)


@pytest.mark.parametrize("name", CALLS)
def test_model_that_overwrites_its_input_gets_a_copy(name):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    net = iscam.Network(model.eval(), "2")
    images = smooth_images(2, 12, 10)
    copies = images.clone()
    call(name, net, images)
    net(images)
    assert torch.equal(images, copies)


def test_layer_that_runs_twice_records_its_last_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(self.layer(x)).mean((2, 3)))

    model, image = Twice(), smooth_images(1, 6, 5)[0]
    with pytest.warns(UserWarning, match="runs 2 times in a forward pass; maps explain its last output"):
        record = forward_record(iscam.Network(model, "layer"), image)
    assert_close = torch.testing.assert_close
    assert_close(record.activations.detach(), model.layer(model.layer(image[None]))[0].detach())
    assert_close(record.logits.detach(), model(image[None])[0].detach())


def test_forward_without_gradients_gives_the_same_map():
    model, images = bias_free(), smooth_images(1, 20, 16)
    expected = iscam.explain(iscam.Network(model, "features"), images, method="grad_cam")
    model.forward = torch.no_grad()(model.forward)
    assert torch.equal(iscam.explain(iscam.Network(model, "features"), images, method="grad_cam"), expected)


def test_layer_inside_a_part_without_gradients_is_refused_by_grad_cam():
    model = bias_free()
    model.features.forward = torch.no_grad()(model.features.forward)
    net = iscam.Network(model, "features.0")
    with pytest.raises(iscam.InputError, match="score method"):
        iscam.explain(net, smooth_images(1, 20, 16), method="grad_cam")
    assert iscam.explain(net, smooth_images(1, 20, 16), method="score_cam").max() == 1


# ---------------------------------------------------------------------------------------------------------- the network


def test_network_returns_logits_in_evaluation_mode(device):
    model = half_training(pooled())
    net = iscam.Network(model, "relu").to(device)
    images = smooth_images(2, 25, 31).to(device)
    before = state(model)
    logits = net(images)
    assert torch.equal(logits, pooled().to(device)(images).detach())
    assert not logits.requires_grad
    assert state(model) == before
    assert (net.device.type, net.dtype) == (device, torch.float32)
    assert net.category(3) == "class 3"
    named = iscam.Network(model, "relu", categories=["a", "b"])
    assert named.category(1) == "b"
    with pytest.raises(iscam.InputError, match="class 2 has no name; categories has only 2"):
        named.category(2)


def test_layer_names_lists_spatial_layers():
    assert layer_names(pooled()) == ["first.0", "first.1", "first.2", "first", "last", "relu", "drop"]
    model = pooled()
    before = state(model)
    layer_names(model)
    assert state(model) == before


@pytest.mark.parametrize(
    ("name", "layer", "shape"), [("resnet18", "layer4", (512, 7, 7)), ("squeezenet1_0", "features", (512, 13, 13))]
)
def test_networks_of_the_papers(name, layer, shape):
    net = iscam.load_model(name, weights=None)
    assert net.layer == layer
    assert len(net.categories) == 1000
    assert net.categories[253] == "basenji"
    assert not any(module.training for module in net.model.modules())
    assert forward_record(net, torch.zeros(3, 224, 224)).activations.shape == shape
    again = iscam.load_model(name, weights=None)
    assert all(torch.equal(a, b) for a, b in zip(net.model.parameters(), again.model.parameters(), strict=True))
    assert iscam.load_model(name, weights=None, layer="conv1" if name == "resnet18" else "features.3").layer != layer


def test_canonical_transform_of_an_image():
    """Short side to 224, centre crop, ImageNet's mean and standard deviation."""
    from PIL import Image

    net = iscam.Network(pooled(), "relu")
    image = net.transform(Image.new("RGB", (300, 500), (255, 0, 128)))
    assert image.shape == (3, 224, 224)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    assert array(image).mean((1, 2)).tolist() == pytest.approx(expected, abs=1e-4)
