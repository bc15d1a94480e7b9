"""The methods, compared with the literal reference and with hand-computed numbers, and their identities."""

from __future__ import annotations

import copy
import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers import reference
from helpers.errors import refused
from helpers.images import array, smooth_images
from helpers.methods import FEW, assert_maps_are_the_equation
from helpers.networks import CASES, Case, bias_free, pooled
from iscam.methods.optimisation import masked_logit
from iscam.methods.schedules import quadrature
from iscam.record import forward_record, forward_records, layer_gradients
from iscam.rng import noise, noises

METHODS = [
    ("grad_cam", {}),
    ("grad_cam_pp", {}),
    ("smooth_grad_cam_pp", {"samples": 3}),
    ("smooth_grad_cam_pp", {"samples": 2, "sigma": 0.5, "seed": 7}),
    ("score_cam", {}),
    ("score_cam", {"score": "logit"}),
    ("score_cam", {"channel_softmax": True}),
    ("score_cam", {"score": "logit", "channel_softmax": True}),
    ("score_cam", {"baseline": "zeros"}),
    ("score_cam", {"score": "logit", "baseline": "zeros"}),
    ("score_cam", {"normalise": "layer"}),
    ("score_cam", {"score": "logit", "channel_softmax": True, "normalise": "layer", "baseline": "zeros"}),
    ("ss_cam", {"samples": 3}),
    ("ss_cam", {"samples": 2, "sigma": 0.7, "seed": 5, "score": "logit"}),
    ("ss_cam", {"samples": 2, "normalise": "layer", "baseline": "zeros"}),
    ("is_cam", {}),
    ("is_cam", {"steps": 1}),
    ("is_cam", {"steps": 4}),
    ("is_cam", {"steps": 4, "schedule": "linear"}),
    ("is_cam", {"steps": 3, "schedule": "integral"}),
    ("is_cam", {"schedule": [0.0, 0.3, 2.0]}),
    ("is_cam", {"steps": 10, "nodes": 1}),
    ("is_cam", {"steps": 15, "nodes": 4}),
    ("is_cam", {"steps": 15, "nodes": 3, "schedule": "linear"}),
    ("is_cam", {"steps": 15, "nodes": 2, "schedule": "integral"}),
    ("is_cam", {"steps": 4, "score": "logit", "channel_softmax": True, "normalise": "layer"}),
    ("is_cam", {"steps": 3, "baseline": "zeros"}),
    ("is_cam", {"steps": 3, "schedule": "linear", "channel_softmax": True, "normalise": "layer"}),
    ("score_cam", {"channels": 3}),
    ("ss_cam", {"samples": 2, "channels": 2, "baseline": "zeros"}),
    ("is_cam", {"steps": 3, "channels": 4, "channel_softmax": True}),
    ("layer_cam", {}),
    ("xgrad_cam", {}),
    ("ablation_cam", {}),
    ("ablation_cam", {"score": "probability"}),
    ("opti_cam", {"steps": 1}),
    ("opti_cam", {"steps": 6}),
    ("opti_cam", {"steps": 3, "learning_rate": 0.7}),
]
MAP_METHODS = [
    ("score_cam_pp", {}),
    ("score_cam_pp", {"baseline": None}),
    ("score_cam_pp", {"score": "logit"}),
    ("grad_pp_score_cam", {}),
    ("grad_pp_score_cam", {"score": "logit", "channels": 4}),
    ("recipro_cam", {}),
    ("recipro_cam", {"score": "logit", "gaussian": True}),
]
SCORE_METHODS = ("score_cam", "ss_cam", "is_cam")
LARGE = [("grad_cam", {}), ("grad_cam_pp", {}), ("score_cam", {}), ("is_cam", {"steps": 2})]


def name_of(value) -> str | None:
    return ",".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else None


def weights_of(net: iscam.Network, image: Tensor, target: int, method: str, **options) -> np.ndarray:
    return array(iscam.METHODS[method](forward_record(net, image, target), **options))


def agree(case: Case, method: str, options: dict, device: str = "cpu") -> None:
    """Weights and maps of the package are the reference's, for the whole batch at once."""
    net = case.net.to(device)
    maps = iscam.explain(net, case.images.to(device), case.targets.to(device), method, **options)
    assert maps.shape == (len(case.images), *case.images.shape[2:])
    assert maps.dtype == torch.float32
    assert maps.device.type == device
    for image, target, saliency_map in zip(case.images, case.targets.tolist(), maps, strict=True):
        x = array(image)
        weights = getattr(reference, method)(case.split, x, target, **options)
        found = weights_of(net, image.to(device), target, method, **options)
        assert_allclose(found, weights, atol=1e-4 * abs(weights).max())
        expected = reference.saliency(weights, case.split.activations(x), *x.shape[1:])
        assert_allclose(array(saliency_map), expected, atol=1e-4)
    assert maps.max() == 1, "the images would show nothing"


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize(("method", "options"), METHODS, ids=name_of)
@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_fast_code_is_the_equation(name, method, options):
    agree(CASES[name](), method, options)


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize(("method", "options"), MAP_METHODS, ids=name_of)
@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_map_is_the_equation(name, method, options):
    assert_maps_are_the_equation(reference, CASES[name](), method, options)


