"""The methods that return maps: literal references, invariants, parity with Captum, errors, memory, Ctrl-C."""

from __future__ import annotations

import builtins
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import Tensor, nn
from torchvision import models

import iscam
from helpers import map_reference as reference
from helpers import reference as pieces
from helpers.errors import refused
from helpers.images import array, smooth_images
from helpers.methods import FEW, assert_maps_are_the_equation
from helpers.networks import CASES, Case, pooled
from iscam.methods import METHODS, input_gradients, occlusion
from iscam.methods.options import COLOURS, MaskOptions, RiseOptions
from iscam.record import ForwardRecord, forward_record

CAPTUM_METHODS = ("saliency", "guided_backprop", "smoothgrad", "integrated_gradients")
MAP_METHODS = (*CAPTUM_METHODS, "rise", "mask")

SMALL_CASES = pytest.mark.parametrize("name", ["bias-free", "pooled"])


def record_of(case: Case, index: int = 0) -> ForwardRecord:
    return forward_record(case.net, case.images[index], int(case.targets[index]))


# ----------------------------------------------------------------------------------------------------------- references

GRADIENT_OPTIONS = [
    *(("saliency", {"colours": colours}) for colours in COLOURS),
    ("saliency", {}),
    ("smoothgrad", {"samples": 10}),  # more than one batch
    ("smoothgrad", {"samples": 3, "sigma": 0.4, "seed": 6, "colours": "abs_sum"}),
    ("integrated_gradients", {}),
    ("integrated_gradients", {"steps": 3, "colours": "sum_abs"}),
]


@SMALL_CASES
@pytest.mark.parametrize(("method", "options"), GRADIENT_OPTIONS, ids=str)
def test_gradient_maps_are_the_equations(name, method, options):
    assert_maps_are_the_equation(reference, CASES[name](), method, options)


@SMALL_CASES
def test_guided_backprop_is_the_equation(name):
    case = CASES[name]()
    maps = iscam.explain(case.net, case.images, case.targets, "guided_backprop")
    for image, target, found in zip(case.images, case.targets.tolist(), maps, strict=True):
        assert_allclose(array(found), reference.guided_backprop(case.net.model, array(image), target), atol=1e-4)
    assert not torch.allclose(maps, iscam.explain(case.net, case.images, case.targets, "saliency"), atol=0.01)


def numpy_masks(options: RiseOptions, size: tuple[int, int]) -> list[np.ndarray]:
    """The masks that the authors' code makes of our grids and shifts."""
    draws = (occlusion.grid_and_shift(options, n, torch.Size(size)) for n in range(options.masks))
    return [reference.rise_mask(array(grid), shift.tolist(), *size) for grid, shift in draws]


@SMALL_CASES
@pytest.mark.parametrize("options", [{}, {"cells": 3, "keep": 0.2, "seed": 4}], ids=str)
def test_rise_is_the_equation(name, options):
    case, options = CASES[name](), RiseOptions(masks=70, **options)  # more than one batch
    masks = numpy_masks(options, tuple(case.images.shape[2:]))
    record = record_of(case)
    expected = reference.rise(case.split, array(record.image), record.target, masks, options.keep)
    assert_allclose(array(occlusion.expected_scores(record, options)), expected, atol=1e-5)
    assert_allclose(array(occlusion.rise(record, options)), pieces.min_max(expected), atol=1e-4)


def test_masks_of_rise_are_those_of_an_independent_implementation():
    options = RiseOptions(masks=20)
    found = occlusion.rise_masks(range(20), torch.Size((224, 160)), options, "cpu")
    assert_allclose(array(found), np.stack(numpy_masks(options, (224, 160))), atol=1e-5)
    later = occlusion.rise_masks(range(7, 9), torch.Size((224, 160)), options, "cpu")
    assert torch.equal(later, found[7:9]), "a mask depends only on the seed and its number"


