"""Metrics compared with the slow reference, with values computed by hand and with their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers import reference
from helpers.images import array, smooth_images
from helpers.networks import CASES
from iscam.metrics.confidence import upper_pixels


def maps_for(images: Tensor, seed: int = 0) -> Tensor:
    """Random maps in [0, 1]. A third of each is zero, which makes ties."""
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(len(images), *images.shape[2:], generator=g) * 1.5 - 0.5).clamp(min=0)


class Mean(nn.Module):
    """Two classes with the probabilities m and 1 - m, where m in (0, 1) is the mean of the image's red channel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        m = self.layer(x)[:, 0].mean((1, 2)).clamp(1e-9, 1 - 1e-7)
        return torch.stack([m.log(), (1 - m).log()], 1)


def by_mean() -> iscam.Network:
    return iscam.Network(Mean(), "layer")


# ----------------------------------------------------------------------------------------------- insertion and deletion


@pytest.mark.parametrize("name", ["bias-free", "pooled"])
@pytest.mark.parametrize("step", [37, 320, 10_000])
@pytest.mark.parametrize("metric", ["zeros", "blur", "deletion"])
def test_curves_equal_the_reference(name, metric, step, device):
    case = CASES[name]()
    net, images, targets = case.net.to(device), case.images.to(device), case.targets.to(device)
    maps = maps_for(case.images)
    if metric == "deletion":
        found = iscam.deletion(net, images, maps.to(device), targets, pixels_per_step=step)
    else:
        found = iscam.insertion(net, images, maps.to(device), targets, pixels_per_step=step, start=metric)
    for i, (image, saliency, target) in enumerate(zip(case.images, maps, case.targets.tolist(), strict=True)):
        arguments = (case.split, array(image), array(saliency), target, step)
        expected = (
            reference.deletion(*arguments) if metric == "deletion" else reference.insertion(*arguments, start=metric)
        )
        assert_allclose(array(found.fraction), expected[0], atol=1e-6)
        assert_allclose(array(found.scores[i]), expected[1], atol=1e-4)
        assert_allclose(array(found.auc[i]), expected[2], atol=1e-4)


def test_curves_of_224_pixel_steps_have_225_points():
    image = torch.full((1, 3, 224, 224), 0.5)
    found = iscam.insertion(by_mean(), image, torch.rand(1, 224, 224))
    assert found.fraction.shape == (225,)
    assert found.scores.shape == (1, 225)
    assert found.auc.shape == (1,)
    assert_allclose(array(found.fraction), np.arange(225) / 224, atol=1e-6)
    assert_allclose(array(found.scores[0]), 0.5 * np.arange(225) / 224, atol=1e-5)


def test_curves_of_four_pixels_equal_hand_computed_areas():
    """The red channel (.4 .3; .2 .1) is also the map; one pixel per step.

    Deletion: mean red 1, .6, .3, .1, 0 quarters; trapezoid (1/2 + .6 + .3 + .1 + 0) / 4 quarters = .375 / 4.
    Insertion: 0, .4, .7, .9, 1 quarters; (.4 + .7 + .9 + 1/2) / 4 = .625 / 4.
    """
    red = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    image = torch.stack([red, red * 0, red * 0])[None]
    arguments = (by_mean(), image, red[None], torch.tensor([0]))
    down, up = iscam.deletion(*arguments, pixels_per_step=1), iscam.insertion(*arguments, pixels_per_step=1)
    assert_allclose(array(down.scores[0]) * 4, [1, 0.6, 0.3, 0.1, 0], atol=1e-6)
    assert_allclose(array(up.scores[0]) * 4, [0, 0.4, 0.7, 0.9, 1], atol=1e-6)
    assert float(down.auc) == pytest.approx(0.375 / 4, abs=1e-6)
    assert float(up.auc) == pytest.approx(0.625 / 4, abs=1e-6)