@pytest.mark.parametrize(("method", "options"), LARGE, ids=name_of)
def test_fast_code_is_the_equation_on_squeezenet(method, options):
    agree(CASES["squeezenet"](), method, options)


@pytest.mark.parametrize("method", ["grad_cam", "score_cam", "is_cam"])
def test_fast_code_is_the_equation_on_every_device(method, bias_free_case, device):
    agree(bias_free_case, method, {}, device)


def test_noise_of_many_keys_is_that_of_each():
    """Several threads draw the noise, inside or outside inference mode. Another key gives other numbers."""
    like, keys = torch.zeros(3, 5, 4), [(0, 2, 1), (0, 1, 2), (7, 1, 2)]
    expected = [noise(like, *key) for key in keys]
    for mode in (True, False):
        with torch.inference_mode(mode):
            drawn = noises(like, keys)
        assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert len({float(x.sum()) for x in expected}) == 3


# --------------------------------------------------------------------------------------------------- worked out by hand


class ByHand(nn.Module):
    """Two channels: A_0 is red, and A_1 is green. Logits are weighted sums over their 2x2 pixels; no bias."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None])
            self.head.weight.copy_(torch.tensor([[1.0, 2, 3, 4, 4, -2, 0, 0], [0] * 8]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).flatten(1))


RED, GREEN = [[1.0, 2], [3, 4]], [[0.0, 1], [0, 2]]
HAND_IMAGE = torch.tensor([RED, GREEN, [[9.0, 9], [9, 9]]])

# g_0 = (1 2; 3 4), g_1 = (4 -2; 0 0), sum A_0 = 10, sum A_1 = 3.
# Grad-CAM: the means of g.
# Grad-CAM++: a = g^2 / (2 g^2 + sum A g^3) = 1 / (2 + sum A g):
#   channel 0: 1/12 + 2/22 + 3/32 + 4/42;  channel 1: 4/(2 + 12), nothing where g <= 0.
# Score-CAM of the logit 0: H_0 = (0 1/3; 2/3 1), so that X o H_0 has red (0 2/3; 2 4) and green (0 1/3; 0 2):
#   S = 2 2/3 + 3 2 + 4 4 - 2 1/3 = 68/3 - ... = 4/3 + 6 + 16 - 2/3 = 68/3.
#   H_1 = (0 1/2; 0 1): red (0 1; 0 4), green (0 1/2; 0 2): S = 2 + 16 - 1 = 17.
# IS-CAM, N = 2: t = 1/2, 3/2, mean 1: the same, because S is linear.
# With t = (1, 2): 3/2 times as much.
HAND_WEIGHTS = [
    ("grad_cam", {}, [2.5, 0.5]),
    ("grad_cam_pp", {}, [1 / 12 + 2 / 22 + 3 / 32 + 4 / 42, 4 / 14]),
    ("score_cam", {"score": "logit"}, [68 / 3, 17]),
    ("is_cam", {"score": "logit", "steps": 2}, [68 / 3, 17]),
    ("is_cam", {"score": "logit", "schedule": [1, 2]}, [34, 25.5]),
    # C = 1 / (1 + exp(-S)), because the other logit is 0
    ("is_cam", {"schedule": [0, 0.05]}, [(0.5 + 1 / (1 + np.exp(-3.4 / 3))) / 2, (0.5 + 1 / (1 + np.exp(-0.85))) / 2]),
]


@pytest.mark.parametrize(("method", "options", "expected"), HAND_WEIGHTS, ids=name_of)
def test_weights_worked_out_by_hand(method, options, expected):
    net = iscam.Network(ByHand(), "layer")
    assert_allclose(weights_of(net, HAND_IMAGE, 0, method, **options), expected, rtol=1e-5)
    total = expected[0] * np.array(RED) + expected[1] * np.array(GREEN)
    found = iscam.explain(net, HAND_IMAGE[None], torch.tensor([0]), method, **options)[0]
    assert_allclose(array(found), (total - total.min()) / (total.max() - total.min()), atol=1e-6)


def test_relu_cuts_negative_sums():
    """alpha = (2.5, 0.5) on an image of both signs: the sum is (-5 0; 5 10), the map (0 0; .5 1)."""
    image = torch.tensor([[[-2.0, 0], [2, 4]], [[0.0, 0], [0, 0]], [[1.0, 1], [1, 1]]])
    found = iscam.explain(iscam.Network(ByHand(), "layer"), image[None], torch.tensor([0]), "grad_cam")[0]
    assert_allclose(array(found), [[0, 0], [0.5, 1]], atol=1e-6)


def test_upsampling_takes_pixel_centres():
    """Two columns 0 and 1, four times as wide: centres at .125, .375, ...; the outer ones are clamped."""
    net = iscam.Network(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(6, 2)), "0")
    image = torch.cat([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)], 3)
    with torch.no_grad():
        net.model[2].weight.fill_(1)
    found = iscam.explain(net, image, torch.tensor([0]), "grad_cam")[0]
    assert_allclose(array(found), [[0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1]] * 4, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------------ CAM


class Head(nn.Module):
    def __init__(self, *head: nn.Module):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 7, 3, stride=3), nn.ReLU())
        self.head = nn.Sequential(*head, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


HEADS = {
    "pool, linear": lambda: (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 4)),
    "pool, linear without bias": lambda: (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 4, bias=False)),
    "pool, convolution": lambda: (nn.AdaptiveAvgPool2d(1), nn.Conv2d(7, 4, 1)),
    "convolution, pool": lambda: (nn.Conv2d(7, 4, 1), nn.AdaptiveAvgPool2d(1)),
    "convolution, ReLU, pool": lambda: (nn.Conv2d(7, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
}


@pytest.mark.parametrize("name", HEADS)
def test_cam_takes_the_row_of_the_class(name):
    torch.manual_seed(3)
    net = iscam.Network(Head(*HEADS[name]()).eval(), "features")
    weight = next(m for m in net.model.head if isinstance(m, nn.Linear | nn.Conv2d)).weight
    images = smooth_images(2, 15, 12)
    maps = iscam.explain(net, images, torch.tensor([3, 1]), "cam")
    for image, target, saliency_map in zip(images, (3, 1), maps, strict=True):
        weights = reference.cam(None, array(image), target, head=array(weight.flatten(1)))
        assert_allclose(weights_of(net, image, target, "cam"), weights, rtol=1e-6)
        activations = array(net.model.features(image[None])[0])
        assert_allclose(array(saliency_map), reference.saliency(weights, activations, 15, 12), atol=1e-5)


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize("name", ["pool, linear", "pool, convolution", "convolution, pool"])
def test_cam_is_grad_cam_behind_average_pooling(name):
    net = iscam.Network(Head(*HEADS[name]()).eval(), "features")
    maps = [
        iscam.explain(net, smooth_images(2, 15, 12), torch.tensor([0, 2]), method) for method in ("cam", "grad_cam")
    ]
    torch.testing.assert_close(*maps, atol=1e-5, rtol=0)


def test_cam_needs_the_head_that_defines_it(bias_free_case):
    with pytest.raises(iscam.InputError, match="grad_cam"):
        iscam.explain(bias_free_case.net, bias_free_case.images, method="cam")


def test_cam_refuses_a_head_that_pools_otherwise():
    model = Head(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(7, 4)).eval()
    with pytest.raises(iscam.InputError, match="average pooling"):
        iscam.explain(iscam.Network(model, "features"), smooth_images(1, 15, 12), method="cam")


def test_ablation_of_one_channel_is_its_share_of_a_linear_logit():
    """Behind the layer, the network of `ByHand` is linear, so y_k = y - sum of g_k A_k."""
    found = weights_of(iscam.Network(ByHand(), "layer"), HAND_IMAGE, 0, "ablation_cam")
    y = np.array([1 + 4 + 9 + 16, 0 - 2])  # of each channel
    assert_allclose(found, y / y.sum(), rtol=1e-5)


def test_ablation_cam_divides_by_a_logit_of_any_sign(pooled_case):
    """The published quotient. With a negative logit, a channel whose loss lowers the logit has a negative weight."""
    image = pooled_case.images[0]
    target = int(pooled_case.net(image[None]).argmin())
    y = pooled_case.split.logit(array(image), target)
    expected = reference.ablation_cam(pooled_case.split, array(image), target)
    assert y < 0
    assert_allclose(weights_of(pooled_case.net, image, target, "ablation_cam"), expected, atol=1e-5)


def test_ablation_cam_of_a_logit_of_zero_has_no_weights():
    assert (weights_of(iscam.Network(ByHand(), "layer"), HAND_IMAGE, 1, "ablation_cam") == 0).all()


def test_ablation_cam_of_a_dead_channel_is_0(bias_free_case):
    activations = bias_free_case.split.activations(array(bias_free_case.images[0]))
    weights = weights_of(bias_free_case.net, bias_free_case.images[0], 2, "ablation_cam")
    assert ((weights == 0) == ~activations.any((1, 2))).all()
    assert weights[3] == 0


def test_the_logit_that_opti_cam_optimises_does_not_fall(pooled_case):
    for image, target in zip(pooled_case.images, pooled_case.targets.tolist(), strict=True):
        record = forward_record(pooled_case.net, image, target)
        found = [iscam.METHODS["opti_cam"](record, steps=steps) for steps in (1, 2, 5, 20, 50)]
        channels = found[0] > 0
        assert_allclose(array(found[0][channels]), 1 / 7, rtol=1e-6)  # one of the 8 channels is constant
        assert_allclose([float(weights.sum()) for weights in found], 1, rtol=1e-5)
        activations = record.activations[channels]
        logits = [
            float(masked_logit(record, activations, weights[channels].log().requires_grad_())[0]) for weights in found
        ]
        assert all(later >= earlier - 1e-4 for earlier, later in itertools.pairwise(logits))
        assert logits[-1] > logits[0] + 0.01


def test_opti_cam_refuses_a_model_without_gradients():
    model = bias_free()
    model.features.forward = torch.no_grad()(model.features.forward)
    with pytest.raises(iscam.InputError, match="carry no gradient to the image, which opti_cam needs; use a score"):
        iscam.explain(iscam.Network(model, "features"), smooth_images(1, 20, 16), method="opti_cam")


# ----------------------------------------------------------------------------------------------------------- identities


def same(case: Case, a: dict, b: dict, atol: float = 1e-6) -> None:
    maps = [iscam.explain(case.net, case.images, case.targets, **options) for options in (a, b)]
    torch.testing.assert_close(*maps, atol=atol, rtol=0)


def differ(case: Case, a: dict, b: dict) -> None:
    maps = [iscam.explain(case.net, case.images, case.targets, **options) for options in (a, b)]
    assert (maps[0] - maps[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [torch.tensor, np.array, tuple])
def test_a_schedule_is_any_sequence_of_numbers(pooled_case, kind):
    maps = [
        iscam.explain(pooled_case.net, pooled_case.images, pooled_case.targets, schedule=each)
        for each in (kind([0.5, 2]), [0.5, 2])
    ]
    assert torch.equal(*maps)


@pytest.mark.parametrize("schedule", ["cumulative", "linear"])
def test_is_cam_of_one_step_is_score_cam(bias_free_case, pooled_case, schedule):
    for each in (bias_free_case, pooled_case):
        same(each, {"method": "is_cam", "steps": 1, "schedule": schedule}, {"method": "score_cam"})


def test_ss_cam_without_noise_is_score_cam(bias_free_case, pooled_case):
    for each in (bias_free_case, pooled_case):
        same(each, {"method": "ss_cam", "sigma": 0, "samples": 3}, {"method": "score_cam"})


def test_smooth_grad_cam_pp_without_noise_is_grad_cam_pp(pooled_case):
    same(pooled_case, {"method": "smooth_grad_cam_pp", "sigma": 0, "samples": 2}, {"method": "grad_cam_pp"}, atol=1e-5)


def test_xgrad_cam_is_grad_cam_where_the_gradient_is_constant(pooled_case):
    """Global average pooling and a linear layer follow the layer `relu`."""
    net = pooled_case.net.with_layer("relu")
    pair = [iscam.explain(net, pooled_case.images, pooled_case.targets, method) for method in ("xgrad_cam", "grad_cam")]
    torch.testing.assert_close(*pair, atol=1e-6, rtol=0)
    differ(pooled_case, {"method": "xgrad_cam"}, {"method": "grad_cam"})


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("channels", [8, 100])
def test_as_many_channels_as_the_layer_has_are_all_channels(bias_free_case, method, channels):
    options = {"method": method} | ({"samples": 2} if method == "ss_cam" else {})
    maps = [iscam.explain(bias_free_case.net, bias_free_case.images, **options, channels=n) for n in (None, channels)]
    assert torch.equal(*maps)


def test_few_channels_cost_few_passes(bias_free_case):
    arguments = {"images": bias_free_case.images[:1], "method": "score_cam"}
    assert len(inputs_of(bias_free_case.net, channels=3, **arguments)) == 3
    weights = weights_of(bias_free_case.net, bias_free_case.images[0], 2, "score_cam", channels=3)
    spread = bias_free_case.split.activations(array(bias_free_case.images[0])).std((1, 2))
    assert set(weights.nonzero()[0]) == set(spread.argsort()[-3:])


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_channel_softmax_makes_the_baseline_irrelevant(pooled_case, method, score):
    options = {"method": method, "score": score} | ({"samples": 2} if method == "ss_cam" else {})
    softmax = {**options, "channel_softmax": True}
    same(pooled_case, softmax, {**softmax, "baseline": "zeros"}, atol=1e-5)
    differ(pooled_case, options, {**options, "baseline": "zeros"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 4},
        {"nodes": 3},
        {"steps": 7, "schedule": "linear"},
        {"steps": 6, "schedule": "integral"},
        {"schedule": [0.2, 5]},
    ],
    ids=name_of,
)
def test_schedules_are_score_cam_for_bias_free_logits(bias_free_case, options):
    scale = {"score": "logit"}
    same(bias_free_case, {"method": "is_cam", **options, **scale}, {"method": "score_cam", **scale}, atol=1e-5)


def test_schedules_differ_for_probabilities(bias_free_case):
    same_steps = [{"method": "is_cam", "steps": 5, "schedule": s} for s in ("cumulative", "linear", "integral")]
    differ(bias_free_case, same_steps[0], same_steps[1])
    differ(bias_free_case, same_steps[1], same_steps[2])


@pytest.mark.parametrize("schedule", ["cumulative", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 15])
def test_as_many_nodes_as_steps_are_the_steps(bias_free_case, schedule, steps):
    options = {"method": "is_cam", "steps": steps, "schedule": schedule}
    same(bias_free_case, options, {**options, "nodes": steps})


def test_few_nodes_come_near_all_steps(pooled_case):
    full, few = ({"method": "is_cam", "steps": 15, "nodes": n} for n in (None, 6))
    same(pooled_case, full, few, atol=0.05)


def test_linear_steps_err_from_the_integral_by_half_a_step(pooled_case):
    """(C(X o H) - C(0)) / 2N, to the next order in 1/N."""
    steps = 200
    for image, target in zip(pooled_case.images, pooled_case.targets.tolist(), strict=True):
        linear = weights_of(pooled_case.net, image, target, "is_cam", steps=steps, schedule="linear")
        integral = weights_of(pooled_case.net, image, target, "is_cam", steps=150, schedule="integral")
        ends = weights_of(pooled_case.net, image, target, "score_cam", baseline="zeros")
        assert_allclose(linear - integral, ends / (2 * steps), atol=0.05 * abs(ends).max() / (2 * steps) + 1e-7)


def test_cumulative_numbers_are_the_triangular_ones_over_n():
    for steps in (1, 2, 10, 15, 40):
        t, w = quadrature(steps, "cumulative", None)
        assert_allclose(t, [sum(range(1, i + 1)) / steps for i in range(1, steps + 1)], rtol=1e-6)
        assert_allclose(w, [1 / steps] * steps, rtol=1e-6)
        assert float(t[-1]) == pytest.approx((steps + 1) / 2)
        assert float(t.mean()) == pytest.approx((steps + 1) * (steps + 2) / (6 * steps))


@st.composite
def rules(draw):
    steps = draw(st.integers(1, 25))
    return steps, draw(st.integers(1, min(steps, 8))), draw(st.integers(0, 2**16))


@settings(max_examples=80)
@given(rule=rules())
def test_gauss_rules_integrate_polynomials_exactly(rule):
    """A rule of n nodes gives the mean of every polynomial of degree below 2n, over the steps or over [0, 1]."""
    steps, nodes, seed = rule
    coefficients = np.random.default_rng(seed).uniform(-1, 1, 2 * nodes)
    p = np.polynomial.Polynomial(coefficients)
    t, w = (array(v) for v in quadrature(steps, "linear", nodes))
    mean = np.mean([p(i / steps) for i in range(1, steps + 1)])
    assert len(t) == len(w) == nodes
    assert (w > 0).all()
    assert_allclose(w.sum(), 1, rtol=1e-5)
    assert_allclose(w @ p(t), mean, atol=2e-5)
    t, w = (array(v) for v in quadrature(steps, "integral", nodes))
    assert ((t > 0) & (t < 1)).all()
    assert_allclose(w.sum(), 1, rtol=1e-5)
    assert_allclose(w @ p(t), p.integ()(1) - p.integ()(0), atol=2e-5)


@settings(max_examples=40)
@given(rule=rules())
def test_gauss_rule_of_the_cumulative_steps(rule):
    """In t = i(i+1)/2N, which has degree 2 in i, it is exact for polynomials of degree below n."""
    steps, nodes, seed = rule
    p = np.polynomial.Polynomial(np.random.default_rng(seed).uniform(-1, 1, nodes))
    t, w = (array(v) for v in quadrature(steps, "cumulative", nodes))
    values = [p(i * (i + 1) / (2 * steps)) for i in range(1, steps + 1)]
    assert_allclose(w @ p(t), np.mean(values), rtol=1e-4, atol=1e-4 * np.abs(values).max())
    expected = reference.schedule_of(steps, "cumulative", nodes)
    assert_allclose(t, expected[0], rtol=1e-3, atol=1e-4)
    assert_allclose(w, expected[1], rtol=1e-3, atol=1e-4)


# --------------------------------------------------------------------------------------- batches, seeds, random numbers


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize("method", [*iscam.METHODS, *iscam.CONTROLS])
def test_a_map_never_depends_on_its_batch_mates(method):
    net = iscam.Network(pooled(), "relu")
    images, targets = smooth_images(3, 25, 31), torch.tensor([2, 3, 4])
    options = FEW.get(method, {})
    together = iscam.explain(net, images, targets, method, **options)
    reverse = iscam.explain(net, images.flip(0), targets.flip(0), method, **options).flip(0)
    alone = [iscam.explain(net, images[i : i + 1], targets[i : i + 1], method, **options)[0] for i in range(3)]
    rounding = 1e-5 if {**iscam.METHODS, **iscam.CONTROLS}[method].in_batches else 0
    torch.testing.assert_close(together, reverse, rtol=0, atol=rounding)
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=rounding)
    assert together.isfinite().all()
    assert together.amin() >= 0
    assert together.amax() <= 1
    assert not together.requires_grad


IN_BATCHES = [name for name, method in iscam.METHODS.items() if method.in_batches]


class Counting(nn.Module):
    """Counts its forward passes and their images. `most` is the largest batch that it accepts."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.model, self.most = pooled(), most
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise ValueError(f"at most {self.most} images")
        self.batches.append(len(x))
        return self.model(x)


