"""The authors' recipe: each convention against a case worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers.images import array, smooth_images
from helpers.networks import pooled_case
from iscam.data import Entry
from iscam.maps import weighted_map
from iscam.metrics import Curves
from iscam.record import forward_record
from iscam.reproduction.as_coded.bounds import bound, readings
from iscam.reproduction.as_coded.boxes import cropped_boxes, disc, original_boxes, original_sizes
from iscam.reproduction.as_coded.methods import METHODS, explain, smooth_grad_cam_pp
from iscam.reproduction.as_coded.metrics import (
    average_drop,
    both_ways,
    confidence,
    energy,
    first_point_zero,
    marked,
    swapped_box,
    win,
)
from iscam.reproduction.published import published_table


class Colours(nn.Module):
    """Three classes whose logits are 4 times the image's mean red, green and blue."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x).mean((2, 3))


def by_colour() -> iscam.Network:
    return iscam.Network(Colours(), "layer")


def probability(logits: list[float], target: int) -> float:
    return math.exp(logits[target]) / sum(map(math.exp, logits))


def two_halves() -> tuple[Tensor, Tensor, Tensor]:
    """An image red above (1) and green below (1/2), a map that shows all of it, and one that shows the lower half."""
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0], image[0, 1, 1] = 1, 0.5
    return image, torch.ones(1, 2, 2), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])


# ------------------------------------------------------------------------------------- drop, increase and win as coded


def test_the_class_is_the_masked_images_for_both():
    """Whole: logits 2, 1, 0, class red. Masked: 0, 1, 0, class green: Y = e / (e² + e + 1), O = e / (e + 2)."""
    image, _, lower = two_halves()
    found = confidence(by_colour(), image, lower)
    assert found.classes.tolist() == [1]
    assert float(found.original) == pytest.approx(probability([2, 1, 0], 1), abs=1e-6)
    assert float(found.explained) == pytest.approx(probability([0, 1, 0], 1), abs=1e-6)
    Y, E = iscam.confidence(by_colour(), image, lower)  # the same map: a drop for red, a rise for green
    assert float(Y) == pytest.approx(probability([2, 1, 0], 0), abs=1e-6)
    assert float(iscam.average_drop(Y, E)) == pytest.approx(1 - probability([0, 1, 0], 0) / float(Y), abs=1e-6)
    assert not iscam.average_increase(Y, E)
    assert float(average_drop(found.original, found.explained)) == 0
    assert iscam.average_increase(found.original, found.explained)


def test_the_class_stays_where_the_mask_does_not_change_it():
    image, whole, _ = two_halves()
    found = confidence(by_colour(), image, whole)
    assert found.classes.tolist() == [0]
    assert float(found.original) == float(found.explained)
    assert_allclose(array(found.original), array(iscam.confidence(by_colour(), image, whole)[0]))


def test_the_drop_is_summed():
    """Drops 3/4, 0 and 1/2: the sum is 5/4, the mean 5/12."""
    original, explained = torch.tensor([0.8, 0.5, 0.6]), torch.tensor([0.2, 0.9, 0.3])
    assert float(average_drop(original, explained)) == pytest.approx(1.25)
    assert float(iscam.average_drop(original, explained).mean()) == pytest.approx(1.25 / 3)


def test_the_win_compares_points_of_each_methods_own_class():
    """a loses 30 - 20 = 10 points of its class, b 90 - 70 = 20 of another: a wins, although it keeps less, 20 < 70."""
    a, b = (torch.tensor([0.3]), torch.tensor([0.2])), (torch.tensor([0.9]), torch.tensor([0.7]))
    assert win(*a, *b)
    assert not win(*b, *a)
    assert not win(*a, *a)
    assert not iscam.win(a[0], a[1], b[1])


# ---------------------------------------------------------------------------------------------------- insertion, energy