def test_auc_weighs_a_short_last_step_by_its_length():
    """As above with three pixels per step: 0, .9, 1 quarters at 0, 3/4, 1: 3/4 .45 + 1/4 .95 quarters."""
    red = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    image = torch.stack([red, red * 0, red * 0])[None]
    found = iscam.insertion(by_mean(), image, red[None], torch.tensor([0]), pixels_per_step=3)
    assert_allclose(array(found.fraction), [0, 0.75, 1])
    assert_allclose(array(found.scores[0]) * 4, [0, 0.9, 1], atol=1e-6)
    assert float(found.auc) == pytest.approx((0.75 * 0.45 + 0.25 * 0.95) / 4, abs=1e-6)


@settings(max_examples=30)
@given(height=st.integers(1, 6), width=st.integers(1, 6), step=st.integers(1, 40), seed=st.integers(0, 999))
def test_auc_of_a_uniform_image_is_half_its_colour(height, width, step, seed):
    """In an image of one colour c, the probability is c times the fraction and the area c / 2, for any map."""
    image = torch.full((1, 3, height, width), 0.8)
    saliency = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed))
    arguments = (by_mean(), image, saliency, torch.tensor([0]))
    for found in (iscam.insertion(*arguments, step), iscam.deletion(*arguments, step)):
        assert len(found.fraction) == math.ceil(height * width / step) + 1
        assert float(found.fraction[0]) == 0
        assert float(found.fraction[-1]) == 1
        assert float(found.auc) == pytest.approx(0.4, abs=1e-5)


def test_curves_order_ties_row_by_row():
    """A map of ones inserts pixels in row-major order. The map (0 1; 1 0) inserts the second, third, first, fourth."""
    red = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    image = torch.stack([red, red * 0, red * 0])[None]
    for saliency, order in ([[1.0, 1], [1, 1]], [0.1, 0.2, 0.3, 0.4]), ([[0.0, 1], [1, 0]], [0.2, 0.3, 0.1, 0.4]):
        found = iscam.insertion(by_mean(), image, torch.tensor([saliency]), torch.tensor([0]), pixels_per_step=1)
        assert_allclose(array(found.scores[0]) * 4, np.cumsum([0, *order]), atol=1e-6)


def test_curves_of_the_identity_map_follow_raster_order():
    case = CASES["pooled"]()
    ones = iscam.explain(case.net, case.images, case.targets, "identity")
    falling = torch.linspace(1, 0, ones[0].numel()).view_as(ones[0]).expand_as(ones)
    a, b = (iscam.deletion(case.net, case.images, maps, case.targets, 50).scores for maps in (ones, falling))
    assert torch.equal(a, b)


@pytest.mark.parametrize("step", [320, 321, 10**6])
def test_curves_with_one_step_have_two_points(bias_free_case, step):
    found = iscam.insertion(
        bias_free_case.net,
        bias_free_case.images,
        maps_for(bias_free_case.images),
        bias_free_case.targets,
        pixels_per_step=step,
    )
    assert found.fraction.tolist() == [0, 1]
    assert found.scores.shape == (3, 2)
    torch.testing.assert_close(found.auc, found.scores.mean(1))


def test_curves_end_at_the_image_and_the_canvas(bias_free_case, pooled_case):
    for each in (bias_free_case, pooled_case):
        maps = maps_for(each.images)
        y, _ = iscam.confidence(each.net, each.images, maps, each.targets)
        blank, _ = iscam.confidence(each.net, torch.zeros_like(each.images), maps, each.targets)
        up = iscam.insertion(each.net, each.images, maps, each.targets, 50).scores
        down = iscam.deletion(each.net, each.images, maps, each.targets, 50).scores
        for found, expected in (up[:, 0], blank), (up[:, -1], y), (down[:, 0], y), (down[:, -1], blank):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_metrics_do_not_depend_on_batch_mates(pooled_case):
    maps = maps_for(pooled_case.images)
    together = iscam.insertion(pooled_case.net, pooled_case.images, maps, pooled_case.targets, 50).scores
    y, o = iscam.confidence(pooled_case.net, pooled_case.images, maps, pooled_case.targets)
    for i in range(3):
        one = (pooled_case.net, pooled_case.images[i : i + 1], maps[i : i + 1], pooled_case.targets[i : i + 1])
        assert torch.equal(iscam.insertion(*one, 50).scores[0], together[i])
        alone = iscam.confidence(*one)
        assert torch.equal(alone[0][0], y[i])
        assert torch.equal(alone[1][0], o[i])


