"""The registry of metrics: names and arguments, entries, and values computed through `MetricInputs`."""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import iscam
from helpers.errors import refused
from helpers.images import smooth_images
from helpers.networks import pooled
from iscam.metrics import METRICS, ImageBatch, Metric, MetricInputs, Need, parse_metric

NAMES = (
    *("insertion", "deletion", "average_drop", "average_increase", "average_gain", "explained_confidence", "win"),
    *("complexity", "coherency", "adcc", "energy", "part_correlation", "decisive_part", "mask_energy", "pointing_game"),
)


class Counting(nn.Module):
    """A model that counts the images of its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.images = pooled(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.model(x)


class Explainer:
    """Grad-CAM of fixed classes; it counts its calls."""

    def __init__(self, net: iscam.Network, targets: Tensor) -> None:
        self.net, self.targets, self.calls = net, targets, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        return iscam.explain(self.net, images, self.targets, "grad_cam")


BOXES = [torch.tensor([[2.0, 2, 20, 20]]), torch.tensor([[0.0, 5, 31, 25]])]


def batch_of(net: iscam.Network, **annotations) -> ImageBatch:
    return ImageBatch(net, smooth_images(2, 25, 31), torch.tensor([2, 3]), **annotations)


def inputs_of(net: iscam.Network, method: str = "grad_cam") -> MetricInputs:
    masks = torch.zeros(2, 25, 31, dtype=torch.bool)
    masks[:, 5:, 5:] = True
    batch = batch_of(net, boxes=BOXES, masks=masks)
    explain = Explainer(net, batch.targets)
    return MetricInputs(batch, explain(batch.images), method, explain)


@pytest.fixture
def net() -> iscam.Network:
    return iscam.Network(Counting(), "model.last")


# ------------------------------------------------------------------------------------------------ names and arguments


def test_registry_has_the_known_names_in_order():
    assert tuple(METRICS) == NAMES
    assert iscam.METRICS is METRICS


ARGUMENTS = ("insertion:zeros", "insertion:blur", "average_drop:half", "average_increase:half", "energy:single")


@pytest.mark.parametrize("text", [*NAMES[:6], *NAMES[7:], *ARGUMENTS, "win:score_cam"])
def test_parse_metric_reads_name_and_argument(text):
    call = parse_metric(text)
    assert (call.name, call.argument) == tuple(f"{text}:".split(":")[:2])
    assert call.metric is METRICS[call.name]
    assert str(call) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enrgy", ("enrgy", "energy", "insertion")),
        ("", ("insertion",)),
        ("insertion:black", ("insertion:black", "insertion, insertion:zeros, insertion:blur")),
        ("insertion:", ("insertion, insertion:zeros",)),
        ("energy:zeros", ("energy:zeros", "energy, energy:single")),
        ("average_drop:0.5", ("average_drop:0.5", "average_drop, average_drop:half")),
        ("average_gain:half", ("average_gain:half",)),
        ("win", ("win:score_cam",)),
        ("win:", ("win:score_cam",)),
        ("win:cam", ("win:cam", "win:a, win:b")),
        (None, ("name", "None")),
        (["win"], ("name",)),
    ],
)
def test_parse_metric_of_a_wrong_text_lists_valid_ones(text, words):
    with refused("metric", *words):
        parse_metric(text, methods=("a", "b") if text == "win:cam" else None)


def test_parse_metric_accepts_any_method_of_the_study():
    assert parse_metric("win:b", methods={"a": {}, "b": {}}).argument == "b"
    assert parse_metric("win:a:b", methods=["a:b"]).argument == "a:b"


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_readers_need(name):
    metric = METRICS[name]
    assert metric.title
    assert metric.heading.endswith({"higher": "(%) ↑", "lower": "(%) ↓"}[metric.better])
    assert (metric.passes == 225) == metric.curve == (name in ("insertion", "deletion"))


def test_entry_with_an_unknown_direction_is_refused():
    with refused("better", "higher, lower"):
        Metric(lambda inputs: inputs.maps.mean((1, 2)), "mean", "mean (%) ↑", "up")


def test_own_metric_is_found_and_computed(monkeypatch):
    monkeypatch.setitem(
        METRICS, "peak", Metric(lambda inputs: inputs.maps.amax((1, 2)), "peak", "peak (%) ↑", "higher")
    )
    inputs = MetricInputs(batch_of(iscam.Network(pooled(), "last")), torch.full((2, 25, 31), 0.25))
    assert parse_metric("peak").compute(inputs).tolist() == [0.25, 0.25]


def test_entries_of_lower_is_better_are_three():
    assert [name for name in NAMES if METRICS[name].better == "lower"] == ["deletion", "average_drop", "complexity"]


@pytest.mark.parametrize("name", ["confidence", "adcc", "curves", "localisation", "ground_truth", "registry"])
def test_module_of_metrics_is_not_hidden_by_a_function(name):
    module = importlib.import_module(f"iscam.metrics.{name}")
    assert isinstance(module, ModuleType)
    assert getattr(iscam.metrics, name) is module


# --------------------------------------------------------------------------------------------------------------- values


def test_values_equal_those_of_the_functions(net):
    inputs = inputs_of(net)
    net, images, targets, maps = net, inputs.batch.images, inputs.batch.targets, inputs.maps
    y, o = iscam.confidence(net, images, maps, targets)
    _, half = iscam.confidence(net, images, maps, targets, keep=0.5)
    again = iscam.explain(net, images * maps[:, None], targets, "grad_cam")
    expected = {
        "insertion": iscam.insertion(net, images, maps, targets).auc,
        "insertion:blur": iscam.insertion(net, images, maps, targets, start="blur").auc,
        "deletion": iscam.deletion(net, images, maps, targets).auc,
        "average_drop": iscam.average_drop(y, o),
        "average_drop:half": iscam.average_drop(y, half),
        "average_increase": iscam.average_increase(y, o),
        "average_increase:half": iscam.average_increase(y, half),
        "average_gain": iscam.average_gain(y, o),
        "explained_confidence": o,
        "complexity": iscam.complexity(maps),
        "coherency": iscam.coherency(maps, again),
        "adcc": iscam.adcc(y, o, maps, again),
        "energy": iscam.energy(maps, BOXES),
        "energy:single": iscam.energy(maps, BOXES, single=True),
        "mask_energy": iscam.energy(maps, inputs.masks),
        "pointing_game": iscam.pointing_game(maps, BOXES).float(),
    }
    for text, values in expected.items():
        torch.testing.assert_close(parse_metric(text).compute(inputs), values, rtol=0, atol=0, equal_nan=True, msg=text)
    assert not torch.equal(expected["insertion"], expected["insertion:blur"])
    assert not torch.equal(half, o)
    assert expected["energy:single"].isnan().tolist() == [False, True]  # the second box covers 80 % of the image


def test_values_of_ground_truth_metrics_equal_the_functions():
    net, item = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=1, seed=1)[0]
    drawing = item.drawing
    batch = ImageBatch(net, item.image[None], torch.tensor([item.target]), drawings=[drawing])
    inputs = MetricInputs(batch, torch.rand(1, 224, 224, generator=torch.Generator().manual_seed(0)))
    importances = [iscam.part_importance(net, drawing.species, drawing.seed)]
    for name in ("part_correlation", "decisive_part"):
        expected = getattr(iscam, name)(inputs.maps, [drawing], importances)
        torch.testing.assert_close(parse_metric(name).compute(inputs), expected, equal_nan=True)


def test_probabilities_are_computed_once_for_all_metrics(net):
    inputs = inputs_of(net)
    before = net.model.images
    for name in ("average_drop", "average_increase", "average_gain", "explained_confidence"):
        parse_metric(name).compute(inputs)
    assert net.model.images - before == 4  # two images, each with and without its mask
    for name in ("average_drop:half", "average_increase:half"):
        parse_metric(name).compute(inputs)
    assert net.model.images - before == 6  # two images with the upper half of their masks


def test_probabilities_of_images_are_shared_by_methods(net):
    first = inputs_of(net)
    second = MetricInputs(first.batch, 1 - first.maps, "inverted")
    parse_metric("average_drop").compute(first)
    before = net.model.images
    parse_metric("average_drop").compute(second)
    assert net.model.images - before == 2


def test_maps_again_are_computed_once(net):
    inputs = inputs_of(net)
    before = inputs.explain.calls
    for name in ("complexity", "coherency", "adcc"):
        parse_metric(name).compute(inputs)
    assert inputs.explain.calls - before == 1


def test_win_compares_with_the_named_method(net):
    first = inputs_of(net)
    ones = MetricInputs(first.batch, torch.ones_like(first.maps), "identity")
    inputs = {"grad_cam": first, "identity": ones}
    first, ones = (MetricInputs(each.batch, each.maps, name, others=inputs) for name, each in inputs.items())
    expected = first.explained > ones.explained
    assert parse_metric("win:identity").compute(first).tolist() == expected.tolist()
    assert parse_metric("win:grad_cam").compute(ones).tolist() == (ones.explained > first.explained).tolist()


def test_win_over_the_method_itself_is_nan_with_a_reason(net):
    inputs = inputs_of(net, "is_cam")
    assert parse_metric("win:is_cam").compute(inputs).isnan().all()
    assert METRICS["win"].undefined


def test_win_over_a_method_without_a_map_is_refused(net):
    with refused("score_cam", "map"):
        parse_metric("win:score_cam").compute(inputs_of(net))


def test_pointing_game_without_a_box_is_nan():
    maps = torch.rand(2, 25, 31)
    batch = batch_of(iscam.Network(pooled(), "last"), boxes=[torch.empty(0, 4), torch.tensor([[0, 0, 31, 25]])])
    found = parse_metric("pointing_game").compute(MetricInputs(batch, maps))
    assert math.isnan(found[0])
    assert found[1] == 1


def test_reason_of_an_undefined_value_may_depend_on_the_argument():
    assert "no box" in parse_metric("energy").undefined
    assert "exactly one box" in parse_metric("energy:single").undefined
    assert parse_metric("win:cam").undefined == METRICS["win"].undefined
    assert parse_metric("insertion:blur").undefined == ""
    assert all(set(metric.undefined_with) <= set(metric.arguments) for metric in METRICS.values())


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("energy", "boxes"),
        ("energy:single", "boxes"),
        ("pointing_game", "boxes"),
        ("mask_energy", "masks"),
        ("part_correlation", "drawings"),
        ("decisive_part", "drawings"),
        ("coherency", "explain"),
        ("adcc", "explain"),
    ],
)
def test_value_without_its_annotation_is_refused(net, name, word):
    assert parse_metric(name).metric.needs
    with refused(word):
        parse_metric(name).compute(MetricInputs(batch_of(net), torch.rand(2, 25, 31)))


def test_needs_name_what_is_expensive_or_may_be_missing():
    needing = {need: {name for name, metric in METRICS.items() if need in metric.needs} for need in Need}
    assert needing[Need.MAPS_AGAIN] == {"coherency", "adcc"}
    assert needing[Need.DRAWING] == {"part_correlation", "decisive_part"}
    assert needing[Need.BOXES] == {"energy", "pointing_game"}
    assert needing[Need.MASKS] == {"mask_energy"}
    assert needing[Need.OTHER_METHOD] == {"win"}