@SMALL_CASES
def test_loss_and_gradient_of_mask_are_the_equations(name):
    case = CASES[name]()
    options = MaskOptions(l1=0.01, tv=0.3)
    record = record_of(case)
    loss = reference.MaskLoss(case.split, array(record.image), record.target, options.l1, options.tv)
    game = occlusion.Deletion(record, options)
    generator = torch.Generator().manual_seed(0)
    m = torch.rand(min(28, game.image.shape[1]), min(28, game.image.shape[2]), generator=generator)
    assert_allclose(array(game.blurred), loss.blurred, atol=1e-5)
    assert_allclose(array(game.at_image_size(m)), loss.at_image_size(array(m)), atol=1e-5)
    m.requires_grad_()
    found = game.penalty(m) + game.probability(m, (0, 0))
    (gradient,) = torch.autograd.grad(found, m)
    assert float(found.detach()) == pytest.approx(loss(array(m)), abs=1e-4)
    places = [tuple(place) for place in np.argwhere(np.ones(m.shape))[::17]]
    for place in places:
        high, low = array(m).copy(), array(m).copy()
        high[place] += 1e-6
        low[place] -= 1e-6
        assert float(gradient[place]) == pytest.approx((loss(high) - loss(low)) / 2e-6, abs=1e-4)


def test_first_mask_is_the_smallest_disc_that_hides_the_class():
    """A network whose probability falls with the centre of the image, which the blur makes grey."""

    class Centre(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            bright = x[:, :, 100:124, 100:124].mean((1, 2, 3))
            return torch.stack([100 * (bright - 0.5), 0 * bright], 1) + 0 * self.layer(x).mean()

    image = torch.zeros(3, 224, 224)
    image[:, 100:124, 100:124] = 1
    net = iscam.Network(Centre(), "layer")
    game = occlusion.Deletion(forward_record(net, image, 0), MaskOptions())
    start = game.start()
    hidden = 784 - int(start.sum())
    assert start.shape == (28, 28)
    assert 0 < hidden < 100
    assert start[13, 13] == start[14, 14] == 0
    assert torch.equal(start, start.flip(0))
    assert torch.equal(start, start.T)


def test_shift_repeats_the_border():
    image = torch.arange(12.0).reshape(1, 3, 4)
    assert torch.equal(occlusion.shifted(image, (0, 0)), image)
    moved = occlusion.shifted(image, (1, -2))[0]
    assert moved.tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]


# ----------------------------------------------------------------------------------------------------------- invariants


@SMALL_CASES
@pytest.mark.parametrize("colours", COLOURS)
def test_smoothgrad_without_noise_is_the_vanilla_gradient(name, colours):
    case = CASES[name]()
    arguments = (case.net, case.images, case.targets)
    found = iscam.explain(*arguments, "smoothgrad", sigma=0, colours=colours)
    vanilla = iscam.explain(*arguments, "saliency", colours=colours)
    torch.testing.assert_close(found, vanilla, rtol=0, atol=1e-5)


@SMALL_CASES
def test_integrated_gradients_are_complete(name):
    """Σ a = S(X) - S(0), within 1 % of the largest logit for 50 steps."""
    case = CASES[name]()
    logits, zero = case.net(case.images), case.net(torch.zeros_like(case.images[:1]))[0]
    for index, target in enumerate(case.targets.tolist()):
        found = float(input_gradients.path_attributions(record_of(case, index), 50).sum())
        difference = float(logits[index, target] - zero[target])
        assert found == pytest.approx(difference, abs=0.01 * float(logits.abs().max()))


def blank(case: Case) -> iscam.Network:
    """The network of a case with logits that do not depend on the image."""
    with torch.no_grad():
        case.net.model.head.weight.zero_()
    return case.net


@SMALL_CASES
def test_rise_of_a_constant_model_is_constant(name):
    case = CASES[name]()
    net = blank(case)
    record = record_of(case)
    p = float(net.probabilities(case.images[:1])[0, record.target])
    scores = occlusion.expected_scores(record, RiseOptions(masks=40))
    assert_allclose(array(scores), np.full(scores.shape, p), rtol=1e-6)