def test_metrics_without_targets_use_predicted_classes(pooled_case):
    maps, predicted = maps_for(pooled_case.images), pooled_case.net(pooled_case.images).argmax(1)
    for metric in (iscam.insertion, iscam.deletion):
        assert torch.equal(
            metric(pooled_case.net, pooled_case.images, maps).scores,
            metric(pooled_case.net, pooled_case.images, maps, predicted).scores,
        )
    assert torch.equal(
        iscam.confidence(pooled_case.net, pooled_case.images, maps)[1],
        iscam.confidence(pooled_case.net, pooled_case.images, maps, predicted)[1],
    )


def test_curves_rank_maps_in_their_own_precision(bias_free_case):
    """Differences far below the rounding of float32 and bfloat16 still order the pixels."""
    falling = torch.arange(320, 0, -1).double().reshape(1, 20, 16)
    images, target = bias_free_case.images[:1], bias_free_case.targets[:1]
    expected = iscam.deletion(bias_free_case.net, images, falling, target, 9)
    found = iscam.deletion(bias_free_case.net, images, 0.5 + 1e-12 * falling, target, 9)
    assert torch.equal(found.scores, expected.scores)
    half = iscam.Network(by_mean().model.bfloat16(), "layer")
    steps = [iscam.deletion(half, images, maps, 0 * target, 9).auc for maps in (falling, 0.5 + 1e-5 * falling.float())]
    assert torch.equal(*steps)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_curves_accept_maps_of_any_type(bias_free_case, dtype):
    maps = (maps_for(bias_free_case.images) > 0.3).to(dtype)
    found, expected = (
        iscam.insertion(bias_free_case.net, bias_free_case.images, each, bias_free_case.targets, 50)
        for each in (maps, maps.float())
    )
    assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("metric", [iscam.insertion, iscam.deletion])
def test_curves_with_a_huge_step_have_two_points(metric):
    images, maps = torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8)
    found, expected = (metric(by_mean(), images, maps, pixels_per_step=step) for step in (10**30, 64))
    assert found.fraction.tolist() == [0, 1]
    assert torch.equal(found.scores, expected.scores)


def test_curves_compiled_equal_uncompiled():
    images, maps = torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8)
    for metric in (iscam.insertion, iscam.deletion):
        fast, slow = (metric(by_mean(), images, maps, pixels_per_step=1, compile=flag) for flag in (True, False))
        torch.testing.assert_close(fast.scores, slow.scores, atol=1e-5, rtol=1e-4)


def test_metrics_accept_a_bare_module():
    images, maps = torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    for metric in (iscam.insertion, iscam.deletion, iscam.confidence):
        found, expected = metric(model, images, maps), metric(iscam.Network(model, "1"), images, maps)
        assert all(map(torch.equal, found, expected))