def test_the_first_point_of_insertion_is_zero():
    """Scores .4, .6, 1 in two steps: area (.2 + .6 + .5) / 2 = .65; with 0 first it is (.6 + .5) / 2 = .55."""
    scores = torch.tensor([[0.4, 0.6, 1.0]])
    fraction = torch.tensor([0, 0.5, 1])
    curves = Curves(fraction, scores, torch.trapezoid(scores, fraction))
    assert float(curves.auc) == pytest.approx(0.65)
    found = first_point_zero(curves)
    assert found.scores.tolist() == [[0, pytest.approx(0.6), 1]]
    assert float(found.auc) == pytest.approx(0.55)
    assert float(curves.scores[0, 0]) == pytest.approx(0.4)


def test_marked_pixels_are_above_50_of_255():
    """Blocks of 8x8 that JPEG keeps flat: grey values 0, 38, 63 and 255 of 255."""
    blocks = torch.tensor([[0.0, 0.15], [0.25, 1.0]])
    found = marked(blocks.repeat_interleave(8, 0).repeat_interleave(8, 1))
    assert found.dtype == torch.bool
    assert_allclose(found.reshape(2, 8, 2, 8).float().mean((1, 3)), [[0, 0], [1, 1]])
    assert_allclose(float(marked(disc(60)).sum()), math.pi * 60**2, rtol=0.02)


def test_the_box_reads_corners_as_widths_and_swaps_the_axes():
    """Corners (2, 1) to (4, 3) are read as rows 2 to 2 + 4, columns 1 to 1 + 3, both ends included."""
    found = swapped_box(torch.tensor([2.0, 1, 4, 3]), 10, 8)
    rows, columns = found.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 1, 4)
    assert int(found.sum()) == 5 * 4
    assert not swapped_box(torch.tensor([12.0, 1, 20, 3]), 10, 8).any()  # beyond the image: nothing


def test_the_energy_counts_marked_pixels_in_the_first_box():
    """A map of 1 in the left half and .1 in the right of 16x16: rows 0 to 7, columns 0 to 3 hold 32 of 128 marked."""
    map = torch.full((16, 16), 0.1)
    map[:, :8] = 1
    boxes = torch.tensor([[0.0, 0, 7, 3], [0, 0, 16, 16]])
    assert energy(map, boxes) == pytest.approx(32 / 128)
    right = float(iscam.energy(map[None], [boxes[:1]]))  # columns 0 to 6, rows 0 to 2, of a mass of 128 + 12.8
    assert right == pytest.approx(21 / 140.8)
    assert math.isnan(energy(map, torch.empty(0, 4)))
    assert math.isnan(energy(torch.zeros(16, 16), boxes))


def test_a_uniform_maps_coded_energy_is_the_boxs_area():
    box = torch.tensor([[20.0, 30, 120, 100]])  # rows 20 to 140, columns 30 to 130
    assert energy(disc(None), box) == pytest.approx(121 * 101 / 224**2)


# --------------------------------------------------------------------------------------------------------------- boxes


def test_boxes_go_back_to_the_original_image_and_on_to_the_crop(tmp_path):
    """Stored at 227x227, once 454x227: x doubles, y stays. To 224: times 224/227, less 112 pixels in x."""
    from PIL import Image

    (tmp_path / "original_sizes.csv").write_text("ImageId,width,height\na,454,227\n")
    sizes = original_sizes(tmp_path)
    assert sizes == {"a": (454, 227)}
    stored = Image.new("RGB", (227, 227))
    entry = Entry("a.JPEG", lambda: stored, 0, [[100, 10, 150, 110], [0, 0, 20, 20]])
    boxes, size = original_boxes(entry, sizes)
    assert size == (454, 227)
    assert boxes.tolist() == [[200, 10, 300, 110], [0, 0, 40, 20]]
    moved = cropped_boxes(boxes, size)  # the second box is cropped away
    assert_allclose(moved, [[200 * 224 / 227 - 112, 10 * 224 / 227, 300 * 224 / 227 - 112, 110 * 224 / 227]], atol=0.5)
    assert original_boxes(entry, {})[0].tolist() == [[100, 10, 150, 110], [0, 0, 20, 20]]
    assert original_sizes(tmp_path / "nowhere") == {}