def test_methods_with_one_gradient_run_in_batches():
    weights = {"cam", "grad_cam", "grad_cam_pp", "layer_cam", "xgrad_cam"}
    assert set(IN_BATCHES) == weights | {"saliency", "guided_backprop"}


@pytest.mark.parametrize("method", [name for name in IN_BATCHES if iscam.METHODS[name].kind == "weights"])
def test_a_batch_takes_few_passes_and_gives_the_same_maps(method):
    model, images = Counting(), smooth_images(40, 25, 31)
    net = iscam.Network(model, "model.relu")
    together = iscam.explain(net, images, method=method)
    assert model.batches == [1, 16, 16, 8]  # first one image, for the check of the layer
    model.batches.clear()
    iscam.explain(net, images, method=method)
    assert model.batches == [16, 16, 8]
    alone = torch.cat([iscam.explain(net, image[None], method=method) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_model_that_takes_one_image_at_a_time_works():
    model, images = Counting(most=1), smooth_images(3, 25, 31)
    maps = iscam.explain(iscam.Network(model, "model.relu"), images, method="grad_cam")
    assert set(model.batches) == {1}
    torch.testing.assert_close(maps, iscam.explain(iscam.Network(pooled(), "relu"), images, method="grad_cam"))


def test_bad_image_in_a_batch_has_its_own_error(pooled_case):
    with refused("target 99 is out of range"):
        iscam.explain(pooled_case.net, pooled_case.images[:3], [2, 99, 2], "grad_cam")


def test_batch_that_does_not_fit_is_halved(pooled_case, monkeypatch):
    sizes = []

    def small_memory(net, images, targets):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward_records(net, images, targets)

    images = smooth_images(6, 20, 16)
    expected = iscam.explain(pooled_case.net, images, method="grad_cam")
    monkeypatch.setattr("iscam.record.forward_records", small_memory)
    torch.testing.assert_close(iscam.explain(pooled_case.net, images, method="grad_cam"), expected, rtol=0, atol=1e-5)
    assert sizes == [6, 3, 3]


def test_gradients_that_do_not_fit_are_computed_one_by_one(pooled_case):
    def large(batch):
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return layer_gradients(batch)

    records = forward_records(pooled_case.net, pooled_case.images[:3], [0, 1, 2])
    for record in records:
        torch.testing.assert_close(record.of_batch(large), record.of_batch(layer_gradients), rtol=1e-4, atol=1e-7)
    with pytest.raises(torch.OutOfMemoryError):
        records[0].of_batch(lambda batch: large(replace(batch, images=pooled_case.images)))


def test_record_with_another_target_has_its_own_gradient(pooled_case):
    first, second = forward_records(pooled_case.net, pooled_case.images[:2], [0, 1])
    alone = forward_record(pooled_case.net, pooled_case.images[1], 3)
    changed = replace(second, target=3).of_batch(layer_gradients)
    torch.testing.assert_close(changed, alone.of_batch(layer_gradients), rtol=1e-4, atol=1e-7)
    assert first.of_batch(layer_gradients) is first.of_batch(layer_gradients)
    assert not torch.equal(second.of_batch(layer_gradients), changed)


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_batch_size_changes_no_result(name, method):
    case = CASES[name]()
    options = {"samples": 4} if method == "ss_cam" else {}
    maps = [iscam.explain(case.net, case.images, method=method, batch_size=n, **options) for n in ("auto", 1, 7, 32)]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["ss_cam", "smooth_grad_cam_pp", "random"])
def test_seeds(pooled_case, method):
    options = {} if method == "random" else {"samples": 2}
    first, again, other = (
        iscam.explain(pooled_case.net, pooled_case.images, pooled_case.targets, method, seed=s, **options)
        for s in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_random_control_is_per_image_and_as_coarse_as_the_layer(pooled_case):
    a, b = iscam.explain(pooled_case.net, pooled_case.images[:2], method="random")
    assert not torch.equal(a, b)
    assert a.amin() == 0
    assert a.amax() == 1
    steps = (a[:, 1:] - a[:, :-1]).abs().max()
    assert steps < 0.5, "neighbouring pixels are interpolated"


def test_random_states_stay_as_they_are(pooled_case):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    before = states()
    for method in [*iscam.METHODS, *iscam.CONTROLS]:
        net = iscam.Network(pooled_case.net.model, "relu")
        iscam.explain(net, pooled_case.images[:1], method=method, **FEW.get(method, {}))
    iscam.load_model("squeezenet1_0", weights=None)
    assert states() == before


def inputs_of(net: iscam.Network, **arguments) -> Tensor:
    """Return all inputs of the model in order, without the first pass, which records the activations."""
    forward_record(net, arguments["images"][0])  # the check of the layer takes a pass in the first call
    seen: list[Tensor] = []
    hook = net.model.register_forward_pre_hook(lambda module, args: seen.extend(args[0].detach().clone()))
    try:
        iscam.explain(net, **arguments)
    finally:
        hook.remove()
    return torch.stack(seen[1:])


def test_ss_cam_noise_is_fixed_by_seed_channel_and_sample(bias_free_case):
    """Pass by pass: X o H_k + (sigma / range)^2 noise(seed, k, n), for the live channels k alone."""
    image = bias_free_case.images[:1]
    arguments = {"images": image, "method": "ss_cam", "sigma": 1.5, "seed": 3}
    one_by_one = inputs_of(bias_free_case.net, samples=2, batch_size=1, **arguments)
    x, expected = array(image[0]), []
    for k, a in enumerate(bias_free_case.split.activations(x)):
        if a.max() > a.min():
            masked = x * reference.min_max(reference.upsample(a, *x.shape[1:]))
            std = (1.5 / (masked.max() - masked.min())) ** 2
            expected += [masked + std * array(noise(image[0], 3, k, n)) for n in range(2)]
    assert_allclose(array(one_by_one), np.stack(expected), atol=1e-4)
    torch.testing.assert_close(
        inputs_of(bias_free_case.net, samples=2, batch_size=5, **arguments), one_by_one, atol=1e-6, rtol=0
    )
    more = (
        inputs_of(bias_free_case.net, samples=3, batch_size=5, **arguments).unflatten(0, (-1, 3))[:, :2].flatten(0, 1)
    )
    torch.testing.assert_close(more, one_by_one, atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------- channels that are constant


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"method": "score_cam"}, 1),
        ({"method": "is_cam", "steps": 4}, 4),
        ({"method": "is_cam", "steps": 15, "nodes": 3}, 3),
        ({"method": "ss_cam", "samples": 2}, 2),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_constant_channels_cost_no_pass_and_weigh_nothing(name, options, passes):
    case = CASES[name]()
    image, target = case.images[0], int(case.targets[0])
    activations = case.split.activations(array(image))
    constant = [k for k, a in enumerate(activations) if a.max() == a.min()]
    assert constant
    options = dict(options)
    method = options.pop("method")
    for softmax in (False, True):
        weights = weights_of(case.net, image, target, method, channel_softmax=softmax, **options)
        assert (weights[constant] == 0).all()
        assert (np.delete(weights, constant) != 0).all()
    seen = inputs_of(case.net, images=image[None], method=method, **options)
    assert len(seen) == (len(activations) - len(constant)) * passes


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize("method", [*iscam.METHODS, "random"])
def test_nothing_to_see_is_a_map_of_zeros(method):
    """A layer that is zero everywhere and an image of zeros give zeros, not NaN, and only the first pass runs."""
    model = pooled()
    with torch.no_grad():
        model.last.weight.zero_()
        model.last.bias.fill_(-1)
    net = iscam.Network(model, "relu")
    maps = iscam.explain(net, smooth_images(2, 25, 31), method=method, **({"masks": 40} if method == "rise" else {}))
    if method != "random":
        assert torch.equal(maps, torch.zeros(2, 25, 31))
    assert (
        iscam.explain(iscam.Network(bias_free(), "features"), torch.zeros(1, 3, 20, 16), method="score_cam").eq(0).all()
    )


@pytest.mark.parametrize("level", [1e-43, 1e-30, 1e30])
def test_channels_of_extreme_size_give_finite_maps(level):
    """One bright cell in a channel of denormal or huge numbers, whose upsampling rounds."""
    model = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(2 * 25, 3))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[0, 0], model[1].weight[1, 1] = level, 1
        model[3].weight.mul_(min(1, 1 / level))
    for method in ("score_cam", "grad_cam", "is_cam"):
        maps = iscam.explain(iscam.Network(model, "1"), smooth_images(2, 20, 20), method=method)
        assert maps.isfinite().all()


