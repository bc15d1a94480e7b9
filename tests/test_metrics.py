"""The metrics: against the literal reference, against numbers worked out by hand, and their bounds."""

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
from iscam.metrics import measured


def maps_for(images: Tensor, seed: int = 0) -> Tensor:
    """Random maps in [0, 1], a third of each zero, so that there are ties."""
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(len(images), *images.shape[2:], generator=g) * 1.5 - 0.5).clamp(min=0)


class Mean(nn.Module):
    """Two classes whose probabilities are the image's mean red m and 1 - m, for m in (0, 1)."""

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
def test_curves_are_the_references(name, metric, step, device):
    case = CASES[name]()
    net, images, targets = case.net.to(device), case.images.to(device), case.targets.to(device)
    maps = maps_for(case.images)
    if metric == "deletion":
        found = iscam.deletion(net, images, maps.to(device), targets, pixels_per_step=step)
    else:
        found = iscam.insertion(net, images, maps.to(device), targets, pixels_per_step=step, start=metric)
    for i, (image, map, target) in enumerate(zip(case.images, maps, case.targets.tolist(), strict=True)):
        arguments = (case.split, array(image), array(map), target, step)
        expected = (
            reference.deletion(*arguments) if metric == "deletion" else reference.insertion(*arguments, start=metric)
        )
        assert_allclose(array(found.fraction), expected[0], atol=1e-6)
        assert_allclose(array(found.scores[i]), expected[1], atol=1e-4)
        assert_allclose(array(found.auc[i]), expected[2], atol=1e-4)


def test_the_papers_steps_give_225_points():
    image = torch.full((1, 3, 224, 224), 0.5)
    found = iscam.insertion(by_mean(), image, torch.rand(1, 224, 224))
    assert found.fraction.shape == (225,)
    assert found.scores.shape == (1, 225)
    assert found.auc.shape == (1,)
    assert_allclose(array(found.fraction), np.arange(225) / 224, atol=1e-6)
    assert_allclose(array(found.scores[0]), 0.5 * np.arange(225) / 224, atol=1e-5)


def test_areas_worked_out_by_hand():
    """Red (.4 .3; .2 .1) of one class that is its mean, the map the image, one pixel a step.

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


def test_a_shorter_last_step_counts_by_its_length():
    """The same with three pixels a step: 0, .9, 1 quarters at 0, 3/4, 1: 3/4 .45 + 1/4 .95 quarters."""
    red = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    image = torch.stack([red, red * 0, red * 0])[None]
    found = iscam.insertion(by_mean(), image, red[None], torch.tensor([0]), pixels_per_step=3)
    assert_allclose(array(found.fraction), [0, 0.75, 1])
    assert_allclose(array(found.scores[0]) * 4, [0, 0.9, 1], atol=1e-6)
    assert float(found.auc) == pytest.approx((0.75 * 0.45 + 0.25 * 0.95) / 4, abs=1e-6)


@settings(max_examples=30)
@given(height=st.integers(1, 6), width=st.integers(1, 6), step=st.integers(1, 40), seed=st.integers(0, 999))
def test_area_of_a_straight_line(height, width, step, seed):
    """An image of one colour c: the class's probability is c times the fraction, the area c / 2, whatever the map."""
    image = torch.full((1, 3, height, width), 0.8)
    map = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed))
    arguments = (by_mean(), image, map, torch.tensor([0]))
    for found in (iscam.insertion(*arguments, step), iscam.deletion(*arguments, step)):
        assert len(found.fraction) == math.ceil(height * width / step) + 1
        assert float(found.fraction[0]) == 0
        assert float(found.fraction[-1]) == 1
        assert float(found.auc) == pytest.approx(0.4, abs=1e-5)


def test_ties_are_ordered_row_by_row():
    """Under a map of ones pixels appear as one reads; under (0 1; 1 0) the second, third, first, fourth."""
    red = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    image = torch.stack([red, red * 0, red * 0])[None]
    for map, order in ([[1.0, 1], [1, 1]], [0.1, 0.2, 0.3, 0.4]), ([[0.0, 1], [1, 0]], [0.2, 0.3, 0.1, 0.4]):
        found = iscam.insertion(by_mean(), image, torch.tensor([map]), torch.tensor([0]), pixels_per_step=1)
        assert_allclose(array(found.scores[0]) * 4, np.cumsum([0, *order]), atol=1e-6)


def test_identity_map_is_raster_order():
    case = CASES["pooled"]()
    ones = iscam.explain(case.net, case.images, case.targets, "identity")
    falling = torch.linspace(1, 0, ones[0].numel()).view_as(ones[0]).expand_as(ones)
    a, b = (iscam.deletion(case.net, case.images, maps, case.targets, 50).scores for maps in (ones, falling))
    assert torch.equal(a, b)