def test_a_drawing_is_its_own_original():
    dataset = iscam.load_images("menagerie", count=1)
    boxes, size = original_boxes(dataset.entries[0], {})
    assert size == (224, 224)
    assert_allclose(boxes, dataset[0].boxes)
    assert_allclose(cropped_boxes(boxes, size), boxes)


def test_a_broken_table_of_sizes_says_so(tmp_path):
    (tmp_path / "original_sizes.csv").write_text("name,w\na,1\n")
    with pytest.raises(iscam.InputError, match="ImageId, width and height"):
        original_sizes(tmp_path)


# ------------------------------------------------------------------------------------------------------------- methods


def test_smooth_grad_cam_pp_is_the_literal_one():
    """Two noisy copies, each for its own top class; the clean image's A and g; exp(S) of the second copy."""
    case = pooled_case()
    view = forward_record(case.net, case.images[1])
    x = array(case.images[1])
    A = case.split.activations(x)
    g = case.split.gradient(x, view.target)
    g2, g3 = np.zeros_like(A), np.zeros_like(A)
    for n in range(2):
        noisy = x + 4 * array(iscam.rng.noise(case.images[1], 5, n))
        logits = case.split.logits(noisy)
        g_n = case.split.gradient(noisy, int(logits.argmax()))
        g2, g3 = g2 + g_n**2 / 2, g3 + g_n**3 / 2
    denominator = 2 * g2 + A.sum((1, 2), keepdims=True) * g3
    a = np.divide(g2, denominator, out=np.zeros_like(A), where=g2 > 0)  # a place without gradient has no weight
    expected = (a * np.maximum(0, math.exp(logits.max()) * g)).sum((1, 2))
    found = smooth_grad_cam_pp(view, samples=2, seed=5)
    assert_allclose(array(found), expected, rtol=2e-3, atol=1e-4 * abs(expected).max())


def test_the_factor_of_smooth_grad_cam_pp_changes_no_map(monkeypatch):
    view = forward_record(pooled_case().net, pooled_case().images[0])

    def map():
        weights = smooth_grad_cam_pp(view, samples=3)
        return weighted_map(weights, view.activations.detach(), view.image.shape[1:])

    before = map()
    monkeypatch.setattr("iscam.reproduction.as_coded.methods.LARGEST_EXPONENT", -2.0)
    assert_allclose(array(map()), array(before), atol=1e-5)


def test_the_settings_of_the_notebook(case):
    options = {"is_cam": {"steps": 10}, "ss_cam": {"samples": 35}}
    for method, chosen in options.items():
        found = explain(case.net, case.images[:2], method)
        assert_allclose(
            array(found), array(iscam.explain(case.net, case.images[:2], None, method, **chosen)), atol=1e-6
        )
    assert explain(case.net, case.images, "smooth_grad_cam_pp").shape == (3, 20, 16)
    assert set(METHODS) <= set(iscam.METHODS)


# --------------------------------------------------------------------------------------------------- published numbers