@pytest.mark.filterwarnings("ignore:the map of class")
def test_a_layer_finer_than_the_image():
    """A channel whose only values fall between the sampled pixels is constant once it has the image's size."""
    model = nn.Sequential(nn.ConvTranspose2d(3, 2, 3, stride=3), nn.Flatten(), nn.Linear(2 * 36, 3))
    with torch.no_grad():
        model[0].weight[:, 0] = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
        model[0].bias.zero_()
    for method in ("score_cam", "is_cam", "grad_cam"):
        maps = iscam.explain(iscam.Network(model, "0"), torch.rand(2, 3, 2, 2).add(0.1)[:, :, :2, :2], method=method)
        assert maps.isfinite().all()


@pytest.mark.filterwarnings("ignore:the map of class")
def test_a_layer_as_coarse_as_one_cell_gives_a_map_of_zeros():
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for method in (name for name, entry in iscam.METHODS.items() if entry.kind == "weights"):
        assert iscam.explain(iscam.Network(model, "1"), smooth_images(1, 9, 9), method=method).eq(0).all()


# ---------------------------------------------------------------------------------------------- options, targets, types


def test_no_targets_are_the_predicted_classes(bias_free_case, pooled_case):
    for each in (bias_free_case, pooled_case):
        predicted = each.net(each.images).argmax(1)
        for method in ("grad_cam", "score_cam"):
            assert torch.equal(
                iscam.explain(each.net, each.images, method=method),
                iscam.explain(each.net, each.images, predicted, method),
            )


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_targets_of_every_whole_type(bias_free_case, kind):
    expected = iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets, "score_cam")
    assert torch.equal(
        iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets.to(kind), "score_cam"), expected
    )
    assert torch.equal(
        iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets.tolist(), "score_cam"), expected
    )