@pytest.mark.parametrize("step", [320, 321, 10**6])
def test_a_step_of_all_pixels_gives_two_points(case, step):
    found = iscam.insertion(case.net, case.images, maps_for(case.images), case.targets, pixels_per_step=step)
    assert found.fraction.tolist() == [0, 1]
    assert found.scores.shape == (3, 2)
    torch.testing.assert_close(found.auc, found.scores.mean(1))


def test_curves_begin_and_end_where_they_must(case, gap):
    for each in (case, gap):
        maps = maps_for(each.images)
        y, _ = iscam.confidence(each.net, each.images, maps, each.targets)
        blank, _ = iscam.confidence(each.net, torch.zeros_like(each.images), maps, each.targets)
        up = iscam.insertion(each.net, each.images, maps, each.targets, 50).scores
        down = iscam.deletion(each.net, each.images, maps, each.targets, 50).scores
        for found, expected in (up[:, 0], blank), (up[:, -1], y), (down[:, 0], y), (down[:, -1], blank):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_metrics_of_an_image_do_not_depend_on_its_batch_mates(gap):
    maps = maps_for(gap.images)
    together = iscam.insertion(gap.net, gap.images, maps, gap.targets, 50).scores
    y, o = iscam.confidence(gap.net, gap.images, maps, gap.targets)
    for i in range(3):
        one = (gap.net, gap.images[i : i + 1], maps[i : i + 1], gap.targets[i : i + 1])
        assert torch.equal(iscam.insertion(*one, 50).scores[0], together[i])
        alone = iscam.confidence(*one)
        assert torch.equal(alone[0][0], y[i])
        assert torch.equal(alone[1][0], o[i])


def test_no_targets_are_the_predicted_classes(gap):
    maps, predicted = maps_for(gap.images), gap.net(gap.images).argmax(1)
    for metric in (iscam.insertion, iscam.deletion):
        assert torch.equal(
            metric(gap.net, gap.images, maps).scores, metric(gap.net, gap.images, maps, predicted).scores
        )
    assert torch.equal(
        iscam.confidence(gap.net, gap.images, maps)[1], iscam.confidence(gap.net, gap.images, maps, predicted)[1]
    )


# ----------------------------------------------------------------------------------------------- drop, increase and win


@pytest.mark.parametrize("name", ["bias-free", "pooled"])
def test_confidence_and_what_follows_are_the_references(name, device):
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


def test_drop_increase_and_win_worked_out_by_hand():
    y, o = torch.tensor([0.8, 0.5, 0.0, 0.0, 0.4]), torch.tensor([0.2, 0.9, 0.3, 0.0, 0.4])
    assert_allclose(array(iscam.average_drop(y, o)), [0.75, 0, 0, 0, 0], atol=1e-7)
    assert iscam.average_increase(y, o).tolist() == [False, True, True, False, False]
    assert iscam.win(y, o, torch.tensor([0.1, 0.9, 0.4, 0.0, 0.3])).tolist() == [True, False, False, False, True]
    assert iscam.win(y[:1], torch.tensor([0.95]), torch.tensor([0.9])).tolist() == [True], "rises are not clipped"


def test_identity_map_has_neither_drop_nor_increase(case, gap):
    """Exactly: rounding alone would raise a quarter of the images if Y and O came from batches of other shapes."""
    for each in (case, gap):
        images = smooth_images(40, *each.images.shape[2:], seed=9)
        ones = iscam.explain(each.net, images, method="identity")
        y, o = iscam.confidence(each.net, images, ones)
        assert torch.equal(y, o)
        assert (iscam.average_drop(y, o) == 0).all()
        assert not iscam.average_increase(y, o).any()


@settings(max_examples=200)
@given(pairs=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=20))
def test_drop_and_increase_are_at_most_one_together(pairs):
    y, o = torch.tensor(pairs).T
    drop, rise = iscam.average_drop(y, o), iscam.average_increase(y, o).float()
    assert drop.isfinite().all()
    assert ((drop >= 0) & (drop <= 1)).all()
    assert float(drop.mean() + rise.mean()) <= 1 + 1e-6
    assert not ((drop > 0) & (rise > 0)).any()
    assert iscam.average_drop(torch.tensor([1e-45]), torch.tensor([0.0])) == 1, "also for the smallest numbers"
    assert_allclose(array(drop), [reference.average_drop(*pair) for pair in array(torch.stack([y, o], 1))], atol=1e-6)


# ------------------------------------------------------------------------------------ gain, coherency, complexity, ADCC


@settings(max_examples=100)
@given(pairs=st.lists(st.tuples(*[st.floats(0, 1, width=16)] * 2), min_size=1, max_size=20))
def test_gain_is_the_references(pairs):
    y, o = torch.tensor(pairs).T
    found = iscam.average_gain(y, o)
    assert_allclose(array(found), [reference.average_gain(*pair) for pair in array(torch.stack([y, o], 1))], atol=1e-6)
    assert torch.equal(found > 0, iscam.average_increase(y, o)), "a gain is an increase"


