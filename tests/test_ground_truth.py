"""Part importances and the metrics that compare maps with them, on cases computed by hand."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import iscam
from helpers.errors import refused
from iscam.menagerie import draw
from iscam.menagerie.draw import Drawing
from iscam.metrics.ground_truth import DRAWN_CONTROLS, shapley_value


@pytest.fixture(scope="module")
def net() -> iscam.Network:
    return iscam.load_model("menagerie/resnet")


def striped(values: dict[str, float]) -> tuple[Drawing, torch.Tensor]:
    """A drawing of 10x100 pixels whose parts are stripes of 10x20, and a map with one value per stripe."""
    parts, saliency = {}, torch.zeros(10, 100)
    for i, (name, value) in enumerate(values.items()):
        mask = np.zeros((10, 100), bool)
        mask[:, 20 * i : 20 * i + 20] = True
        parts[name], saliency[:, 20 * i : 20 * i + 20] = mask, value
    everything = np.any(list(parts.values()), axis=0)
    return Drawing("striped", 0, np.zeros((10, 100, 3), np.uint8), everything, (0, 0, 100, 10), parts), saliency


def log_odds(net: iscam.Network, drawing: Drawing, c: int | None = None) -> tuple[float, int]:
    """Log-odds of class c, or of the predicted class, and the class."""
    p = net(net.transform(Image.fromarray(drawing.image))[None]).double().softmax(1)[0]
    c = int(p.argmax()) if c is None else c
    return math.log(p[c] / (1 - p[c])), c


def test_importance_is_the_change_of_log_odds(net):
    found = iscam.part_importance(net, "Red Fox", 5)
    full, c = log_odds(net, draw("Red Fox", 5))
    assert list(found.index) == list(draw("Red Fox", 5).parts)
    for part in found.index:
        assert found[part] == pytest.approx(full - log_odds(net, draw("Red Fox", 5, without=part), c)[0], abs=1e-3)


def test_shapley_value_is_the_mean_gain_over_orders():
    """Three parts whose log-odds have an interaction and a bonus for part a."""
    value = {frozenset(s): len(s) ** 2 + ("a" in s) * 3.0 for n in range(4) for s in combinations("abc", n)}
    odds = {frozenset("abc") - present: v for present, v in value.items()}  # for each set of removed parts
    for part in "abc":
        gains = []
        for order in permutations("abc"):
            before = frozenset(order[: order.index(part)])
            gains.append(value[before | {part}] - value[before])
        assert shapley_value(odds, part, 3) == pytest.approx(np.mean(gains))


def test_shapley_importances_add_up_to_the_full_image(net):
    parts = list(draw("Basenji", 3).parts)
    full, c = log_odds(net, draw("Basenji", 3))
    bare, _ = log_odds(net, draw("Basenji", 3, without=parts), c)
    assert iscam.part_importance(net, "Basenji", 3, shapley=True).sum() == pytest.approx(full - bare, abs=1e-3)


def test_importance_of_a_pair_is_the_change_without_both(net):
    found = iscam.pair_importance(net, "Red Fox", 5)
    full, c = log_odds(net, draw("Red Fox", 5))
    assert list(found.index) == list(combinations(draw("Red Fox", 5).parts, 2))
    for pair in found.index[::5]:
        assert found[pair] == pytest.approx(full - log_odds(net, draw("Red Fox", 5, without=pair), c)[0], abs=1e-3)


def test_importance_of_an_unknown_species_is_refused(net):
    with refused("Unicorn", "Basenji"):
        iscam.part_importance(net, "Unicorn", 0)


def test_part_correlation_equals_hand_computed_values():
    drawing, saliency = striped({"a": 0.1, "b": 0.5, "c": 0.9})
    up, down = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0}), pd.Series({"a": 2.0, "b": 1.0, "c": 0.0})
    both = iscam.part_correlation(torch.stack([saliency, saliency]), [drawing] * 2, [up, down])
    assert both.tolist() == pytest.approx([1.0, -1.0])
    mixed = iscam.part_correlation(saliency[None], [drawing], [pd.Series({"a": 1.0, "b": 0.0, "c": 2.0})])
    assert mixed.item() == pytest.approx(0.5)  # ranks 1 2 3 and 2 1 3


def test_part_correlation_gives_ties_their_mean_rank():
    drawing, saliency = striped({"a": 0.5, "b": 0.5, "c": 0.9})
    importance = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0})
    assert iscam.part_correlation(saliency[None], [drawing], [importance]).item() == pytest.approx(math.sqrt(3) / 2)


def test_part_correlation_of_a_constant_map_is_zero():
    drawing, saliency = striped({"a": 0.5, "b": 0.5, "c": 0.9})
    importance = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0})
    assert iscam.part_correlation(torch.ones_like(saliency)[None], [drawing], [importance]).item() == 0


@pytest.mark.parametrize("pixels", [49, 50])
def test_part_counts_from_50_visible_pixels_on(pixels):
    """Stripe d breaks the order of the other three, so that it lowers the correlation if it counts."""
    drawing, saliency = striped({"a": 0.1, "b": 0.5, "c": 0.9, "d": 0.3})
    drawing.parts["d"][:, :] = False
    drawing.parts["d"].reshape(-1)[950 : 950 + pixels] = True
    importance = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0, "d": 9.0})
    found = iscam.part_correlation(saliency[None], [drawing], [importance]).item()
    assert (found == pytest.approx(1.0)) == (pixels == 49)


def test_part_metrics_without_a_clear_truth_are_nan():
    drawing, saliency = striped({"a": 0.1, "b": 0.5, "c": 0.9})
    unimportant, close = pd.Series({"a": 0.1, "b": 0.0, "c": -1.0}), pd.Series({"a": 0.4, "b": 0.0, "c": 0.0})
    assert iscam.part_correlation(saliency[None], [drawing], [unimportant]).isnan().all()
    assert iscam.decisive_part(saliency[None], [drawing], [close]).isnan().all()
    drawing, saliency = striped({"a": 0.1, "b": 0.5})
    assert iscam.part_correlation(saliency[None], [drawing], [pd.Series({"a": 1.0, "b": 0.0})]).isnan().all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.1, 0.2, 0.9), 1.0), ((0.9, 0.2, 0.1), 0.0), ((0.1, 0.9, 0.9), 0.5), ((1, 1, 1), 1 / 3)],
)
def test_decisive_part_shares_ties(values, expected):
    drawing, saliency = striped(dict(zip("abc", values, strict=True)))
    importance = pd.Series({"a": 0.0, "b": 0.2, "c": 1.0})
    assert iscam.decisive_part(saliency[None], [drawing], [importance]).item() == pytest.approx(expected)


def test_energy_on_the_animal_is_its_share():
    drawing, _ = striped({"a": 0.0, "b": 0.0})
    maps = torch.stack([torch.ones(10, 100), torch.zeros(10, 100)])
    found = iscam.energy(maps, torch.from_numpy(np.stack([drawing.mask] * 2)))
    assert found.tolist() == pytest.approx([0.4, 0.0])


@pytest.mark.parametrize("metric", [iscam.part_correlation, iscam.decisive_part])
def test_part_metrics_of_photographs_are_refused(metric):
    with refused("menagerie"):
        metric(torch.ones(1, 8, 8), [None], [pd.Series({"a": 1.0})])


@pytest.mark.parametrize("metric", [iscam.part_correlation, iscam.decisive_part])
def test_part_metrics_of_unequal_numbers_are_refused(metric):
    drawing, saliency = striped({"a": 0.1, "b": 0.5})
    with refused("2 maps", "1 drawings"):
        metric(torch.stack([saliency, saliency]), [drawing], [pd.Series({"a": 1.0, "b": 0.0})])
    with refused("size", "(10, 50)"):
        metric(saliency[None, :, :50], [drawing], [pd.Series({"a": 1.0, "b": 0.0})])


# ------------------------------------------------------------------------------------------------------------- controls


def test_oracle_agrees_better_at_a_finer_resolution(net):
    drawing, importance = draw("Red Fox", 7), iscam.part_importance(net, "Red Fox", 7)
    maps = torch.stack([DRAWN_CONTROLS["oracle"](drawing, importance, (side, side)) for side in (7, 224)])
    coarse, fine = iscam.part_correlation(maps, [drawing] * 2, [importance] * 2).tolist()
    assert fine > 0.7
    assert fine >= coarse


def test_part_area_marks_the_larger_part_more():
    drawing, _ = striped({"a": 0.0, "b": 0.0})
    drawing.parts["b"][:, 30:] = False  # half of its pixels
    found = DRAWN_CONTROLS["part_area"](drawing, pd.Series({"a": 0.0, "b": 9.0}), (10, 100))
    assert found[:, :20].eq(1).all()
    assert found[:, 22:28].sub(0.5).abs().max() < 1e-6
    assert found[:, 40:].eq(0).all()


@pytest.mark.parametrize("name", ["oracle", "part_area"])
def test_drawn_control_is_a_map_in_the_unit_range(net, name):
    control, drawing = DRAWN_CONTROLS[name], draw("Basenji", 1)
    found = control(drawing, iscam.part_importance(net, "Basenji", 1), (7, 7))
    assert found.shape == drawing.mask.shape
    assert (float(found.min()), float(found.max())) == (0, 1)
    assert control.title
    assert control.summary


def test_oracle_of_equal_importances_everywhere_is_zero():
    drawing, _ = striped({"a": 0.0})
    drawing.parts["a"][:, :] = True
    assert not DRAWN_CONTROLS["oracle"](drawing, pd.Series({"a": 3.0}), (5, 5)).any()