def test_both_ways_holds_each_convention(case):
    net, images = case.net, case.images[:1]
    map = torch.rand(20, 16, generator=torch.Generator().manual_seed(0))
    boxes, original = torch.tensor([[2.0, 3, 9, 11]]), torch.tensor([[4.0, 6, 18, 22], [0, 0, 1, 1]])
    found = both_ways(net, images[0], map, boxes, original, 20)
    target = net(images).argmax(1)
    Y, E = iscam.confidence(net, images, map[None], target)
    coded = confidence(net, images, map[None])
    appearing = iscam.insertion(net, images, map[None], target, 20)
    expected = {
        ("insertion", "canonical"): appearing.auc,
        ("insertion", "as coded"): appearing.auc - appearing.scores[0, 0] / (2 * 16),
        ("deletion", "canonical"): iscam.deletion(net, images, map[None], target, 20).auc,
        ("average_drop", "canonical"): iscam.average_drop(Y, E),
        ("average_increase", "as coded"): coded.original < coded.explained,
        ("O", "as coded"): coded.explained,
        ("energy", "canonical"): iscam.energy(map[None], [boxes]),
        ("energy", "mask only"): iscam.energy(marked(map)[None].float(), [boxes]),
        ("energy", "box only"): map[4:, 6:].sum() / map.sum(),
        ("energy", "as coded"): marked(map)[4:, 6:].sum() / marked(map).sum(),
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(float(value), abs=1e-6), key
    assert found["deletion", "as coded"] == found["deletion", "canonical"]
    without = both_ways(net, images[0], map, torch.empty(0, 4), torch.empty(0, 4), 20)
    assert all(math.isnan(value) for (metric, _), value in without.items() if metric == "energy")


def test_the_bound_on_published_cells():
    """80 + 60 is 40 too much: 80 must be halved. 30 + 60 is admissible."""
    rows = [("a", "x", 80.0, 60.0), ("a", "y", 30.0, 60.0)]
    metrics = ("average_drop", "average_increase")
    table = pd.DataFrame(
        [(m, n, metric, v) for m, n, *pair in rows for metric, v in zip(metrics, pair, strict=True)],
        columns=["model", "method", "metric", "value"],
    )
    found = bound(table)
    assert found["sum"].tolist() == [140, 90]
    assert found["excess"].tolist() == [40, 0]
    assert found["factor"].tolist() == [2, 1]


def test_six_published_cells_break_the_bound():
    found = bound(published_table("table2"))
    assert found[found["excess"] > 0]["model"].tolist() == ["vgg16"] * 3 + ["resnet18"] * 3
    assert found["factor"].max() == pytest.approx(79.15 / 48.70)


def test_the_bound_holds_for_either_class(case):
    images = smooth_images(6, 20, 16, seed=3)
    maps = torch.rand(6, 20, 16, generator=torch.Generator().manual_seed(1))
    for Y, E in (iscam.confidence(case.net, images, maps), confidence(case.net, images, maps)[1:]):
        assert bool((iscam.average_drop(Y, E) + iscam.average_increase(Y, E) <= 1).all())


def test_the_class_rule_only_lowers_the_drop_and_raises_the_increase(case):
    """Y_m <= Y_c and O_m >= O_c for the predicted class c and the masked image's top class m."""
    images = 3 * smooth_images(12, 20, 16, seed=4)
    maps = torch.rand(12, 20, 16, generator=torch.Generator().manual_seed(2)) > 0.7
    canonical = iscam.confidence(case.net, images, maps.float())
    found = confidence(case.net, images, maps.float())
    changed = found.classes != case.net(images).argmax(1)
    assert changed.any()
    assert not changed.all()
    drops = iscam.average_drop(*found[1:]) - iscam.average_drop(*canonical)
    assert bool((drops <= 1e-6).all())
    assert bool((drops[changed] < 0).any())
    assert bool((iscam.average_increase(*found[1:]) >= iscam.average_increase(*canonical)).all())


def test_the_readings_of_equation_7():
    """Literally: M_{i+1} = M_i + i/N from i = 0 (strict) or 1 (cumulative)."""
    for steps in (1, 3, 10, 15):
        found = readings(steps)
        M, strict = 0.0, []
        for i in range(steps):
            M += i / steps
            strict.append(M)
        assert_allclose(found["strict"], strict)
        assert_allclose(found["cumulative"], np.cumsum(np.arange(1, steps + 1) / steps))
        assert_allclose(found["linear"], np.arange(1, steps + 1) / steps)
        assert_allclose(found["last"], [(steps + 1) / 2])
    inside = {name: sum(t <= 1 for t in readings(10)[name]) for name in found}
    assert inside == {"cumulative": 4, "strict": 5, "linear": 10, "last": 0}


def test_a_method_without_settings_of_its_own_is_refused(case):
    with pytest.raises(iscam.InputError, match="'score_cam'; the valid ones are: smooth_grad_cam_pp, ss_cam, is_cam"):
        explain(case.net, case.images, "score_cam")