def test_metrics_broadcast_an_int_target(bias_free_case):
    maps, classes = maps_for(bias_free_case.images), torch.tensor([3, 3, 3])
    for metric in (iscam.insertion, iscam.deletion, iscam.confidence):
        found, expected = (metric(bias_free_case.net, bias_free_case.images, maps, targets) for targets in (3, classes))
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("classes", [1, 4])
def test_metrics_of_a_sigmoid_network_use_its_probabilities(classes):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    net = iscam.Network(nn.Sequential(*layers).eval(), "1", probability="sigmoid")
    images, maps = smooth_images(2, 9, 8), torch.rand(2, 9, 8)
    targets = torch.tensor([0, classes - 1])

    def sigmoid(x: Tensor) -> Tensor:
        return net.model(x).detach().sigmoid()[torch.arange(2), targets]

    y, o = iscam.confidence(net, images, maps, targets)
    torch.testing.assert_close(y, sigmoid(images))
    torch.testing.assert_close(o, sigmoid(images * maps[:, None]))
    up, down = (metric(net, images, maps, targets, 9).scores for metric in (iscam.insertion, iscam.deletion))
    blank = sigmoid(torch.zeros_like(images))
    for found, expected in (up[:, 0], blank), (up[:, -1], y), (down[:, 0], y), (down[:, -1], blank):
        torch.testing.assert_close(found, expected)


def test_metrics_ignore_the_callers_autocast(bias_free_case):
    maps = maps_for(bias_free_case.images)
    for metric in (iscam.insertion, iscam.deletion, iscam.confidence):
        expected = metric(bias_free_case.net, bias_free_case.images, maps, bias_free_case.targets)
        with torch.autocast("cpu", torch.bfloat16):
            found = metric(bias_free_case.net, bias_free_case.images, maps, bias_free_case.targets)
        assert all(map(torch.equal, found, expected))


def test_blur_of_the_smallest_image_has_finite_scores():
    found = iscam.insertion(by_mean(), torch.rand(1, 3, 6, 6), torch.rand(1, 6, 6), start="blur")
    assert found.scores.isfinite().all()


# ----------------------------------------------------------------------------------------------- drop, increase and win


@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_confidence_drop_increase_win_equal_the_reference(name, device):
    case = CASES[name]()
    net, images, targets = case.net.to(device), case.images.to(device), case.targets.to(device)
    maps, others = maps_for(images), maps_for(images, 1)
    y, o = iscam.confidence(net, images, maps.to(device), targets)
    _, other = iscam.confidence(net, images, others.to(device), targets)
    drop, rise, wins = iscam.average_drop(y, o), iscam.average_increase(y, o), iscam.win(y, o, other)
    assert (y.dtype, o.dtype, rise.dtype, wins.dtype) == (torch.float32, torch.float32, torch.bool, torch.bool)
    assert y.shape == o.shape == drop.shape == rise.shape == wins.shape == (3,)
    for i, target in enumerate(case.targets.tolist()):
        x = array(case.images[i])
        expected = reference.confidence(case.split, x, array(maps[i]), target)
        expected_other = reference.confidence(case.split, x, array(others[i]), target)[1]
        assert_allclose([float(y[i]), float(o[i])], expected, atol=1e-5)
        assert_allclose(float(drop[i]), reference.average_drop(*expected), atol=1e-4)
        assert bool(rise[i]) == reference.average_increase(*expected)
        assert bool(wins[i]) == reference.win(*expected, expected_other)


def test_drop_increase_win_equal_hand_computed_values():
    y, o = torch.tensor([0.8, 0.5, 0.0, 0.0, 0.4]), torch.tensor([0.2, 0.9, 0.3, 0.0, 0.4])
    assert_allclose(array(iscam.average_drop(y, o)), [0.75, 0, 0, 0, 0], atol=1e-7)
    assert iscam.average_increase(y, o).tolist() == [False, True, True, False, False]
    assert iscam.win(y, o, torch.tensor([0.1, 0.9, 0.4, 0.0, 0.3])).tolist() == [True, False, False, False, True]
    assert iscam.win(y[:1], torch.tensor([0.95]), torch.tensor([0.9])).tolist() == [True], "O is not clipped at Y"


