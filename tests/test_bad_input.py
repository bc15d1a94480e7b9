"""Every bad input is an `InputError` of one line that says what is wrong, and never a wrong map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import iscam
from helpers.errors import refused
from helpers.images import smooth_images
from helpers.networks import Case, bias_free, bias_free_case, pooled


@pytest.fixture(scope="module")
def small() -> Case:
    return bias_free_case()


def test_an_input_error_is_a_value_error():
    assert issubclass(iscam.InputError, ValueError)


# --------------------------------------------------------------------------------------------------------- the images


def with_bad(value: float, where: tuple) -> Tensor:
    images = smooth_images(3, 20, 16)
    images[where] = value
    return images


IMAGES = {
    "no images": (torch.zeros(0, 3, 20, 16), "at least one"),
    "rank 3": (torch.zeros(3, 20, 16), "(3, 20, 16)"),
    "rank 5": (torch.zeros(1, 1, 3, 20, 16), "height"),
    "no pixels": (torch.zeros(1, 3, 0, 16), "(1, 3, 0, 16)"),
    "numpy": (np.zeros((1, 3, 20, 16), np.float32), "ndarray"),
    "list": ([torch.zeros(3, 20, 16)], "list"),
    "None": (None, "NoneType"),
    "bytes": (torch.zeros(1, 3, 20, 16, dtype=torch.uint8), "uint8"),
    "one NaN": (with_bad(float("nan"), (1, 2, 3, 4)), "[1]"),
    "all NaN": (torch.full((1, 3, 20, 16), float("nan")), "NaN"),
    "infinite": (with_bad(float("inf"), (0, 0, 0, 0)), "[0]"),
    "another device": (torch.zeros(1, 3, 20, 16, device="meta"), "meta"),
    "sparse": (torch.rand(1, 3, 20, 16).to_sparse(), "sparse"),
    "nested": (torch.nested.nested_tensor([torch.rand(3, 20, 16)], layout=torch.jagged), "nested"),
    "mkldnn": (torch.rand(1, 3, 20, 16).to_mkldnn(), "mkldnn"),
    "8-bit floats": (torch.rand(1, 3, 20, 16).to(torch.float8_e4m3fn), "float8"),
    "complex": (torch.rand(1, 3, 20, 16).to(torch.complex64), "complex64"),
}
TAKERS = ["grad_cam", "is_cam", "identity", "random", "insertion", "deletion", "confidence"]


def take(name: str, net: iscam.Network, images, targets=None) -> object:
    if name in ("insertion", "deletion", "confidence"):
        return getattr(iscam, name)(net, images, torch.ones(3, 20, 16), targets)
    return iscam.explain(net, images, targets, name)


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("kind", IMAGES)
def test_images(small, kind, name):
    images, word = IMAGES[kind]
    with refused(word):
        take(name, small.net, images)


@pytest.mark.parametrize("name", TAKERS)
def test_model_on_another_device_is_refused(small, name):
    with refused("meta", "cpu"):
        take(name, iscam.Network(bias_free().to("meta"), "features"), small.images)


TARGETS = {
    "too large": (torch.tensor([0, 5, 1]), "0 to 4"),
    "far too large": (torch.tensor([0, 10**12, 1]), "0 to 4"),
    "negative": (torch.tensor([0, -1, 1]), "-1"),
    "floating": (torch.tensor([0.0, 1.0, 2.0]), "float32"),
    "bool": (torch.tensor([True, False, True]), "bool"),
    "too few": (torch.tensor([0, 1]), "3"),
    "too many": (torch.tensor([0, 1, 2, 3]), "3"),
    "a scalar": (torch.tensor(1), "3"),
    "a bool": (True, "3"),
    "rank 2": (torch.tensor([[0, 1, 2]]), "(1, 3)"),
    "names": (["cat", "dog", "cow"], "integers"),
    "a hole": ([0, None, 1], "integers"),
}


@pytest.mark.parametrize("name", [each for each in TAKERS if each != "random"])
@pytest.mark.parametrize("kind", TARGETS)
def test_targets(small, kind, name):
    targets, word = TARGETS[kind]
    with refused("target", word):
        take(name, small.net, small.images, targets)


# -------------------------------------------------------------------------------------------------- methods and options


@pytest.mark.parametrize("method", ["iscam", "IS_CAM", "", "score-cam", None, 3])
def test_unknown_methods_list_the_valid_ones(small, method):
    with refused("method", *iscam.METHODS, *iscam.CONTROLS):
        iscam.explain(small.net, small.images, method=method)


OPTIONS = [
    ("is_cam", {"steps": 0}, "steps"),
    ("is_cam", {"steps": 1.5}, "steps"),
    ("is_cam", {"steps": -3}, "steps"),
    ("is_cam", {"steps": "10"}, "steps"),
    ("is_cam", {"steps": True}, "steps"),
    ("is_cam", {"steps": None}, "steps"),
    ("is_cam", {"steps": 1_000_001}, "steps must be an integer from 1 to 1,000,000"),
    ("is_cam", {"steps": 1_000_000, "nodes": 1001}, "nodes must be an integer from 1 to 1,000"),
    ("is_cam", {"steps": 1001, "schedule": "integral"}, "steps of the schedule 'integral'"),
    ("ss_cam", {"samples": 1_000_001}, "samples"),
    ("smooth_grad_cam_pp", {"samples": 1_000_001}, "samples"),
    ("is_cam", {"steps": 5, "nodes": 6}, "nodes"),
    ("is_cam", {"nodes": 0}, "nodes"),
    ("is_cam", {"nodes": 1.5}, "nodes"),
    ("is_cam", {"nodes": 0, "schedule": "integral"}, "nodes"),
    ("is_cam", {"schedule": "quadratic"}, "cumulative, linear, integral"),
    ("is_cam", {"schedule": ""}, "cumulative, linear, integral"),
    ("is_cam", {"schedule": []}, "schedule"),
    ("is_cam", {"schedule": None}, "schedule"),
    ("is_cam", {"schedule": 3}, "schedule"),
    ("is_cam", {"schedule": [0.5, "a"]}, "schedule"),
    ("is_cam", {"schedule": [0.5, float("nan")]}, "schedule"),
    ("is_cam", {"schedule": [-0.5]}, "schedule"),
    ("is_cam", {"schedule": [0.5, 1], "nodes": 1}, "nodes"),
    ("ss_cam", {"sigma": -1}, "sigma"),
    ("ss_cam", {"sigma": float("nan")}, "sigma"),
    ("ss_cam", {"sigma": float("inf")}, "sigma"),
    ("ss_cam", {"sigma": "2"}, "sigma"),
    ("ss_cam", {"samples": 0}, "samples"),
    ("ss_cam", {"seed": -1}, "seed"),
    ("ss_cam", {"seed": 0.5}, "seed"),
    ("smooth_grad_cam_pp", {"samples": 0}, "samples"),
    ("smooth_grad_cam_pp", {"sigma": -0.1}, "sigma"),
    ("smooth_grad_cam_pp", {"seed": -1}, "seed"),
    ("random", {"seed": -1}, "seed"),
    ("ablation_cam", {"score": "odds"}, "probability, logit"),
    ("ablation_cam", {"batch_size": 0}, "batch_size"),
    ("score_cam_pp", {"baseline": "ones"}, "baseline must be one of None, zeros"),
    ("score_cam_pp", {"precision": "fp16"}, "fp32, bf16"),
    ("opti_cam", {"steps": 0}, "steps must be an integer from 1 to 1,000,000"),
    ("opti_cam", {"learning_rate": -1}, "learning_rate must be a number of at least 0"),
    ("recipro_cam", {"gaussian": 1}, "gaussian must be one of False, True"),
    ("recipro_cam", {"score": "odds"}, "probability, logit"),
    ("recipro_cam", {"batch_size": 0}, "batch_size"),
    ("saliency", {"colours": "max"}, "max_abs, sum_abs, abs_sum, positive_sum"),
    ("guided_backprop", {"colours": None}, "max_abs, sum_abs, abs_sum, positive_sum"),
    ("smoothgrad", {"colours": 3}, "colours"),
    ("smoothgrad", {"samples": 0}, "samples"),
    ("smoothgrad", {"sigma": -0.1}, "sigma"),
    ("integrated_gradients", {"steps": 0}, "steps must be an integer from 1 to 1,000"),
    ("integrated_gradients", {"steps": 1001}, "steps must be an integer from 1 to 1,000"),
    ("integrated_gradients", {"colours": "sum"}, "positive_sum"),
    ("rise", {"masks": 0}, "masks must be an integer from 1 to 1,000,000"),
    ("rise", {"cells": 0}, "cells"),
    ("rise", {"keep": 0}, "keep must be a number between 0 and 1"),
    ("rise", {"keep": 1}, "keep must be a number between 0 and 1"),
    ("rise", {"keep": "half"}, "keep"),
    ("rise", {"seed": -1}, "seed"),
    ("rise", {"batch_size": 0}, "batch_size"),
    ("rise", {"score": "odds"}, "probability, logit"),
    ("mask", {"iterations": 0}, "iterations"),
    ("mask", {"l1": -1}, "l1"),
    ("mask", {"tv": float("nan")}, "tv"),
    ("mask", {"seed": 0.5}, "seed"),
    *[
        (method, option, word)
        for method in ("score_cam", "ss_cam", "is_cam")
        for option, word in [
            ({"batch_size": 0}, "batch_size"),
            ({"batch_size": 2.5}, "batch_size"),
            ({"batch_size": "all"}, "batch_size"),
            ({"precision": "fp16"}, "fp32, bf16"),
            ({"score": "odds"}, "probability, logit"),
            ({"baseline": "ones"}, "zeros"),
            ({"normalise": "twice"}, "upsampled, layer"),
            ({"compile": "yes"}, "compile"),
            ({"channels": 0}, "channels must be an integer of at least 1"),
            ({"channels": 2.5}, "channels"),
            ({"channel_softmax": "maybe"}, "channel_softmax must be one of False, True, not 'maybe'"),
        ]
    ],
]


@pytest.mark.parametrize(("method", "options", "word"), OPTIONS, ids=str)
def test_values_of_options(small, method, options, word):
    with refused(word):
        iscam.explain(small.net, small.images, small.targets, method, **options)


@pytest.mark.parametrize("options", [{"steps": 1_000_000}, {"steps": 1_000_000, "nodes": 10, "schedule": "integral"}])
def test_many_steps_are_accepted(options):
    iscam.METHODS["is_cam"].parse(options)


UNKNOWN = {
    "cam": ["none"],
    "grad_cam": ["none"],
    "identity": ["none"],
    "random": ["seed"],
    "smooth_grad_cam_pp": ["samples", "sigma", "seed"],
    "score_cam": [
        "score",
        "channel_softmax",
        "baseline",
        "normalise",
        "channels",
        "precision",
        "compile",
        "batch_size",
    ],
    "ss_cam": ["samples", "sigma", "seed", "score", "batch_size"],
    "is_cam": ["steps", "schedule", "nodes", "score", "batch_size"],
    "ablation_cam": ["score", "batch_size"],
    "score_cam_pp": ["score", "precision", "compile", "batch_size", "baseline"],
    "opti_cam": ["steps", "learning_rate"],
    "recipro_cam": ["score", "batch_size", "gaussian"],
    "saliency": ["colours"],
    "guided_backprop": ["colours"],
    "smoothgrad": ["samples", "sigma", "seed", "colours"],
    "integrated_gradients": ["steps", "colours"],
    "rise": ["masks", "cells", "keep", "seed", "score", "batch_size"],
    "mask": ["iterations", "l1", "tv", "seed"],
}


@pytest.mark.parametrize("method", UNKNOWN)
def test_unknown_options_list_the_valid_ones(small, method):
    with refused("samplez", method, *UNKNOWN[method]):
        iscam.explain(small.net, small.images, method=method, samplez=3)


# ---------------------------------------------------------------------------------------------------------- the network


class Chain(nn.Module):
    """A convolution, a module with an unusual output, and a head that takes any output."""

    def __init__(self, odd: nn.Module):
        super().__init__()
        self.first, self.odd, self.unused, self.head = nn.Conv2d(3, 4, 3), odd, nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.odd(self.first(x))
        a = a[0] if isinstance(a, tuple) else a
        return self.head(a.reshape(len(x), 4, -1).mean(2))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize("layer", ["layer9", "", "first.conv", "odd.", 4, ["last"], nn.ReLU()])
def test_unknown_layer_lists_valid_layers(layer):
    with refused("layer", "first.0, first.1", "last, relu"):
        iscam.Network(pooled(), layer)


def test_unknown_layer_of_a_model_that_fails_lists_all():
    with refused("layer", "0, 1"):
        iscam.Network(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "conv")


@pytest.mark.parametrize("model", [lambda x: x, "resnet18", None])
def test_model_that_is_no_module_is_refused(model):
    with refused("model"):
        iscam.Network(model, "layer")


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_traced_model_is_refused(small):
    traced = torch.jit.trace(small.net.model, small.images)
    with refused("scripted or traced"):
        iscam.Network(traced, "features")


def test_things_that_are_no_network_study_or_source(small):
    with refused("iscam.Network"):
        iscam.explain("resnet18", small.images)
    with refused("iscam.Network"):
        iscam.insertion("resnet18", small.images, torch.ones(3, 20, 16))
    with refused("iscam.Study"):
        iscam.run_study({"count": 1})
    with refused("source"):
        iscam.load_images(None)


@pytest.mark.parametrize("method", ["grad_cam", "score_cam", "identity"])
def test_layer_that_does_not_run_is_refused(method):
    with refused("unused", "did not run", "first"):
        iscam.explain(iscam.Network(Chain(nn.Identity()), "unused"), smooth_images(1, 9, 8), method=method)


@pytest.mark.parametrize(
    ("odd", "word"), [(nn.Flatten(), "(1, 168)"), (nn.Flatten(2), "(1, 4, 42)"), (Pair(), "tuple")]
)
@pytest.mark.parametrize("method", ["grad_cam", "score_cam", "identity"])
def test_layer_whose_output_is_no_image_is_refused(method, odd, word):
    with refused("odd", word):
        iscam.explain(iscam.Network(Chain(odd), "odd"), smooth_images(1, 9, 8), method=method)


class Answer(nn.Module):
    """A convolution, and an output computed from its mean."""

    def __init__(self, answer):
        super().__init__()
        self.layer, self.answer = nn.Conv2d(3, 4, 3), answer

    def forward(self, x: Tensor) -> object:
        return self.answer(self.layer(x).mean((2, 3)), x)


ANSWERS = {
    "NaN": (lambda s, x: s * float("nan"), "NaN"),
    "one infinity": (lambda s, x: s.index_fill(1, torch.tensor([2]), float("inf")), "infinite"),
    "a tuple": (lambda s, x: (s, s), "tuple"),
    "a dictionary": (lambda s, x: {"scores": s}, "dict with keys 'scores'"),
    "rank 1": (lambda s, x: s.mean(1), "probability='sigmoid'"),
    "rank 4": (lambda s, x: s[:, :, None, None], "logits"),
    "another batch": (lambda s, x: torch.cat([s, s]), "logits"),
}


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("kind", ANSWERS)
def test_model_without_logits_is_refused(kind, name):
    answer, word = ANSWERS[kind]
    with refused(word):
        take(name, iscam.Network(Answer(answer), "layer"), smooth_images(3, 20, 16))


@pytest.mark.parametrize("images", [torch.zeros(3, 1, 20, 16), torch.zeros(3, 3, 20, 2)], ids=["grey", "too small"])
@pytest.mark.parametrize("name", ["grad_cam", "is_cam", "identity", "confidence"])
def test_error_of_the_model_is_kept_in_the_message(name, images):
    """The message has the model's own words, and the error is the cause."""
    net, maps = iscam.Network(pooled(), "last"), torch.ones_like(images[:, 0])
    with pytest.raises(RuntimeError) as own:
        net.model(images[:1])
    with pytest.raises(iscam.InputError) as found:
        iscam.confidence(net, images, maps) if name == "confidence" else iscam.explain(net, images, method=name)
    assert str(own.value) in str(found.value)
    assert str((1, *images.shape[1:])) in str(found.value)
    assert isinstance(found.value.__cause__, RuntimeError)


