"""The adapters for Captum and Quantus, and metrics on maps from other sources, tested with the real libraries."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

import iscam
from helpers.errors import refused
from helpers.networks import Case, pooled_case
from iscam.maps import min_max
from iscam.methods import METHODS
from iscam.record import forward_record


@pytest.fixture
def pooled() -> Case:
    return pooled_case()


@pytest.fixture
def captum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr, metrics = (pytest.importorskip(f"captum.{name}") for name in ("attr", "metrics"))
    return attr, metrics


@pytest.fixture
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus")


# -------------------------------------------------------------------------------------------------------------- captum

TARGETS = {
    "none": (None, None),
    "int": (3, [3, 3, 3]),
    "numpy int": (np.int64(3), [3, 3, 3]),
    "tensor of one": (torch.tensor([3]), [3, 3, 3]),
    "scalar tensor": (torch.tensor(3), [3, 3, 3]),
    "list": ([2, 0, 4], [2, 0, 4]),
    "tensor": (torch.tensor([2, 0, 4]), [2, 0, 4]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_captum_attribution_returns_the_maps_of_explain(pooled, kind):
    target, classes = TARGETS[kind]
    found = iscam.captum_attribution(pooled.net, "score_cam").attribute(pooled.images, target)
    expected = None if classes is None else torch.tensor(classes)
    assert torch.equal(found, iscam.explain(pooled.net, pooled.images, expected, "score_cam")[:, None])


def test_captum_attribution_passes_options(pooled):
    found = iscam.captum_attribution(pooled.net, "is_cam", steps=2).attribute(pooled.images, 1)
    expected = iscam.explain(pooled.net, pooled.images, torch.tensor([1, 1, 1]), "is_cam", steps=2)
    assert torch.equal(found[:, 0], expected)


ADAPTERS = (iscam.captum_attribution, iscam.quantus_explain)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("option", [{"details": True}, {"targets": 2}, {"images": 3}, {"steps": 3}])
def test_adapters_refuse_other_options(pooled, adapter, option):
    with refused("option of grad_cam", *option):
        adapter(pooled.net, "grad_cam", **option)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_refuse_an_unknown_method(pooled, adapter):
    with refused("unknown method 'nope'"):
        adapter(pooled.net, "nope")


def test_adapters_take_a_function_as_method(pooled):
    def strongest(record):
        return record.activations.detach().amax((1, 2))

    expected = iscam.explain(pooled.net, pooled.images, 1, strongest)[:, None]
    assert torch.equal(iscam.captum_attribution(pooled.net, strongest).attribute(pooled.images, 1), expected)
    found = iscam.quantus_explain(pooled.net, strongest)(pooled.net.model, pooled.images.numpy(), 1)
    assert np.array_equal(found, expected.numpy())


def test_adapters_take_a_bare_module(pooled):
    """The automatic layer is the last one with a spatial output."""
    model, targets = pooled.net.model, pooled.targets
    expected = iscam.explain(iscam.Network(model), pooled.images, targets, "grad_cam")[:, None]
    assert torch.equal(iscam.captum_attribution(model, "grad_cam").attribute(pooled.images, targets), expected)
    found = iscam.quantus_explain(model, "grad_cam")(model, pooled.images.numpy(), targets.numpy())
    assert np.array_equal(found, expected.numpy())
    for adapter in (iscam.captum_attribution, iscam.quantus_explain):
        with refused("net must be"):
            adapter("resnet18")


def test_captum_attribution_of_a_tuple_is_a_tuple(pooled):
    attribute = iscam.captum_attribution(pooled.net, "grad_cam").attribute
    (found,) = attribute((pooled.images,), 1)
    assert torch.equal(found, attribute(pooled.images, 1))


def test_captum_attribution_has_the_dtype_of_the_images(pooled):
    attribute = iscam.captum_attribution(pooled.net, "grad_cam").attribute
    assert attribute(pooled.images.double(), 1).dtype == torch.float64


@pytest.mark.parametrize("target", ["cat", [(0, 1)], [1, 2], 1.5, 99, [None]])
def test_captum_attribution_bad_target_is_refused(pooled, target):
    with refused("target"):
        iscam.captum_attribution(pooled.net, "grad_cam").attribute(pooled.images, target)


def test_captum_attribution_other_inputs_are_refused(pooled):
    attribute = iscam.captum_attribution(pooled.net, "grad_cam").attribute
    with refused("one tensor"):
        attribute((pooled.images, pooled.images))
    with refused("one tensor"):
        attribute(torch.tensor(1.0))
    with refused("additional_forward_args"):
        attribute(pooled.images, 1, additional_forward_args=3)


def test_captum_layer_grad_cam_is_our_raw_map(pooled, captum):
    attr, _ = captum
    layer_grad_cam = attr.LayerGradCam(pooled.net.model, pooled.net.model.last)
    found = layer_grad_cam.attribute(pooled.images, pooled.targets)
    upsampled = attr.LayerAttribution.interpolate(found, pooled.images.shape[2:], "bilinear")
    ours = iscam.explain(pooled.net, pooled.images, pooled.targets, "grad_cam", details=True)
    assert torch.allclose(upsampled[:, 0], ours.raw, atol=1e-5)


def test_captum_layer_grad_cam_from_our_weights(pooled, captum):
    attr, _ = captum
    image, target = pooled.images[0], int(pooled.targets[0])
    found = attr.LayerGradCam(pooled.net.model, pooled.net.model.last).attribute(image[None], target)
    record = forward_record(pooled.net, image, target)
    ours = torch.einsum("k,khw->hw", METHODS["grad_cam"](record), record.activations)
    assert torch.allclose(found[0, 0], ours, atol=1e-5)


def test_captum_sensitivity_takes_our_attributions(pooled, captum):
    _, metrics = captum
    attribute = iscam.captum_attribution(pooled.net, "grad_cam").attribute
    still = metrics.sensitivity_max(attribute, pooled.images, perturb_func=lambda x: x, target=1, n_perturb_samples=2)
    assert torch.equal(still, torch.zeros(3))
    torch.manual_seed(0)
    moved = metrics.sensitivity_max(attribute, pooled.images, target=pooled.targets, perturb_radius=0.5)
    assert moved.shape == (3,)
    assert (moved > 0).all()


def test_captum_infidelity_takes_our_attributions(pooled, captum):
    _, metrics = captum
    maps = iscam.captum_attribution(pooled.net, "grad_cam").attribute(pooled.images, pooled.targets)

    def perturb(x):
        noise = 0.1 * torch.randn_like(x)
        return noise, x - noise

    torch.manual_seed(0)
    found = metrics.infidelity(
        pooled.net.model, perturb, pooled.images, maps.expand_as(pooled.images), target=pooled.targets
    )
    assert found.shape == (3,)
    assert (found > 0).all()


def test_metrics_accept_integrated_gradients_of_captum(pooled, captum):
    attr, _ = captum
    signed = attr.IntegratedGradients(pooled.net.model).attribute(pooled.images, target=pooled.targets).sum(1)
    maps = min_max(signed.abs().float())
    inserted = iscam.insertion(pooled.net, pooled.images, maps, pooled.targets, pixels_per_step=40)
    deleted = iscam.deletion(pooled.net, pooled.images, signed.float(), pooled.targets, pixels_per_step=40)
    for curves in (inserted, deleted):
        assert ((curves.auc > 0) & (curves.auc < 1)).all()
    height, width = maps.shape[1:]
    left = [torch.tensor([[0, 0, 10, height]])] * 3
    right = [torch.tensor([[10, 0, width, height]])] * 3
    assert torch.allclose(iscam.energy(maps, left) + iscam.energy(maps, right), torch.ones(3))


# ------------------------------------------------------------------------------------------------------------- quantus


def test_quantus_explain_returns_the_maps_of_explain(pooled):
    explain_func = iscam.quantus_explain(pooled.net, "is_cam", steps=2)
    images, targets = pooled.images.double().numpy(), pooled.targets.numpy()
    found = explain_func(model=pooled.net.model, inputs=images, targets=targets, device="cpu", method="my name")
    expected = iscam.explain(pooled.net, pooled.images, pooled.targets, "is_cam", steps=2)
    assert found.shape == (3, 1, *pooled.images.shape[2:])
    assert np.array_equal(found[:, 0], expected.numpy())


def test_quantus_explain_takes_options_from_quantus(pooled):
    found = iscam.quantus_explain(pooled.net, "is_cam", steps=2)(
        pooled.net.model, pooled.images.numpy(), pooled.targets.numpy(), steps=1
    )
    expected = iscam.explain(pooled.net, pooled.images, pooled.targets, "score_cam")
    assert np.allclose(found[:, 0], expected.numpy(), atol=1e-6)
    with refused("option"):
        iscam.quantus_explain(pooled.net, "is_cam")(pooled.net.model, pooled.images.numpy(), [1, 1, 1], stesp=1)


def test_quantus_explain_explains_the_model_that_it_is_given(pooled):
    other = copy.deepcopy(pooled.net.model)
    torch.nn.init.normal_(other.last.weight)
    found = iscam.quantus_explain(pooled.net, "grad_cam")(other, pooled.images.numpy(), pooled.targets.numpy())
    expected = iscam.explain(iscam.Network(other, pooled.net.layer), pooled.images, pooled.targets, "grad_cam")
    assert np.array_equal(found[:, 0], expected.numpy())
    assert not np.allclose(found[:, 0], iscam.explain(pooled.net, pooled.images, pooled.targets, "grad_cam").numpy())


SAME_IMAGES = {
    "big-endian": lambda x: x.astype(">f4"),
    "negative strides": lambda x: x[:, :, ::-1].copy()[:, :, ::-1],
    "float64": lambda x: x.astype(np.float64),
    "list": lambda x: x.tolist(),
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("kind", SAME_IMAGES)
def test_quantus_explain_takes_images_of_any_kind(pooled, kind):
    explain_func, images = iscam.quantus_explain(pooled.net, "grad_cam"), pooled.images.numpy()
    found = explain_func(pooled.net.model, SAME_IMAGES[kind](images), [1, 1, 1])
    assert np.array_equal(found, explain_func(pooled.net.model, images, [1, 1, 1]))


NO_IMAGES = {
    "text": "x",
    "none": None,
    "scalar": np.float32(3),
    "objects": np.array([None, 1]),
    "ragged": [[1.0], [1.0, 2.0]],
    "integers": np.full((1, 3, 20, 16), 200),
    "integer tensor": torch.full((1, 3, 20, 16), 200),
    "one image": np.zeros((3, 20, 16)),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_quantus_explain_refuses_other_inputs(pooled, kind):
    with refused("inputs must be floating point images"):
        iscam.quantus_explain(pooled.net, "grad_cam")(pooled.net.model, NO_IMAGES[kind], [1])


def test_quantus_explain_refuses_another_method(pooled):
    explain_func = iscam.quantus_explain(pooled.net, "grad_cam")
    with refused("'grad_cam'", "'random'"):
        explain_func(pooled.net.model, pooled.images.numpy(), [1, 1, 1], method="random")
    explain_func(pooled.net.model, pooled.images.numpy(), [1, 1, 1], method="grad_cam")


def score(quantus, case: Case, name: str, method: str = "grad_cam", **options) -> object:
    """A metric of Quantus on our maps."""
    quiet = {"disable_warnings": True, "display_progressbar": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = getattr(quantus, name)(**quiet, **options)
        return metric(
            model=case.net.model,
            x_batch=case.images.numpy(),
            y_batch=case.targets.numpy(),
            explain_func=iscam.quantus_explain(case.net, method),
            device="cpu",
        )


METRICS = {
    "Sparseness": {},
    "PixelFlipping": {"features_in_step": 31},
    "FaithfulnessCorrelation": {"nr_runs": 5, "subset_size": 31, "return_aggregate": False},
    "MaxSensitivity": {"nr_samples": 2},
}


@pytest.mark.parametrize("name", METRICS)
def test_quantus_metric_takes_our_maps(pooled, quantus, name):
    np.random.seed(0)
    found = np.asarray(score(quantus, pooled, name, **METRICS[name]), dtype=float)
    assert len(found) == 3
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_quantus_sparseness_is_the_gini_index_of_our_maps(pooled, quantus):
    maps = iscam.explain(pooled.net, pooled.images, pooled.targets, "grad_cam")
    found = score(quantus, pooled, "Sparseness", normalise=False)
    for value, saliency_map in zip(found, maps, strict=True):
        ordered = np.sort(saliency_map.double().numpy().ravel()) + 1e-7
        ranks, n = np.arange(1, ordered.size + 1), ordered.size
        assert np.isclose(value, ((2 * ranks - n - 1) * ordered).sum() / (n * ordered.sum()), atol=1e-4)


def test_quantus_evaluate_takes_our_function(pooled, quantus):
    """`evaluate` passes the name of the method, which is not an option of this package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quantus.evaluate(
            metrics={"Sparseness": quantus.Sparseness(disable_warnings=True, display_progressbar=False)},
            xai_methods={"My Grad-CAM": iscam.quantus_explain(pooled.net, "grad_cam")},
            model=pooled.net.model,
            x_batch=pooled.images.numpy(),
            y_batch=pooled.targets.numpy(),
            agg_func=np.mean,
            explain_func_kwargs={},
            call_kwargs={"first": {}},
        )
    assert 0 < found["My Grad-CAM"]["Sparseness"] < 1


def test_quantus_mprt_explains_the_randomised_models(pooled, quantus):
    found = score(quantus, pooled, "MPRT", return_average_correlation=False)
    original, *randomised = (np.asarray(values, dtype=float) for values in found.values())
    assert np.allclose(original, 1)
    assert any((np.nan_to_num(values) < 0.9).any() for values in randomised)