@pytest.mark.parametrize("name", ["bias-free", "pooled"])
@pytest.mark.parametrize("keep", [0.001, 0.1, 0.5, 0.77, 1])
def test_confidence_with_the_upper_pixels_equals_the_reference(name, keep, device):
    case = CASES[name]()
    maps = maps_for(case.images)
    maps[1] = (4 * maps[1]).round() / 4  # ties between values that are not 0
    arguments = (case.net.to(device), case.images.to(device), maps.to(device), case.targets.to(device))
    y, o = iscam.confidence(*arguments, keep=keep)
    for i, target in enumerate(case.targets.tolist()):
        saliency = reference.upper_pixels(array(maps[i]), keep)
        expected = reference.confidence(case.split, array(case.images[i]), saliency, target)
        assert_allclose([float(y[i]), float(o[i])], expected, atol=1e-5)


def test_confidence_with_half_of_four_pixels_equals_hand_computed_values():
    """The red channel is (.4 .3; .2 .1), and the probability is the mean of red times the map.

    The map (.5 1; 1 1) keeps the first two of its three ones: (.3 + .2) / 4. Without `keep`, (.2 + .3 + .2 + .1) / 4.
    """
    red = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    image = torch.stack([red, red * 0, red * 0])[None]
    maps = torch.tensor([[[0.5, 1], [1, 1]]])
    for keep, kept in (1, 0.8), (0.5, 0.5), (0.75, 0.6), (0.25, 0.3), (0.01, 0.3):
        y, o = iscam.confidence(by_mean(), image, maps, 0, keep=keep)
        assert_allclose([float(y), float(o)], [0.25, kept / 4], atol=1e-6)


@settings(max_examples=50)
@given(keep=st.floats(0.01, 1), seed=st.integers(0, 999), dtype=st.sampled_from([torch.float64, torch.float16]))
def test_upper_pixels_are_the_largest(keep, seed, dtype):
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(seed)).to(dtype) + 0.01
    found = upper_pixels(maps, keep)
    assert found.dtype == dtype
    for before, after in zip(maps, found, strict=True):
        kept = after > 0
        assert int(kept.sum()) == max(1, round(keep * 35))
        assert torch.equal(after[kept], before[kept])
        assert kept.all() or before[kept].min() >= before[~kept].max()


def test_map_with_few_positive_pixels_is_the_same_with_its_upper_half(pooled_case):
    maps = maps_for(pooled_case.images) * (torch.rand(pooled_case.images[:, 0].shape) < 0.4)
    arguments = (pooled_case.net, pooled_case.images, maps, pooled_case.targets)
    assert torch.equal(iscam.confidence(*arguments, keep=0.5)[1], iscam.confidence(*arguments)[1])


def test_identity_map_with_its_upper_half_shows_the_upper_rows(pooled_case):
    """All pixels of the identity control are equal, so the first in row-major order are kept."""
    ones = torch.ones_like(pooled_case.images[:, 0])
    rows = torch.zeros_like(ones)
    rows.flatten(1)[:, : round(ones[0].numel() / 2)] = 1
    arguments = (pooled_case.net, pooled_case.images)
    found, expected = iscam.confidence(*arguments, ones, 0, keep=0.5), iscam.confidence(*arguments, rows, 0)
    assert all(map(torch.equal, found, expected))


def test_identity_map_has_neither_drop_nor_increase(bias_free_case, pooled_case):
    """Both are exactly 0. If Y and O came from batches of different shapes, rounding would raise a quarter of them."""
    for each in (bias_free_case, pooled_case):
        images = smooth_images(40, *each.images.shape[2:], seed=9)
        ones = iscam.explain(each.net, images, method="identity")
        y, o = iscam.confidence(each.net, images, ones)
        assert torch.equal(y, o)
        assert (iscam.average_drop(y, o) == 0).all()
        assert not iscam.average_increase(y, o).any()


@settings(max_examples=200)
@given(pairs=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=20))
def test_drop_plus_increase_is_at_most_one(pairs):
    y, o = torch.tensor(pairs).T
    drop, rise = iscam.average_drop(y, o), iscam.average_increase(y, o).float()
    assert drop.isfinite().all()
    assert ((drop >= 0) & (drop <= 1)).all()
    assert float(drop.mean() + rise.mean()) <= 1 + 1e-6
    assert not ((drop > 0) & (rise > 0)).any()
    assert iscam.average_drop(torch.tensor([1e-45]), torch.tensor([0.0])) == 1, "the smallest float, too"
    assert_allclose(array(drop), [reference.average_drop(*pair) for pair in array(torch.stack([y, o], 1))], atol=1e-6)