def test_targets_matter(pooled_case):
    for method in ("grad_cam", "grad_cam_pp", "score_cam", "is_cam"):
        a, b = (iscam.explain(pooled_case.net, pooled_case.images[:1], torch.tensor([t]), method) for t in (2, 3))
        assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("schedule", [[0.5, 1], (0.5, 1), np.array([0.5, 1]), np.array([0.5, 1], dtype=np.float32)])
def test_schedules_of_numbers(bias_free_case, schedule):
    same(
        bias_free_case,
        {"method": "is_cam", "schedule": schedule},
        {"method": "is_cam", "steps": 2, "schedule": "linear"},
    )


def option_names(method: str) -> list[str]:
    return {**iscam.METHODS, **iscam.CONTROLS}[method].option_names


@pytest.mark.filterwarnings("ignore:the map of class")
@pytest.mark.parametrize("method", [*iscam.METHODS, *iscam.CONTROLS])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_models_of_other_precision(method, kind):
    """float64 gives the same map. bfloat16 gives a finite map in float32."""
    images, targets = smooth_images(2, 25, 31), torch.tensor([2, 3])
    options = FEW.get(method, {}) | ({"sigma": 0.0} if "sigma" in option_names(method) else {})
    single, other = (iscam.Network(pooled().to(kind), "relu") for kind in (torch.float32, kind))
    maps = iscam.explain(other, images.to(kind), targets, method, **options)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    if kind == torch.float64 and method != "random":
        torch.testing.assert_close(maps, iscam.explain(single, images, targets, method, **options), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "smooth_grad_cam_pp"])
