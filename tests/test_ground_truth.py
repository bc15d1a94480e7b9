"""The truth about a network's parts, and the metrics that compare maps with it, against cases worked out by hand."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch

import iscam
from iscam.menagerie import draw
from iscam.menagerie.draw import Drawing
from iscam.metrics.ground_truth import log_odds, paint, part_saliency, shapley_value


@pytest.fixture(scope="module")
def net():
    return iscam.load_model("menagerie/resnet")


def striped(values: dict[str, float]) -> tuple[Drawing, torch.Tensor]:
    """A drawing of 10x100 pixels whose parts are stripes of 10x20, and a map with a value on each stripe."""
    parts, map = {}, torch.zeros(10, 100)
    for i, (name, value) in enumerate(values.items()):
        mask = np.zeros((10, 100), bool)
        mask[:, 20 * i : 20 * i + 20] = True
        parts[name], map[:, 20 * i : 20 * i + 20] = mask, value
    whole = np.any(list(parts.values()), axis=0)
    return Drawing("striped", 0, np.zeros((10, 100, 3), np.uint8), whole, (0, 0, 100, 10), parts), map


def test_importance_is_the_change_of_log_odds(net):
    def odds(drawing, c=None):
        p = net(net.transform(iscam.data.Image.fromarray(drawing.image))[None]).double().softmax(1)[0]
        c = int(p.argmax()) if c is None else c
        return math.log(p[c] / (1 - p[c])), c

    found = iscam.part_importance(net, "Red Fox", 5)
    whole, c = odds(draw("Red Fox", 5))
    for part in found.index:
        assert found[part] == pytest.approx(whole - odds(draw("Red Fox", 5, without=part), c)[0], abs=1e-3)


def test_shapley_values_are_the_mean_gain_over_all_orders():
    value = {frozenset(s): len(s) ** 2 + ("a" in s) * 3.0 for n in range(4) for s in permutations("abc", n)}
    odds = {frozenset("abc") - on: v for on, v in value.items()}
    for part in "abc":
        gains = []
        for order in permutations("abc"):
            before = frozenset(order[: order.index(part)])
            gains.append(value[before | {part}] - value[before])
        assert shapley_value(odds, part, 3) == pytest.approx(np.mean(gains))


def test_shapley_values_add_up_to_the_whole(net):
    found = iscam.part_importance(net, "Basenji", 3, shapley=True)
    parts = list(draw("Basenji", 3).parts)
    whole, bare = log_odds(net, "Basenji", 3, [frozenset(), frozenset(parts)])
    assert found.sum() == pytest.approx(whole - bare, abs=1e-9)


def test_part_correlation_worked_out_by_hand():
    drawing, map = striped({"a": 0.1, "b": 0.5, "c": 0.9})
    up, down = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0}), pd.Series({"a": 2.0, "b": 1.0, "c": 0.0})
    both = iscam.part_correlation(torch.stack([map, map]), [drawing] * 2, [up, down])
    assert both.tolist() == pytest.approx([1.0, -1.0])
    mixed = iscam.part_correlation(map[None], [drawing], [pd.Series({"a": 1.0, "b": 0.0, "c": 2.0})])
    assert mixed.item() == pytest.approx(0.5)  # ranks 1 2 3 and 2 1 3


def test_equal_values_share_their_rank_and_a_constant_map_scores_zero():
    drawing, map = striped({"a": 0.5, "b": 0.5, "c": 0.9})
    importance = pd.Series({"a": 0.0, "b": 1.0, "c": 2.0})
    assert iscam.part_correlation(map[None], [drawing], [importance]).item() == pytest.approx(math.sqrt(3) / 2)
    assert iscam.part_correlation(torch.ones(1, 10, 100), [drawing], [importance]).item() == 0


def test_a_painted_truth_agrees_with_it_better_the_finer_it_is(net):
    drawing, importance = draw("Red Fox", 7), iscam.part_importance(net, "Red Fox", 7)
    maps = torch.stack([paint(drawing, importance, (side, side)) for side in (7, 224)])
    coarse, fine = iscam.part_correlation(maps, [drawing] * 2, [importance] * 2).tolist()
    assert fine > 0.7 and fine >= coarse


def test_images_without_a_truth_to_find_are_left_out():
    drawing, map = striped({"a": 0.1, "b": 0.5, "c": 0.9})
    assert iscam.part_correlation(map[None], [drawing], [pd.Series({"a": 0.1, "b": 0.0, "c": -1.0})]).isnan().all()
    two, map_of_two = striped({"a": 0.1, "b": 0.5})
    assert iscam.part_correlation(map_of_two[None], [two], [pd.Series({"a": 1.0, "b": 0.0})]).isnan().all()
    assert iscam.decisive_part(map[None], [drawing], [pd.Series({"a": 0.4, "b": 0.0, "c": 0.0})]).isnan().all()


def test_decisive_part_and_its_ties():
    importance = pd.Series({"a": 0.0, "b": 0.2, "c": 1.0})
    for values, expected in (
        ((0.1, 0.2, 0.9), 1.0),
        ((0.9, 0.2, 0.1), 0.0),
        ((0.1, 0.9, 0.9), 0.5),
        ((1, 1, 1), 1 / 3),
    ):
        drawing, map = striped(dict(zip("abc", values, strict=True)))
        assert iscam.decisive_part(map[None], [drawing], [importance]).item() == pytest.approx(expected)


def test_parts_that_hardly_show_do_not_count():
    drawing, map = striped({"a": 0.1, "b": 0.5, "c": 0.9, "d": 0.3})
    drawing.parts["d"][:, :] = False
    drawing.parts["d"][:7, 93:100] = True  # 49 pixels
    assert part_saliency(map, drawing).index.tolist() == ["a", "b", "c"]


def test_mask_energy_is_the_share_on_the_animal():
    drawing, _ = striped({"a": 0.0, "b": 0.0})
    maps = torch.stack([torch.ones(10, 100), torch.zeros(10, 100)])
    assert iscam.energy(maps, torch.from_numpy(np.stack([drawing.mask] * 2))).tolist() == pytest.approx([0.4, 0.0])


def test_metrics_refuse_images_that_are_not_drawings():
    with pytest.raises(iscam.InputError, match="menagerie"):
        iscam.part_correlation(torch.ones(1, 8, 8), [None], [pd.Series({"a": 1.0})])


def test_too_many_parts_for_shapley(net, monkeypatch):
    drawing, _ = striped(dict.fromkeys("abcde", 0.0))
    many = drawing._replace(parts=dict.fromkeys("abcdefghi"))
    monkeypatch.setattr("iscam.metrics.ground_truth.draw", lambda *_: many)
    with pytest.raises(iscam.InputError, match="at most 8 parts"):
        iscam.part_importance(net, "Basenji", 0, shapley=True)