# ------------------------------------------------------------------------------------ gain, coherency, complexity, ADCC


@settings(max_examples=100)
@given(pairs=st.lists(st.tuples(*[st.floats(0, 1, width=16)] * 2), min_size=1, max_size=20))
def test_gain_equals_the_reference(pairs):
    y, o = torch.tensor(pairs).T
    found = iscam.average_gain(y, o)
    assert_allclose(array(found), [reference.average_gain(*pair) for pair in array(torch.stack([y, o], 1))], atol=1e-6)
    assert torch.equal(found > 0, iscam.average_increase(y, o)), "a gain is an increase"


def test_coherency_complexity_adcc_equal_the_reference(pooled_case, device):
    y, o = torch.tensor([0.8, 0.5, 0.3]), torch.tensor([0.2, 0.9, 0.3])
    maps, again = maps_for(pooled_case.images), maps_for(pooled_case.images, 1) + maps_for(pooled_case.images) / 2
    found = [
        iscam.coherency(maps.to(device), again.to(device)),
        iscam.complexity(maps.to(device)),
        iscam.adcc(*(x.to(device) for x in (y, o, maps, again))),
    ]
    for i in range(3):
        a, b = array(maps[i]), array(again[i])
        expected = [
            reference.coherency(a, b),
            reference.complexity(a),
            reference.adcc(float(y[i]), float(o[i]), a, b),
        ]
        assert_allclose([float(x[i]) for x in found], expected, atol=1e-6)


def test_adcc_equals_hand_computed_values():
    """A map of mean 1/2 whose second map is equal, inverted and constant, with a drop of 1/2; then a drop of 1.

    Coherency 1, 0, NaN; complexity 1/2; ADCC 3 / (1 + 2 + 2) = 0.6, 0, NaN; with a drop of 1 it is 0.
    """
    saliency = torch.tensor([[[1.0, 0], [0, 1]]]).expand(3, 2, 2)
    again = torch.stack([saliency[0], 1 - saliency[0], torch.ones(2, 2)])
    y, o = torch.tensor([0.8] * 3), torch.tensor([0.4] * 3)
    assert iscam.complexity(saliency).tolist() == [0.5] * 3
    assert_allclose(array(iscam.coherency(saliency, again)), [1, 0, math.nan], atol=1e-7)
    assert_allclose(array(iscam.adcc(y, o, saliency, again)), [0.6, 0, math.nan], atol=1e-6)
    assert iscam.adcc(y[:1], torch.zeros(1), saliency[:1], saliency[:1]).tolist() == [0]
    ones = torch.ones(1, 2, 2)
    assert iscam.adcc(y[:1], y[:1], ones, ones).isnan().all(), "the identity control"


@settings(max_examples=100)
@given(seed=st.integers(0, 999), power=st.floats(0.1, 9))
def test_coherency_and_adcc_stay_in_range(seed, power):
    maps = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(seed)) ** power
    y, o = torch.tensor([0.5]), maps[0, :1, 0]
    coherency, adcc = iscam.coherency(maps[:1], maps[1:]), iscam.adcc(y, o, maps[:1], maps[1:])
    assert 0 <= float(coherency) <= 1 and 0 <= float(adcc) <= 1
    assert float(iscam.coherency(maps[:1], 0.2 + 0.7 * maps[:1])) == pytest.approx(1, abs=1e-6)


# --------------------------------------------------------------------------------------------------------------- energy