@SMALL_CASES
@pytest.mark.parametrize("method", MAP_METHODS)
def test_map_of_a_constant_model_is_zero_and_says_so(name, method):
    case = CASES[name]()
    net = blank(case)
    few = {} if method == "mask" else FEW.get(method, {})
    with pytest.warns(UserWarning, match="is all zeros: the method finds no difference between the pixels"):
        maps = iscam.explain(net, case.images[:1], 1, method, **few)
    assert torch.equal(maps, torch.zeros_like(maps))


def test_rise_tends_to_the_mean_score_of_the_masks_that_show_a_pixel(pooled_case):
    """S is the mean score given that the pixel is shown, up to the randomness of the masks."""
    record, options = record_of(pooled_case), RiseOptions(masks=4000)
    found = occlusion.expected_scores(record, options)
    size = record.image.shape[1:]
    masks = occlusion.rise_masks(range(options.masks), size, options, "cpu")
    with torch.no_grad():
        scores = pooled_case.net.model.eval()(record.image * masks[:, None]).softmax(1)[:, record.target]
    conditional = torch.einsum("n,nhw->hw", scores, masks) / masks.sum(0)
    assert_allclose(array(found), array(conditional), rtol=0.1)


@pytest.mark.filterwarnings("ignore:the map of class")
def test_a_heavy_penalty_leaves_the_image_as_it_is(pooled_case):
    maps = iscam.explain(pooled_case.net, pooled_case.images, method="mask", l1=100.0, iterations=20)
    assert torch.equal(maps, torch.zeros_like(maps))


def test_mask_lowers_its_objective(pooled_case):
    record, losses = record_of(pooled_case), []
    for iterations in (1, 100):
        options = MaskOptions(iterations=iterations)
        game = occlusion.Deletion(record, options)
        m = found_mask(record, options)
        with torch.no_grad():
            losses.append(float(game.penalty(m) + game.probability(m, (0, 0))))
    assert losses[1] < losses[0]


def found_mask(record: ForwardRecord, options: MaskOptions) -> Tensor:
    """The mask m that `mask` finds, from the tensor 1 - m that it upsamples last."""
    seen: list[Tensor] = []
    original = occlusion.Deletion.at_image_size

    def keep(self: occlusion.Deletion, m: Tensor) -> Tensor:
        seen.append(m)
        return original(self, m)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occlusion.Deletion, "at_image_size", keep)
        occlusion.mask(record, options)
    return 1 - seen[-1]