def test_coherency_complexity_and_adcc_are_the_references(gap, device):
    y, o = torch.tensor([0.8, 0.5, 0.3]), torch.tensor([0.2, 0.9, 0.3])
    maps, again = maps_for(gap.images), maps_for(gap.images, 1) + maps_for(gap.images) / 2
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


def test_adcc_worked_out_by_hand():
    """A half-marked map seen again unchanged, reversed and constant, with a drop of 1/2; then a drop of 1.

    Coherency 1, 0, none; complexity 1/2; ADCC 3 / (1 + 2 + 2) = 0.6, 0 and none; a drop of 1 makes it 0.
    """
    map = torch.tensor([[[1.0, 0], [0, 1]]]).expand(3, 2, 2)
    again = torch.stack([map[0], 1 - map[0], torch.ones(2, 2)])
    y, o = torch.tensor([0.8] * 3), torch.tensor([0.4] * 3)
    assert iscam.complexity(map).tolist() == [0.5] * 3
    assert_allclose(array(iscam.coherency(map, again)), [1, 0, math.nan], atol=1e-7)
    assert_allclose(array(iscam.adcc(y, o, map, again)), [0.6, 0, math.nan], atol=1e-6)
    assert iscam.adcc(y[:1], torch.zeros(1), map[:1], map[:1]).tolist() == [0]
    ones = torch.ones(1, 2, 2)
    assert iscam.adcc(y[:1], y[:1], ones, ones).isnan().all(), "the identity control is left out"


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
    map = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 1, (height, width)) ** 3
    return np.float32(map), np.float32(boxes).reshape(-1, 4)


@settings(max_examples=100)
@given(drawn=boxes_on_maps())
def test_energy_is_the_references(drawn):
    map, boxes = drawn
    found = iscam.energy(torch.from_numpy(map)[None], [torch.from_numpy(boxes)])
    everywhere = reference.energy(np.ones_like(map), boxes)  # 0 if no pixel's centre is inside
    expected = reference.energy(np.float64(map), boxes) if everywhere else math.nan
    assert_allclose(float(found), expected, atol=1e-5)


def test_energy_of_a_batch(device):
    maps = torch.tensor([[[1.0, 2], [3, 4]], [[1.0, 2], [3, 4]], [[0.0, 0], [0, 0]], [[1.0, 2], [3, 4]]], device=device)
    boxes = [[[0, 0, 1, 2]], [[0, 0, 1, 1], [0, 0, 1, 2], [1, 0, 2, 1]], [[0, 0, 1, 1]], []]
    found = iscam.energy(maps, [torch.tensor(each, dtype=torch.float32).reshape(-1, 4) for each in boxes])
    assert found.device.type == device
    assert_allclose(array(found), [0.4, 0.6, 0, math.nan], atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 3, 2), (2, 1, 8, 6), (0, 0, 8, 6), (5, 5, 6, 6)])
def test_energy_of_a_uniform_map_is_the_boxs_share_of_the_area(box):
    xmin, ymin, xmax, ymax = box
    found = iscam.energy(torch.full((1, 6, 8), 0.3), [torch.tensor([box])])
    assert float(found) == pytest.approx((xmax - xmin) * (ymax - ymin) / 48)


def test_a_pixel_counts_if_its_centre_lies_inside():
    """The centre 0.5 belongs to a box that begins at it and not to one that ends there."""
    map = torch.tensor([[[1.0, 0, 0]]])
    for box, expected in (
        ((0.5, 0, 3, 1), 1),
        ((0, 0, 0.5, 1), math.nan),
        ((0.6, 0, 3, 1), 0),
        ((0, 0.5, 0.6, 1), 1),
        ((0, 0, 3, 0.5), math.nan),
    ):
        assert_allclose(float(iscam.energy(map, [torch.tensor([box])])), expected)


# -------------------------------------------------------------------------------------- by name, as the study asks them


def test_measure_gives_each_metric_what_it_asks_for(gap):
    map, y, o = maps_for(gap.images)[:1], torch.tensor([0.8]), torch.tensor([0.2])
    given = {"net": gap.net, "images": gap.images[:1], "targets": gap.targets[:1], "maps": map, "original": y}
    given |= {
        "explained": o,
        "explained_a": o,
        "explained_b": torch.tensor([0.1]),
        "boxes": [torch.tensor([[0, 0, 9, 9]])],
    }
    blurred = iscam.insertion(gap.net, gap.images[:1], map, gap.targets[:1], start="blur")
    assert measured("insertion:blur", given) == float(blurred.auc) != measured("insertion", given)
    assert measured("deletion", given) == float(iscam.deletion(gap.net, gap.images[:1], map, gap.targets[:1]).auc)
    assert measured("average_drop", given) == pytest.approx(0.75)
    assert measured("average_increase", given) == 0
    assert measured("win", given) == 1
    assert measured("energy", given) == float(iscam.energy(map, given["boxes"]))