@st.composite
def boxes_on_maps(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    number = st.floats(-3, 12, width=16)
    boxes = []
    for _ in range(draw(st.integers(0, 3))):
        xmin, ymin = draw(st.floats(-3, width - 0.5, width=16)), draw(st.floats(-3, height - 0.5, width=16))
        xmax, ymax = (
            draw(number.filter(lambda x, low=xmin: x > max(low, 0))),
            draw(number.filter(lambda y, low=ymin: y > max(low, 0))),
        )
        boxes.append([xmin, ymin, xmax, ymax])
    saliency = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 1, (height, width)) ** 3
    return np.float32(saliency), np.float32(boxes).reshape(-1, 4)


@settings(max_examples=100)
@given(drawn=boxes_on_maps())
def test_energy_equals_the_reference(drawn):
    saliency, boxes = drawn
    found = iscam.energy(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)])
    everywhere = reference.energy(np.ones_like(saliency), boxes)  # 0 if no pixel's centre is inside
    expected = reference.energy(np.float64(saliency), boxes) if everywhere else math.nan
    assert_allclose(float(found), expected, atol=1e-5)
    single = iscam.energy(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)], single=True)
    assert_allclose(float(single), reference.single_box_energy(np.float64(saliency), boxes), atol=1e-5)


def test_energy_of_single_boxes_equals_hand_computed_values(device):
    """One box of half of the pixels; one of more; two boxes; no box; one that reaches beyond the image; a zero map."""
    maps = torch.tensor([[[1.0, 2], [3, 4]]], device=device).repeat(6, 1, 1)
    maps[5] = 0
    boxes = [[[0, 0, 1, 2]], [[0, 0, 2, 1.6]], [[0, 0, 1, 1], [1, 1, 2, 2]], [], [[1, 0, 9, 9]], [[0, 0, 1, 1]]]
    boxes = [torch.tensor(each, dtype=torch.float32).reshape(-1, 4) for each in boxes]
    assert_allclose(array(iscam.energy(maps, boxes)), [0.4, 1, 0.5, math.nan, 0.6, 0], atol=1e-6)
    found = iscam.energy(maps, boxes, single=True)
    assert found.device.type == device
    assert_allclose(array(found), [0.4, math.nan, math.nan, math.nan, 0.6, 0], atol=1e-6)


def test_energy_of_a_batch_equals_hand_computed_values(device):
    maps = torch.tensor([[[1.0, 2], [3, 4]], [[1.0, 2], [3, 4]], [[0.0, 0], [0, 0]], [[1.0, 2], [3, 4]]], device=device)
    boxes = [[[0, 0, 1, 2]], [[0, 0, 1, 1], [0, 0, 1, 2], [1, 0, 2, 1]], [[0, 0, 1, 1]], []]
    found = iscam.energy(maps, [torch.tensor(each, dtype=torch.float32).reshape(-1, 4) for each in boxes])
    assert found.device.type == device
    assert_allclose(array(found), [0.4, 0.6, 0, math.nan], atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 3, 2), (2, 1, 8, 6), (0, 0, 8, 6), (5, 5, 6, 6)])
def test_energy_of_a_uniform_map_is_the_share_of_the_area(box):
    xmin, ymin, xmax, ymax = box
    found = iscam.energy(torch.full((1, 6, 8), 0.3), [torch.tensor([box])])
    assert float(found) == pytest.approx((xmax - xmin) * (ymax - ymin) / 48)


def test_energy_counts_pixels_whose_centre_is_inside():
    """The centre 0.5 is inside a box that begins at 0.5 and outside a box that ends there."""
    saliency = torch.tensor([[[1.0, 0, 0]]])
    for box, expected in (
        ((0.5, 0, 3, 1), 1),
        ((0, 0, 0.5, 1), math.nan),
        ((0.6, 0, 3, 1), 0),
        ((0, 0.5, 0.6, 1), 1),
        ((0, 0, 3, 0.5), math.nan),
    ):
        assert_allclose(float(iscam.energy(saliency, [torch.tensor([box])])), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_energy_of_a_long_sum_does_not_overflow(dtype):
    """In float16 the sum of 90,000 ones is infinite."""
    found = iscam.energy(torch.ones(1, 300, 300, dtype=dtype), [torch.tensor([[0, 0, 150, 300]])])
    assert float(found) == 0.5
    assert found.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)