@pytest.mark.parametrize("metric", [iscam.insertion, iscam.deletion, iscam.confidence])
def test_error_of_the_model_in_a_metric_is_refused(metric):
    net, images = iscam.Network(pooled(), "last"), torch.zeros(3, 1, 20, 16)
    with refused("the model fails on images", "1, 20, 16)"):
        metric(net, images, torch.ones_like(images[:, 0]), torch.tensor([0, 1, 2]))


def test_out_of_memory_is_not_bad_input(small):
    def forward(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    small.net.model.forward = forward
    with pytest.raises(torch.OutOfMemoryError):
        iscam.explain(iscam.Network(small.net.model, "features"), small.images)


@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
def test_softmax_of_a_single_score_is_refused(method):
    net, images = iscam.Network(Answer(lambda s, x: s[:, :1]), "layer"), smooth_images(1, 20, 16)
    with refused("one score per image", "probability='sigmoid'"):
        iscam.explain(net, images, method=method)


@pytest.mark.parametrize("name", ["score_cam", "is_cam", "ss_cam", "confidence", "insertion", "deletion"])
def test_nan_of_masked_images_is_refused(name):
    """Masked images have pixels near 0, and the images themselves have none."""
    model = Answer(lambda s, x: torch.where((x.abs() < 1e-2).any().expand_as(s), float("nan"), s))
    images = torch.rand(3, 3, 20, 16) + 0.5
    net = iscam.Network(model, "layer")
    assert net(images).isfinite().all()
    with refused("NaN"):
        if name == "confidence":
            iscam.confidence(net, images, torch.zeros(3, 20, 16))
        else:
            take(name, net, images)


# ---------------------------------------------------------------------------------------------------------- the metrics

MAPS = {
    "numpy": (np.ones((3, 20, 16), np.float32), "ndarray"),
    "rank 2": (torch.ones(20, 16), "(3, 20, 16)"),
    "rank 4": (torch.ones(3, 1, 20, 16), "(3, 20, 16)"),
    "too few": (torch.ones(2, 20, 16), "(3, 20, 16)"),
    "another size": (torch.ones(3, 16, 20), "(3, 20, 16)"),
    "NaN": (torch.full((3, 20, 16), float("nan")), "NaN"),
}


@pytest.mark.parametrize("metric", ["insertion", "deletion", "confidence"])
@pytest.mark.parametrize("kind", MAPS)
def test_maps_of_another_shape_or_type_are_refused(small, kind, metric):
    maps, word = MAPS[kind]
    with refused("maps", word):
        getattr(iscam, metric)(small.net, small.images, maps, small.targets)


OUT_OF_RANGE = [3 * torch.ones(3, 20, 16), -torch.ones(3, 20, 16), torch.full((3, 20, 16), 255, dtype=torch.uint8)]


@pytest.mark.parametrize("maps", OUT_OF_RANGE, ids=["large", "negative", "0 to 255"])
def test_metrics_of_maps_outside_the_unit_range_are_refused(small, maps):
    shares = torch.rand(3)
    with refused("maps", "[0, 1]"):
        iscam.confidence(small.net, small.images, maps, small.targets)
    with refused("maps", "[0, 1]"):
        iscam.complexity(maps)
    with refused("maps", "[0, 1]"):
        iscam.adcc(shares, shares, maps, torch.rand(3, 20, 16))


BATCHES = {
    "numpy": (np.ones((3, 20, 16), np.float32), "torch.from_numpy"),
    "list": ([[[0.5]]], "list"),
    "rank 2": (torch.rand(20, 16), "(20, 16)"),
    "rank 4": (torch.rand(3, 1, 20, 16), "(3, 1, 20, 16)"),
    "no maps": (torch.rand(0, 20, 16), "(0, 20, 16)"),
    "NaN": (torch.full((3, 20, 16), float("nan")), "NaN"),
    "sparse": (torch.rand(3, 20, 16).to_sparse(), "sparse"),
    "complex": (torch.rand(3, 20, 16) + 1j, "complex"),
    "8-bit floats": (torch.rand(3, 20, 16).to(torch.float8_e4m3fn), "float8"),
    "meta": (torch.rand(3, 20, 16, device="meta"), "meta"),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_map_metrics_of_other_tensors_are_refused(kind):
    maps, word = BATCHES[kind]
    shares, valid = torch.rand(3), torch.rand(3, 20, 16)
    boxes = [torch.tensor([[0, 0, 9, 9]])] * 3
    for metric, arguments in (
        (iscam.complexity, (maps,)),
        (iscam.coherency, (maps, valid)),
        (iscam.coherency, (valid, maps)),
        (iscam.adcc, (shares, shares, maps, valid)),
        (iscam.adcc, (shares, shares, valid, maps)),
        (iscam.energy, (maps, boxes)),
        (iscam.pointing_game, (maps, boxes)),
        (iscam.part_correlation, (maps, [None] * 3, [None] * 3)),
    ):
        with refused("maps", word):
            metric(*arguments)


@pytest.mark.parametrize("metric", ["insertion", "deletion", "confidence"])
@pytest.mark.parametrize("kind", ["sparse", "complex", "8-bit floats", "meta"])
def test_maps_of_an_unusual_kind_are_refused(small, kind, metric):
    maps, word = BATCHES[kind]
    with refused("maps", word):
        getattr(iscam, metric)(small.net, small.images, maps, small.targets)


def test_coherency_of_maps_of_two_shapes_is_refused():
    with refused("same shape", "(3, 20, 16)", "(3, 16, 20)"):
        iscam.coherency(torch.rand(3, 20, 16), torch.rand(3, 16, 20))


def test_adcc_of_another_number_of_probabilities_is_refused():
    maps = torch.rand(3, 20, 16)
    with refused("per map", "3", "(1,)"):
        iscam.adcc(torch.rand(1), torch.rand(1), maps, maps)


PROBABILITIES = {
    "NaN": ([torch.tensor([float("nan")]), torch.tensor([0.5])], "[0, 1]"),
    "logits": ([torch.tensor([0.5]), torch.tensor([-3.0])], "[0, 1]"),
    "another shape": ([torch.rand(4), torch.rand(4, 1)], "(4, 1)"),
    "one for two": ([torch.rand(2), torch.rand(1)], "(1,)"),
    "lists": ([[0.5], [0.4]], "tensors"),
}


@pytest.mark.parametrize("metric", ["average_drop", "average_increase", "average_gain", "win"])
@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_that_are_none_are_refused(kind, metric):
    (original, explained), word = PROBABILITIES[kind]
    with refused("probabilities", word):
        getattr(iscam, metric)(original, explained, *[explained] * (metric == "win"))


@pytest.mark.parametrize("step", [0, -1, 2.5, "224", None, True])
def test_curves_with_a_wrong_step_are_refused(small, step):
    for metric in (iscam.insertion, iscam.deletion):
        with refused("pixels_per_step"):
            metric(small.net, small.images, torch.ones(3, 20, 16), small.targets, pixels_per_step=step)


@pytest.mark.parametrize("start", ["black", None, 0, torch.zeros(3, 20, 16)], ids=lambda x: type(x).__name__)
def test_curves_from_an_unknown_start_are_refused(small, start):
    with refused("start", "zeros, blur"):
        iscam.insertion(small.net, small.images, torch.ones(3, 20, 16), small.targets, start=start)


@pytest.mark.parametrize("value", [1, "auto", None])
def test_curves_with_another_compile_flag_are_refused(small, value):
    for metric in (iscam.insertion, iscam.deletion):
        with refused("compile", "False, True"):
            metric(small.net, small.images, torch.ones(3, 20, 16), small.targets, compile=value)


def test_blur_of_an_image_smaller_than_its_kernel_is_refused():
    net = iscam.Network(Answer(lambda s, x: s), "layer")
    with refused("blur", "6x6", "(5, 5)", "zeros"):
        iscam.insertion(net, torch.rand(1, 3, 5, 5), torch.rand(1, 5, 5), start="blur")


BOXES = {
    "to the right": (torch.tensor([[40.0, 0, 50, 4]]), "outside"),
    "above": (torch.tensor([[0.0, -4, 4, 0]]), "outside"),
    "empty": (torch.tensor([[1.0, 1, 1, 4]]), "empty"),
    "swapped": (torch.tensor([[4.0, 1, 1, 4]]), "empty"),
    "NaN": (torch.tensor([[float("nan"), 1, 2, 4]]), "nan"),
    "one of two": (torch.tensor([[0.0, 0, 2, 2], [39, 39, 42, 42]]), "outside"),
    "three numbers": (torch.tensor([[0.0, 0, 2]]), "(1, 3)"),
    "one box without its list": (torch.tensor([0.0, 0, 2, 2]), "(n, 4)"),
    "fractions": (torch.tensor([[0.1, 0.1, 0.9, 0.9]]), "pixels"),
    "None": (None, "NoneType"),
    "names": (["cat"], "list"),
    "a mask in the list": (torch.ones(30, 40, dtype=torch.bool), "(30, 40)"),
}


@pytest.mark.parametrize("metric", [iscam.energy, iscam.pointing_game])
@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_none_are_refused(kind, metric):
    boxes, word = BOXES[kind]
    with refused("box", word):
        metric(torch.ones(1, 30, 40), [boxes])


BOX_LISTS = {
    "None": (None, "NoneType"),
    "numpy masks": (np.ones((2, 30, 40), bool), "ndarray"),
    "too few": ([torch.tensor([[0, 0, 9, 9]])], "2 maps"),
    "too many": ([torch.tensor([[0, 0, 9, 9]])] * 3, "2 maps"),
    "masks of another size": (torch.ones(2, 40, 30, dtype=torch.bool), "(2, 30, 40)"),
    "one mask for two": (torch.ones(30, 40, dtype=torch.bool), "(2, 30, 40)"),
    "masks of numbers": (torch.ones(2, 30, 40), "masks > 0"),
    "a word": ("object", "str"),
}


@pytest.mark.parametrize("metric", [iscam.energy, iscam.pointing_game])
@pytest.mark.parametrize("kind", BOX_LISTS)
def test_boxes_that_do_not_match_the_maps_are_refused(kind, metric):
    boxes, word = BOX_LISTS[kind]
    with refused(word):
        metric(torch.ones(2, 30, 40), boxes)


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan"), True, "half", None, 50])
def test_share_of_kept_pixels_outside_the_unit_range_is_refused(small, keep):
    with refused("keep must be a number above 0 and at most 1", repr(keep)):
        iscam.confidence(small.net, small.images, torch.ones(3, 20, 16), small.targets, keep=keep)


def test_energy_of_a_single_mask_is_refused():
    with refused("single=True needs boxes, not masks"):
        iscam.energy(torch.ones(1, 30, 40), torch.ones(1, 30, 40, dtype=torch.bool), single=True)


@pytest.mark.parametrize("single", [1, None, "yes"])
def test_energy_with_another_value_of_single_is_refused(single):
    with refused("single must be one of False, True", repr(single)):
        iscam.energy(torch.ones(1, 30, 40), [torch.tensor([[0, 0, 2, 2]])], single=single)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_energy_of_negative_or_infinite_maps_is_refused(value):
    with refused("maps"):
        iscam.energy(torch.full((1, 30, 40), value), [torch.tensor([[0, 0, 2, 2]])])