@pytest.mark.parametrize("method", ["smoothgrad", "rise"])
def test_seeds_give_other_maps(pooled_case, method):
    maps = [
        iscam.explain(pooled_case.net, pooled_case.images, pooled_case.targets, method, seed=seed, **FEW[method])
        for seed in (4, 4, 5)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def test_seed_of_mask_gives_its_shifts():
    net = iscam.Network(pooled(), "relu")
    record = forward_record(net, smooth_images(1, 224, 224)[0], 2)
    games = [occlusion.Deletion(record, MaskOptions(seed=seed)) for seed in (0, 0, 1)]
    shifts = [[game.shift(i) for i in range(200)] for game in games]
    assert shifts[0] == shifts[1] != shifts[2]
    assert {value for shift in shifts[0] for value in shift} == {-2, -1, 0, 1, 2}
    maps = [occlusion.mask(record, MaskOptions(seed=seed, iterations=5)) for seed in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def test_many_masks_warn_on_a_cpu(pooled_case):
    with pytest.warns(UserWarning, match=r"RISE of 1 images takes up to 5,001 forward passes on the CPU"):
        iscam.explain(pooled_case.net, pooled_case.images[:1], method="rise", masks=5000)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_of_rise_changes_no_map(pooled_case, batch_size):
    arguments = (pooled_case.net, pooled_case.images, pooled_case.targets, "rise")
    expected = iscam.explain(*arguments, masks=40)
    assert_allclose(array(iscam.explain(*arguments, masks=40, batch_size=batch_size)), array(expected), atol=1e-5)


# --------------------------------------------------------------------------------------------------- parity with Captum


@pytest.fixture
def attr():
    return pytest.importorskip("captum.attr")


@pytest.fixture(params=["resnet18", "squeezenet1_0"])
def real(request) -> tuple[nn.Module, str, Tensor, int]:
    """A random network of torchvision, its layer, an image and a class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get_model(request.param, weights=None, num_classes=20).eval()
    layer = "layer1" if request.param == "resnet18" else "features"
    return model, layer, smooth_images(1, 64, 64, seed=4), 3


def captum_saliency(attr, model, image, target):
    return attr.Saliency(model).attribute(image, target).amax(1)


def captum_guided_backprop(attr, model, image, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attr.GuidedBackprop(model).attribute(image, target).abs().amax(1)


def captum_smoothgrad(attr, model, image, target):
    """NoiseTunnel with our noise in place of its draws."""
    draws = iscam.rng.noises(image[0].detach(), [(0, n) for n in range(6)])
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    std = 0.15 * float(image.detach().max() - image.detach().min())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "normal", lambda mean, std: mean + std * draws)
        found = tunnel.attribute(image, nt_samples=6, stdevs=std, target=target, abs=False)
    return found.abs().sum(1)


def captum_integrated_gradients(attr, model, image, target):
    return attr.IntegratedGradients(model).attribute(image, target=target, n_steps=20).sum(1).relu()


PARITY = {
    "saliency": (captum_saliency, {}),
    "guided_backprop": (captum_guided_backprop, {}),
    "smoothgrad": (captum_smoothgrad, {"samples": 6}),
    "integrated_gradients": (captum_integrated_gradients, {"steps": 20}),
}


@pytest.mark.parametrize("method", PARITY)
def test_maps_agree_with_captum(attr, real, method):
    model, layer, image, target = real
    peer, options = PARITY[method]
    expected = peer(attr, model, image.clone().requires_grad_(), target).detach()[0]
    found = iscam.explain(iscam.Network(model, layer), image, target, method, **options)[0]
    assert_allclose(array(found), pieces.min_max(array(expected)), atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- errors


class Functional(nn.Module):
    """Applies ReLUs as functions, as modules, or not at all."""

    def __init__(self, *activations):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in activations])
        self.activations = activations
        self.module = nn.ReLU()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, activation in zip(self.convolutions, self.activations, strict=True):
            x = self.module(convolution(x)) if activation == "module" else activation(convolution(x))
        return self.head(x.mean((2, 3)))


FUNCTIONS = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": Tensor.relu_,
    "in place": lambda x: F.relu(x, inplace=True),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_guided_backprop_refuses_relus_that_captum_cannot_guide(function):
    for before in ([], ["module"]):
        net = iscam.Network(Functional(*before, FUNCTIONS[function]), "convolutions.0")
        with refused(f"1 of {1 + len(before)} are function calls", "use saliency"):
            iscam.explain(net, smooth_images(1, 16, 16), method="guided_backprop")


@pytest.mark.parametrize("activation", [F.gelu, F.silu, torch.tanh], ids=lambda function: function.__name__)
def test_guided_backprop_refuses_a_network_without_relus(activation):
    net = iscam.Network(Functional(activation), "convolutions.0")
    with refused("Functional has none", "vanilla gradient"):
        iscam.explain(net, smooth_images(1, 16, 16), method="guided_backprop")


def test_guided_backprop_takes_a_module_that_runs_twice():
    net = iscam.Network(Functional("module", "module"), "convolutions.0")
    image = smooth_images(1, 16, 16)
    found = iscam.explain(net, image, 1, "guided_backprop")[0]
    assert_allclose(array(found), reference.guided_backprop(net.model, array(image[0]), 1), atol=1e-4)


def test_guided_backprop_of_a_model_that_cannot_be_copied(pooled_case):
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = pooled_case.net.model
            self.lock = (i for i in ())  # a generator cannot be copied

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)

    model = Stubborn().eval()
    found = iscam.explain(iscam.Network(model, "model.last"), pooled_case.images, 1, "guided_backprop")
    assert torch.equal(found, iscam.explain(pooled_case.net, pooled_case.images, 1, "guided_backprop"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("method", CAPTUM_METHODS)
def test_missing_captum_is_one_line(pooled_case, method, monkeypatch):
    original = builtins.__import__

    def without_captum(name, *args, **kwargs):
        if name.startswith("captum"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("captum")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_captum)
    with refused("pip install iscam[captum]"):
        iscam.explain(pooled_case.net, pooled_case.images, method=method)
    assert iscam.explain(pooled_case.net, pooled_case.images[:1], method="rise", masks=10).max() == 1


class Quantised(nn.Module):
    """Rounds the image without a gradient, or turns gradients off."""

    def __init__(self, off: bool):
        super().__init__()
        self.model, self.off = pooled(), off

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.off and torch.is_grad_enabled()):
            return self.model(x if self.off else x.detach())


@pytest.mark.parametrize("off", [True, False])
@pytest.mark.parametrize("method", [*CAPTUM_METHODS, "mask"])
def test_a_model_without_gradient_is_one_line(off, method):
    net = iscam.Network(Quantised(off), "model.last")
    net.caches.first_time("layer model.last depends on the image")  # this check would refuse the layer first
    with refused("gradient to the image", "rise"):
        iscam.explain(net, smooth_images(1, 25, 31), method=method)
    assert iscam.explain(net, smooth_images(1, 25, 31), method="rise", masks=10).max() == 1


@pytest.mark.parametrize(
    ("found", "word"),
    [(torch.ones(3, 3), "(3, 3)"), (1.0, "float"), (torch.full((25, 31), torch.nan), "NaN")],
    ids=["shape", "number", "NaN"],
)
def test_wrong_maps_are_refused(pooled_case, found, word, monkeypatch):
    entry = iscam.Method(lambda record, options: found, "Own map", "", lambda *_: 1, kind="map")
    monkeypatch.setitem(METHODS, "own", entry)
    with refused("Own map", "map", word):
        iscam.explain(pooled_case.net, pooled_case.images, method="own")


def test_every_colours_option_has_its_formula():
    assert set(input_gradients.MERGE) == set(COLOURS)


# ------------------------------------------------------------------------------------------- other networks and callers


class Wrapped(nn.Module):
    """Returns its logits in a tuple, all of them or only that of class 2."""

    def __init__(self, single: bool):
        super().__init__()
        self.model, self.single = pooled(), single

    def forward(self, x: Tensor) -> tuple[str, Tensor]:
        logits = self.model(x)
        return "other", logits[:, 2:3] if self.single else logits


@pytest.mark.parametrize("method", MAP_METHODS)
def test_outputs_and_sigmoids(method):
    images, few = smooth_images(2, 25, 31), FEW.get(method, {})
    plain, several, single = (
        iscam.Network(model, layer, probability=probability, output=output)
        for model, layer, probability, output in [
            (pooled(), "last", "sigmoid", None),
            (Wrapped(False), "model.last", "sigmoid", lambda out: out[1]),
            (Wrapped(True), "model.last", "sigmoid", lambda out: out[1]),
        ]
    )
    expected = iscam.explain(plain, images, 2, method, **few)
    assert torch.equal(iscam.explain(several, images, 2, method, **few), expected)
    assert_allclose(array(iscam.explain(single, images, 0, method, **few)), array(expected), atol=1e-5)


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize("method", MAP_METHODS)
def test_vision_transformers_need_no_layer(method):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    torch.nn.init.normal_(model.heads.head.weight)
    net, images = iscam.Network(model), smooth_images(2, 32, 32)
    if method == "guided_backprop":
        with refused("VisionTransformer has none"):
            iscam.explain(net, images, method=method)
        return
    maps = iscam.explain(net, images, method=method, **FEW.get(method, {}))
    assert maps.shape == (2, 32, 32)
    assert (maps.amax((1, 2)) == 1).all()


@pytest.mark.parametrize("method", MAP_METHODS)
def test_studies_and_adapters_take_the_methods(pooled_case, method, tmp_path):
    few = FEW.get(method, {})
    net, images = pooled_case.net, pooled_case.images
    expected = iscam.explain(net, images, pooled_case.targets, method, **few)
    found = iscam.captum_attribution(net, method, **few).attribute(images, pooled_case.targets)
    assert torch.equal(found[:, 0], expected)
    explain_func = iscam.quantus_explain(net, method, **few)
    assert_allclose(explain_func(net.model, images.numpy(), pooled_case.targets.numpy())[:, 0], array(expected))
    study = iscam.Study(
        models=("menagerie/squeezenet",), count=1, methods={method: few}, metrics=("energy", "average_drop")
    )
    frame = iscam.run_study(study, tmp_path)
    assert frame["value"].notna().all()


# ---------------------------------------------------------------------------------------------------- memory and Ctrl-C


@pytest.mark.slow
def test_memory_of_rise_does_not_grow_with_its_masks(peak_memory):
    """8,000 masks of 224 x 224 pixels would take 1.6 GB. They take at most 500 MB above the network with few masks."""
    script = (
        "import sys, torch, iscam\n"
        "from torch import nn\n"
        "model = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, 3))\n"
        "net = iscam.Network(model, '1')\n"
        "image = torch.rand(1, 3, 224, 224)\n"
        "net(image)\n"
        "for masks in map(int, sys.argv[1:]):\n"
        "    with __import__('warnings').catch_warnings(action='ignore'):\n"
        "        iscam.explain(net, image, 1, 'rise', masks=masks)"
    )
    peak = {masks: peak_memory(script, *masks) for masks in ((), (8000,))}
    print(f"peak memory in MB: {peak}")
    assert peak[8000,] - peak[()] < 500, peak


def test_rise_makes_its_masks_in_batches(pooled_case, monkeypatch):
    lengths: list[int] = []
    original = occlusion.rise_masks

    def counted(numbers: range, *arguments):
        lengths.append(len(numbers))
        return original(numbers, *arguments)

    monkeypatch.setattr(occlusion, "rise_masks", counted)
    iscam.explain(pooled_case.net, pooled_case.images[:1], 1, "rise", masks=1000)
    assert sum(lengths) == 2000
    assert max(lengths) <= 64


class Interrupted(nn.Module):
    """Raises KeyboardInterrupt in its n-th forward pass."""

    def __init__(self, n: int):
        super().__init__()
        self.left = n

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return x


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("method", MAP_METHODS)
def test_ctrl_c_leaves_nothing_behind(method, n):
    model, images = pooled().train(), smooth_images(2, 25, 31)
    model.drop = Interrupted(n)
    net = iscam.Network(model, "relu")
    before = (torch.get_rng_state().tolist(), str(np.random.get_state()), torch.get_default_device())
    parameters = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(KeyboardInterrupt):
        iscam.explain(net, images, 1, method, **FEW.get(method, {}))
    assert (torch.get_rng_state().tolist(), str(np.random.get_state()), torch.get_default_device()) == before
    assert all(torch.equal(*pair) for pair in zip(parameters, model.parameters(), strict=True))
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    model.drop = nn.Identity()
    expected = iscam.explain(iscam.Network(pooled(), "relu"), images, 1, method, **FEW.get(method, {}))
    assert torch.equal(iscam.explain(net, images, 1, method, **FEW.get(method, {})), expected)