def test_gradients_of_a_model_in_half_precision(method):
    """The third power of the gradients, and sums over the layer, exceed the range of half precision."""
    images, targets = smooth_images(2, 25, 31), torch.tensor([2, 3])
    options = {"sigma": 0.0} if method == "smooth_grad_cam_pp" else {}
    model = pooled()
    model.get_submodule("relu").register_forward_hook(lambda module, args, output: 50 * output)
    model.last.weight.data /= 500
    single, half = (iscam.Network(copy.deepcopy(model).to(kind), "relu") for kind in (torch.float32, torch.float16))
    maps = [iscam.explain(net, images.to(net.dtype), targets, method, **options) for net in (single, half)]
    torch.testing.assert_close(*maps, atol=0.02, rtol=0)


def test_bf16_passes_come_near_fp32(bias_free_case):
    maps = [
        iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets, "is_cam", precision=p)
        for p in ("fp32", "bf16")
    ]
    torch.testing.assert_close(*maps, atol=0.1, rtol=0)
    assert not torch.equal(*maps)


def test_controls(pooled_case):
    ones = iscam.explain(pooled_case.net, pooled_case.images, method="identity")
    assert torch.equal(ones, torch.ones(3, 25, 31))


def test_the_registries_name_what_they_hold():
    assert list(iscam.METHODS) == [
        "cam",
        "grad_cam",
        "grad_cam_pp",
        "smooth_grad_cam_pp",
        "score_cam",
        "ss_cam",
        "is_cam",
        "layer_cam",
        "xgrad_cam",
        "ablation_cam",
        "score_cam_pp",
        "grad_pp_score_cam",
        "recipro_cam",
        "opti_cam",
        "saliency",
        "guided_backprop",
        "smoothgrad",
        "integrated_gradients",
        "rise",
        "mask",
    ]
    assert set(iscam.CONTROLS) == {"identity", "random"}
    assert {"insertion", "deletion", "average_drop", "average_increase", "win", "energy"} <= set(iscam.METRICS)
