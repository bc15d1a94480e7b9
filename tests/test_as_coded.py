"""The authors' recipe and its audit, compared with cases worked out by hand."""

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
from iscam.metrics import Curves
from iscam.record import forward_record
from iscam.reproduction.as_coded.bounds import bound, readings
from iscam.reproduction.as_coded.boxes import cropped_boxes, disc, original_boxes, original_sizes
from iscam.reproduction.as_coded.methods import METHODS, explain, smooth_grad_cam_pp
from iscam.reproduction.as_coded.metrics import (
    average_drop,
    both_conventions,
    confidence,
    energy,
    first_point_zero,
    marked,
    swapped_box,
    win,
)
from iscam.reproduction.audit import Audit, run_audit, with_both_settings, with_wins
from iscam.reproduction.audit_tables import (
    blind_shares,
    class_rule_holds,
    distances,
    drop_factors,
    largest_sums,
    published_beside_variants,
    win_table,
)
from iscam.reproduction.published import published_table


class Colours(nn.Module):
    """Three classes whose logits are 5 plus 4 times the image's mean red, green and blue."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return 5 + self.scale * self.layer(x).mean((2, 3))


def by_colour() -> iscam.Network:
    return iscam.Network(Colours(), "layer")


def probability(logits: list[float], target: int) -> float:
    return math.exp(logits[target]) / sum(map(math.exp, logits))


def two_halves() -> tuple[Tensor, Tensor, Tensor]:
    """An image, red above (1) and green below (1/2); a map that shows all of it; a map that shows the lower half."""
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0], image[0, 1, 1] = 1, 0.5
    return image, torch.ones(1, 2, 2), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])


# ------------------------------------------------------------------------------------- drop, increase and win as coded


def test_confidence_uses_the_masked_images_class():
    """Full image: logits 2, 1, 0, red. Masked image: logits 0, 1, 0, green: Y = e / (e² + e + 1), O = e / (e + 2)."""
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


def test_confidence_same_class_is_canonical():
    image, full, _ = two_halves()
    found = confidence(by_colour(), image, full)
    assert found.classes.tolist() == [0]
    assert float(found.original) == float(found.explained)
    assert_allclose(array(found.original), array(iscam.confidence(by_colour(), image, full)[0]))


def test_average_drop_is_a_sum():
    """The drops are 3/4, 0 and 1/2: the sum is 5/4, and the mean is 5/12."""
    original, explained = torch.tensor([0.8, 0.5, 0.6]), torch.tensor([0.2, 0.9, 0.3])
    assert float(average_drop(original, explained)) == pytest.approx(1.25)
    assert float(iscam.average_drop(original, explained).mean()) == pytest.approx(1.25 / 3)


def test_win_compares_points_of_own_classes():
    """a loses 30 - 20 = 10 points of its class and b loses 90 - 70 = 20 of another: a wins, but keeps less, 20 < 70."""
    a, b = (torch.tensor([0.3]), torch.tensor([0.2])), (torch.tensor([0.9]), torch.tensor([0.7]))
    assert win(*a, *b)
    assert not win(*b, *a)
    assert not win(*a, *a)
    assert not iscam.win(a[0], a[1], b[1])


# ---------------------------------------------------------------------------------------------------- insertion, energy


def test_first_point_zero():
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


def test_swapped_box_corners_are_widths_and_axes_swap():
    """Corners (2, 1) to (4, 3) are read as rows 2 to 2 + 4, columns 1 to 1 + 3, both ends included."""
    found = swapped_box(torch.tensor([2.0, 1, 4, 3]), 10, 8)
    rows, columns = found.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 1, 4)
    assert int(found.sum()) == 5 * 4
    assert not swapped_box(torch.tensor([12.0, 1, 20, 3]), 10, 8).any()  # beyond the image: nothing


def test_energy_counts_marked_pixels_in_the_first_box():
    """A map of 1 in the left half and .1 in the right of 16x16: rows 0 to 7, columns 0 to 3 hold 32 of 128 marked."""
    saliency_map = torch.full((16, 16), 0.1)
    saliency_map[:, :8] = 1
    boxes = torch.tensor([[0.0, 0, 7, 3], [0, 0, 16, 16]])
    assert energy(saliency_map, boxes) == pytest.approx(32 / 128)
    right = float(iscam.energy(saliency_map[None], [boxes[:1]]))  # columns 0 to 6, rows 0 to 2, of a mass of 128 + 12.8
    assert right == pytest.approx(21 / 140.8)
    assert math.isnan(energy(saliency_map, torch.empty(0, 4)))
    assert math.isnan(energy(torch.zeros(16, 16), boxes))


def test_energy_of_a_uniform_map_is_the_box_area():
    box = torch.tensor([[20.0, 30, 120, 100]])  # rows 20 to 140, columns 30 to 130
    assert energy(disc(None), box) == pytest.approx(121 * 101 / 224**2)


# --------------------------------------------------------------------------------------------------------------- boxes


def test_original_boxes_undo_the_stored_size(tmp_path):
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


def test_original_boxes_of_a_drawing_are_its_own():
    dataset = iscam.load_images("menagerie", count=1)
    boxes, size = original_boxes(dataset.entries[0], {})
    assert size == (224, 224)
    assert_allclose(boxes, dataset[0].boxes)
    assert_allclose(cropped_boxes(boxes, size), boxes)


def test_original_sizes_broken_file_is_an_error(tmp_path):
    (tmp_path / "original_sizes.csv").write_text("name,w\na,1\n")
    with pytest.raises(iscam.InputError, match="ImageId, width and height"):
        original_sizes(tmp_path)


# ------------------------------------------------------------------------------------------------------------- methods


def test_smooth_grad_cam_pp_agrees_with_the_reference():
    """Two noisy copies, each for its own top class; the clean image's A and g; exp(S) of the second copy."""
    case = pooled_case()
    record = forward_record(case.net, case.images[1])
    x = array(case.images[1])
    A = case.split.activations(x)
    g = case.split.gradient(x, record.target)
    g2, g3 = np.zeros_like(A), np.zeros_like(A)
    for n in range(2):
        noisy = x + 4 * array(iscam.rng.noise(case.images[1], 5, n))
        logits = case.split.logits(noisy)
        g_n = case.split.gradient(noisy, int(logits.argmax()))
        g2, g3 = g2 + g_n**2 / 2, g3 + g_n**3 / 2
    denominator = 2 * g2 + A.sum((1, 2), keepdims=True) * g3
    a = np.divide(g2, denominator, out=np.zeros_like(A), where=g2 > 0)  # a position without gradient has no weight
    expected = (a * np.maximum(0, math.exp(logits.max()) * g)).sum((1, 2))
    found = smooth_grad_cam_pp(record, samples=2, seed=5)
    assert_allclose(array(found), expected, rtol=2e-3, atol=1e-4 * abs(expected).max())