def test_energy_with_masks_equals_energy_with_boxes(device):
    maps = torch.rand(3, 6, 8, device=device)
    boxes = [torch.tensor([[0.0, 0, 3, 2]]), torch.tensor([[2.0, 1, 8, 6], [0, 0, 1, 1]]), torch.empty(0, 4)]
    masks = torch.zeros(3, 6, 8, dtype=torch.bool, device=device)
    masks[0, :2, :3] = masks[1, 1:, 2:] = masks[1, 0, 0] = True
    assert_allclose(array(iscam.energy(maps, masks)), array(iscam.energy(maps, boxes)), atol=1e-7)
    assert torch.equal(iscam.pointing_game(maps, masks), iscam.pointing_game(maps, boxes))


def test_energy_without_a_pixel_centre_inside_is_nan():
    thin, empty = torch.tensor([[2.1, 0, 2.4, 6]]), torch.empty(0, 4)
    maps = torch.stack([torch.ones(6, 8), torch.zeros(6, 8), torch.ones(6, 8)])
    assert iscam.energy(maps, [thin, thin, empty]).isnan().all()
    assert iscam.energy(maps, torch.zeros(3, 6, 8, dtype=torch.bool)).isnan().all()


def test_energy_of_thin_and_wide_boxes_ignores_the_thin():
    found = iscam.energy(torch.ones(1, 6, 8), [torch.tensor([[2.1, 0, 2.4, 6], [0, 0, 4, 6]])])
    assert float(found) == 0.5


def test_energy_of_unit_boxes_in_small_images_is_defined():
    """Pixel coordinates of a small image may all lie in [0, 1]. Integers are never fractions."""
    assert float(iscam.energy(torch.ones(1, 2, 2), [torch.tensor([[0.0, 0, 1, 1]])])) == 0.25
    assert float(iscam.energy(torch.ones(1, 50, 2), [torch.tensor([[0, 0, 1, 1]])])) == pytest.approx(0.01)


# -------------------------------------------------------------------------------------------------------- pointing game


@settings(max_examples=100)
@given(drawn=boxes_on_maps())
def test_pointing_game_equals_a_search_for_the_maximum(drawn):
    saliency, boxes = drawn
    best = max(np.ndindex(saliency.shape), key=lambda pixel: saliency[pixel])  # the first of equal ones
    y, x = best[0] + 0.5, best[1] + 0.5
    expected = any(xmin <= x < xmax and ymin <= y < ymax for xmin, ymin, xmax, ymax in boxes)
    found = iscam.pointing_game(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)])
    assert (found.dtype, found.shape) == (torch.bool, (1,))
    assert found.tolist() == [expected]


def test_pointing_game_takes_the_first_of_equal_maxima():
    maps = torch.zeros(2, 3, 3)
    maps[0, 0, 2] = maps[0, 1, 0] = 1  # the first in row-major order is (0, 2)
    maps[1] = 0.5
    first_row, first_column = torch.tensor([[0, 0, 3, 1]]), torch.tensor([[0, 0, 1, 3]])
    assert iscam.pointing_game(maps, [first_row] * 2).tolist() == [True, True]
    assert iscam.pointing_game(maps, [first_column] * 2).tolist() == [False, True]


def test_pointing_game_of_a_zero_map_or_no_box_is_false(device):
    maps = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).to(device)
    found = iscam.pointing_game(maps, [torch.tensor([[0, 0, 4, 4]]), torch.empty(0, 4)])
    assert found.device.type == device
    assert found.tolist() == [False, False]


def test_pointing_game_accepts_signed_maps():
    maps = torch.tensor([[[-3.0, -1], [-2, -4]]])
    assert iscam.pointing_game(maps, [torch.tensor([[1, 0, 2, 1]])]).tolist() == [True]