def test_smooth_grad_cam_pp_large_logits_do_not_overflow():
    case = pooled_case()
    record = forward_record(case.net, case.images[0])
    assert float(record.logits.detach().max()) < 80
    sharp = forward_record(case.net.at_temperature(1e-3), case.images[0], record.target)
    assert float(sharp.logits.detach().max()) > 80
    assert smooth_grad_cam_pp(sharp, samples=3).isfinite().all()


def test_explain_has_the_notebooks_settings(bias_free_case):
    case = bias_free_case
    options = {"is_cam": {"steps": 10}, "ss_cam": {"samples": 35}}
    for method, chosen in options.items():
        found = explain(case.net, case.images[:2], method)
        assert_allclose(
            array(found), array(iscam.explain(case.net, case.images[:2], None, method, **chosen)), atol=1e-6
        )
    assert explain(case.net, case.images, "smooth_grad_cam_pp").shape == (3, 20, 16)
    assert set(METHODS) <= set(iscam.METHODS)


# --------------------------------------------------------------------------------------------------- published numbers


def test_both_conventions_agree_with_their_functions(bias_free_case):
    case = bias_free_case
    net, images = case.net, case.images[:1]
    saliency_map = torch.rand(20, 16, generator=torch.Generator().manual_seed(0))
    boxes, original = torch.tensor([[2.0, 3, 9, 11]]), torch.tensor([[4.0, 6, 18, 22], [0, 0, 1, 1]])
    found = both_conventions(net, images[0], saliency_map, boxes, original, 20)
    target = net(images).argmax(1)
    Y, E = iscam.confidence(net, images, saliency_map[None], target)
    coded = confidence(net, images, saliency_map[None])
    appearing = iscam.insertion(net, images, saliency_map[None], target, 20)
    expected = {
        ("insertion", "canonical"): appearing.auc,
        ("insertion", "as coded"): appearing.auc - appearing.scores[0, 0] / (2 * 16),
        ("deletion", "canonical"): iscam.deletion(net, images, saliency_map[None], target, 20).auc,
        ("average_drop", "canonical"): iscam.average_drop(Y, E),
        ("average_increase", "as coded"): coded.original < coded.explained,
        ("O", "as coded"): coded.explained,
        ("energy", "canonical"): iscam.energy(saliency_map[None], [boxes]),
        ("energy", "mask only"): iscam.energy(marked(saliency_map)[None].float(), [boxes]),
        ("energy", "box only"): saliency_map[4:, 6:].sum() / saliency_map.sum(),
        ("energy", "as coded"): marked(saliency_map)[4:, 6:].sum() / marked(saliency_map).sum(),
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(float(value), abs=1e-6), key
    assert found["deletion", "as coded"] == found["deletion", "canonical"]
    without = both_conventions(net, images[0], saliency_map, torch.empty(0, 4), torch.empty(0, 4), 20)
    assert all(math.isnan(value) for (metric, _), value in without.items() if metric == "energy")


def test_bound_worked_example():
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


def test_bound_six_published_cells_break_it():
    found = bound(published_table("table2"))
    assert found[found["excess"] > 0]["model"].tolist() == ["vgg16"] * 3 + ["resnet18"] * 3
    assert found["factor"].max() == pytest.approx(79.15 / 48.70)


def test_bound_holds_for_either_class(bias_free_case):
    case = bias_free_case
    images = smooth_images(6, 20, 16, seed=3)
    maps = torch.rand(6, 20, 16, generator=torch.Generator().manual_seed(1))
    for Y, E in (iscam.confidence(case.net, images, maps), confidence(case.net, images, maps)[1:]):
        assert bool((iscam.average_drop(Y, E) + iscam.average_increase(Y, E) <= 1).all())


def test_class_rule_lowers_drop_and_raises_increase(bias_free_case):
    """Y_m <= Y_c and O_m >= O_c for the predicted class c and the masked image's top class m."""
    case = bias_free_case
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


def test_readings_of_equation_7():
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


def test_explain_method_without_settings_is_refused(bias_free_case):
    case = bias_free_case
    with pytest.raises(
        iscam.InputError, match="no settings for 'score_cam'; methods with settings: smooth_grad_cam_pp, ss_cam, is_cam"
    ):
        explain(case.net, case.images, "score_cam")


# --------------------------------------------------------------------------------------------------------------- audit


def small_audit(**more) -> Audit:
    settings = {"weights": {}, "data": "menagerie", "count": 2, "seed": 0, "pixels_per_step": 10_000}
    return Audit(**({"models": ["menagerie/resnet"], "methods": ["grad_cam", "smooth_grad_cam_pp"]} | settings | more))


def test_run_audit_has_both_settings_and_conventions():
    found = run_audit(small_audit(max_images={"grad_cam": 1}))
    counts = found.groupby(["method", "settings"])["image"].nunique().to_dict()
    assert counts == {
        ("grad_cam", "canonical"): 1,
        ("smooth_grad_cam_pp", "canonical"): 2,
        ("smooth_grad_cam_pp", "as coded"): 2,
    }
    assert {"canonical", "as coded", "mask only", "box only"} == set(found["convention"])
    assert found["value"].notna().all()
    assert class_rule_holds(found) and (largest_sums(found)["largest sum"] <= 1).all()


def test_run_audit_resumes_its_own_record_only(tmp_path):
    audit = small_audit(count=1, methods=["grad_cam"])
    first = run_audit(audit, str(tmp_path / "audit"))
    marked = first.assign(value=0.5)  # shows that the file is read and not computed again
    marked.to_parquet(tmp_path / "audit.parquet")
    assert (run_audit(audit, str(tmp_path / "audit"))["value"] == 0.5).all()
    with pytest.raises(iscam.InputError, match="choose another file"):
        run_audit(small_audit(count=1), str(tmp_path / "audit"))


def audit_rows(values: dict[tuple[str, str, str, str], list[float]], model: str = "net") -> pd.DataFrame:
    """Rows of an audit: (settings, method, metric, convention) -> one value per image."""
    keys = ["settings", "method", "metric", "convention"]
    return pd.concat(
        pd.DataFrame(dict(zip(keys, key, strict=True)) | {"model": model, "image": range(len(v)), "value": v})
        for key, v in values.items()
    )


def test_with_wins_worked_example():
    """Canonical: .5 > .4 wins. As coded: IS-CAM loses 40 points, Score-CAM 10, so IS-CAM does not win."""
    values = {"is_cam": {"Y": 0.9, "O": 0.5}, "score_cam": {"Y": 0.5, "O": 0.4}}
    frame = audit_rows(
        {
            ("canonical", method, key, convention): [value]
            for method, pair in values.items()
            for key, value in pair.items()
            for convention in ("canonical", "as coded")
        }
    )
    found = with_wins(frame).query("metric == 'win:score_cam'").set_index("convention")
    assert found["value"].to_dict() == {"canonical": 1, "as coded": 0}
    table = win_table(with_wins(frame))
    assert table.iloc[0].tolist() == ["net", "win over Score-CAM (%) ↑", 100, 0]


def test_with_both_settings_repeats_unchanged_methods():
    frame = audit_rows({("canonical", m, "energy", "canonical"): [0.5] for m in ("grad_cam", "is_cam")})
    found = with_both_settings(frame)
    assert sorted(zip(found["method"], found["settings"], strict=True)) == [
        ("grad_cam", "as coded"),
        ("grad_cam", "canonical"),
        ("is_cam", "canonical"),
    ]


def published_energy() -> pd.DataFrame:
    return pd.DataFrame({"model": "net", "method": ["grad_cam", "ss_cam"], "metric": "energy", "value": [40.0, 60.0]})


def test_distances_count_methods_on_all_images():
    """Grad-CAM has mean 50 (canonical) and 41 in [40, 42] (as coded). SS-CAM ran on one image and does not count."""
    frame = with_both_settings(
        audit_rows(
            {
                ("canonical", "grad_cam", "energy", "canonical"): [0.49, 0.51],
                ("canonical", "grad_cam", "energy", "as coded"): [0.40, 0.42],
                ("canonical", "ss_cam", "energy", "canonical"): [0.1],
            }
        )
    )
    found = distances(published_energy(), frame).iloc[0]
    assert found["canonical"] == "10.00 (0 of 1)" and found["metrics as coded"] == "1.00 (1 of 1)"
    beside = published_beside_variants(published_energy(), frame)
    assert beside["metrics as coded"].map(str).tolist() == ["41.00 (40.00 to 42.00)", "not run"]


def test_drop_factors_worked_example():
    """A published drop of 80 % where 40 % was measured leaves a factor of 2."""
    rows = [("net", "is_cam", "average_drop", 80.0), ("net", "is_cam", "average_increase", 60.0)]
    cells = pd.DataFrame(rows, columns=["model", "method", "metric", "value"])
    frame = audit_rows({("as coded", "is_cam", "average_drop", "as coded"): [0.3, 0.5]})
    found = drop_factors(bound(cells), cells, frame).iloc[0]
    assert found["factor, at least"] == 2 and found["factor measured"] == pytest.approx(2)
    assert found["images"] == "2" and found["as coded, mean (%)"] == pytest.approx(40)
    assert "factor measured" not in drop_factors(bound(cells), cells, frame[:0])


def test_blind_shares_of_a_uniform_map_are_the_boxes_shares():
    shares = blind_shares("menagerie", 2, 0)
    uniform = shares.query("method == 'uniform'").set_index(["model", "image"])["value"]
    for number, item in enumerate(iscam.load_images("menagerie", 2, 0)):
        ones = torch.ones(1, 224, 224)
        assert uniform["object's box", number] == pytest.approx(float(iscam.energy(ones, [item.boxes])))
        assert uniform["box as coded", number] == pytest.approx(energy(ones[0], item.boxes))
